"""Storages over HTTP, as backups have them."""

from typing import TYPE_CHECKING, Any

from chalicelib.access.permissions import require_credential
from chalicelib.core import storages
from chalicelib.core.probing import Result
from chalicelib.core.storage_rules import BACKUPS, BACKUPS_NAMES
from chalicelib.errors import StorageNotFound
from chalicelib.providers.catalogue import KINDS, SPEAKS_S3
from chalicelib.settings import settings
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.surfaces.vault.storages import state
from chalicelib.tables.storages import Storage
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.backups import models

_FIELDS = {seed: field for field, seed in BACKUPS_NAMES.names.items()}


def create(request: Request, body: "models.CreateStorageConfig") -> Answer:
    _require_own_organization(request)
    row, _ = storages.create(request.principal, BACKUPS, body.name, _in_model(body.described()), body.is_default)
    return json_answer(201, _shown(row, body.is_default))


def list_all(request: Request) -> Answer:
    _require_own_organization(request)
    rows, default = storages.all_of(request.principal, BACKUPS), storages.default_of(request.principal.tenant_id)
    return json_answer(200, [_shown(row, row.storage_id == default) for row in rows])


def show(request: Request) -> Answer:
    return _answer(request, storages.get(request.principal, BACKUPS, _config_id(request)))


def change(request: Request, body: "models.ChangeStorageConfig") -> Answer:
    row, _ = storages.change(request.principal, BACKUPS, _config_id(request), _in_model(body.given()))
    return _answer(request, row)


def delete(request: Request) -> Answer:
    storages.delete(request.principal, BACKUPS, _config_id(request))
    return json_answer(200, {})


def try_out(request: Request, body: "models.CreateStorageConfig") -> Answer:
    _require_own_organization(request)
    return json_answer(200, _tested(storages.try_out(request.principal, BACKUPS, _in_model(body.described()))))


def try_saved(request: Request) -> Answer:
    return json_answer(200, _tested(storages.try_saved(request.principal, BACKUPS, _config_id(request))))


def settings_(request: Request) -> Answer:
    require_credential(request.principal, False)
    shown: models.StorageSettings = {
        "enabled_providers": list(settings().enabled_kinds),
        "allow_org_byos": settings().allow_org_byos,
        "has_default_storage": settings().platform_storage,
    }
    return json_answer(200, shown)


def providers_(request: Request) -> Answer:
    require_credential(request.principal, False)
    shown: models.StorageProviders = [
        {
            "provider": kind.name,
            "name": kind.title,
            "enabled": kind.name in settings().enabled_kinds,
            "required_fields": [BACKUPS_NAMES.of(field) for field in kind.required],
            "best_for": kind.traits.best_for,
            "cost": kind.traits.cost,
            "egress_fees": kind.traits.egress,
            "setup_complexity": kind.traits.setup,
            "notes": kind.traits.notes,
            "s3_compatible": kind.protocol == SPEAKS_S3,
            "encryption_at_rest": kind.traits.encryption_at_rest,
            "versioning": kind.traits.versioning,
            "lifecycle_policies": kind.traits.lifecycle,
            "multi_region": kind.traits.multi_region,
            "zero_egress": kind.traits.zero_egress,
            "gdpr": kind.traits.gdpr,
        }
        for kind in KINDS.values()
    ]
    return json_answer(200, shown)


def _require_own_organization(request: Request) -> None:
    require_credential(request.principal, False)
    named = request.query.get("organization_id")
    if named is not None and named.lower() != request.principal.tenant_id:
        raise StorageNotFound("there is no such organization")


def _config_id(request: Request) -> str:
    return request.path("config_id").lower()


def _in_model(given: dict[str, Any]) -> dict[str, Any]:
    """The seed's fields by the model's names."""
    return {_FIELDS.get(name, name): value for name, value in given.items()}


def _answer(request: Request, row: Storage) -> Answer:
    return json_answer(200, _shown(row, storages.default_of(request.principal.tenant_id) == row.storage_id))


def _shown(row: Storage, is_default: bool) -> "models.StorageConfig":
    return {
        "id": row.storage_id,
        "organization_id": row.tenant_id,
        "name": row.name,
        "provider": row.kind,
        "bucket": row.bucket,
        "region": row.region or None,
        "endpoint_url": row.endpoint or None,
        "host": row.host or None,
        "port": int(row.port) or None,
        "tls": row.tls or None,
        "host_key": row.host_key or None,
        "path_prefix": row.prefix or None,
        "storage_class": row.storage_class or None,
        "is_default": is_default,
        "is_active": row.is_active,
        **state(row),
        "total_size_bytes": int(row.backup_bytes),
        "object_count": int(row.backups),
    }


def _tested(result: Result) -> "models.ConnectionTest":
    problem = result.problem
    return {
        "success": result.succeeded,
        "message": f"Connection failed: {problem.message}" if problem else "Connection successful",
        "bucket_exists": result.bucket_exists,
        "can_write": result.can_write,
        "can_read": result.can_read,
        "latency_ms": result.latency_ms,
        "code": problem.code if problem else None,
        "step": problem.step if problem else None,  # type: ignore[typeddict-item]  # core/probing.py's own
        "hint": problem.hint if problem else None,
        "warning": result.warning,
    }
