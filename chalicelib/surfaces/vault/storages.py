"""Storages over HTTP, as the vault has them."""

from typing import TYPE_CHECKING, Any, cast

from chalicelib.core import storage_papers, storages
from chalicelib.core.keeping import connection_of, unkept
from chalicelib.core.storage_rules import VAULT, VAULT_KINDS, VAULT_NAMES
from chalicelib.providers import Promise
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.surfaces.vault.ids import named, uuid_of
from chalicelib.tables.storages import Storage
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.vault import models

_SEED_KINDS = {kind: name for name, kind in VAULT_KINDS.items()}
_FIELDS = {seed: field for field, seed in VAULT_NAMES.names.items()}


def create(request: Request, body: "models.CreateVaultStorage") -> Answer:
    told = body.model_dump(exclude={"name"})
    row, warning = storages.create(request.principal, VAULT, body.name, _in_model({name: value or "" for name, value in told.items()}))
    return json_answer(201, _shown(row, warning))


def list_all(request: Request) -> Answer:
    return json_answer(200, [_shown(row) for row in storages.all_of(request.principal, VAULT)])


def edit(request: Request, body: "models.EditVaultStorage") -> Answer:
    row, warning = storages.change(request.principal, VAULT, uuid_of("storage_uuid", body.storage_uuid), _in_model(body.given()))
    return json_answer(200, _shown(row, warning))


def delete(request: Request, body: "models.DeleteVaultStorage") -> Answer:
    storages.delete(request.principal, VAULT, named(request, "storage_uuid", body.storage_uuid))
    return json_answer(200, {})


def policy(request: Request) -> Answer:
    row = storages.get(request.principal, VAULT, named(request, "storage_uuid"))
    connection = connection_of(row)
    shown: models.StoragePolicy = {
        "storage_uuid": row.storage_id,
        "permissions": storage_papers.permissions(connection),
        "optional": storage_papers.optional_permissions(connection),
        "policy": storage_papers.policy(connection, optional=False),
        "policy_with_optional": storage_papers.policy(connection, optional=True),
    }
    return json_answer(200, shown)


def cors(request: Request) -> Answer:
    row = storages.get(request.principal, VAULT, named(request, "storage_uuid"))
    rules = cast("list[models.CorsRule]", storage_papers.cors(connection_of(row)))
    shown: models.StorageCors = {"storage_uuid": row.storage_id, "cors": rules}
    return json_answer(200, shown)


def _in_model(given: dict[str, Any]) -> dict[str, Any]:
    """The seed's fields by the model's names."""
    told = {_FIELDS.get(name, name): value for name, value in given.items()}
    return told | ({"kind": VAULT_KINDS[told["kind"]]} if "kind" in told else {})


def state(row: Storage) -> "models.StorageState":
    """What both surfaces show of a storage."""
    missing = unkept(row.probe or {})
    return {
        "status": row.status,  # type: ignore[typeddict-item]  # written by core/storages.py alone
        "status_reason": row.reason,
        "capabilities": row.probe,
        "safeguards": {
            "overwrite": "checked" if Promise.NEW in missing else "enforced",
            "content_md5": "checked" if Promise.MD5 in missing else "enforced",
            "checksum_sha256": "checked" if Promise.SHA256 in missing else "enforced",
        },
        "probed_at": row.probed_at,
        "bucket_count": int(row.buckets),
        "bucket_object_count": int(row.object_count),
        "bucket_size_bytes": int(row.total_size_bytes),
        "last_used_at": row.last_used_at,
        "credentials_changed_at": row.credentials_changed_at,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _shown(row: Storage, warning: str | None = None) -> "models.VaultStorage":
    return {
        "storage_uuid": row.storage_id,
        "name": row.name,
        "provider": _SEED_KINDS[row.kind],  # type: ignore[typeddict-item]  # core/storage_rules.py lets no other in
        "bucket_name": row.bucket,
        "region": row.region,
        "endpoint_url": row.endpoint or None,
        "remote_path": row.prefix or None,
        "key_count": int(row.keys),
        "warning": warning,
        **state(row),
    }
