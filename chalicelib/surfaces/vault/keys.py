"""Keys over HTTP."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from chalicelib.core import attempts, key_ends, keys, migrating, quotas
from chalicelib.surfaces.http import Request, json_answer, whole_number
from chalicelib.surfaces.vault.ids import named, uuid_of
from chalicelib.tables.keys import VaultKey
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.vault import models


def create(request: Request, body: "models.CreateVaultKey") -> Answer:
    storage_id = None if body.storage_uuid is None else uuid_of("storage_uuid", body.storage_uuid)
    return json_answer(201, _shown(keys.create(request.principal, body.name, storage_id)))


def list_all(request: Request) -> Answer:
    limit = whole_number(request.query.get("limit"), "limit", keys.MAX_PAGE)
    found, after = keys.page(request.principal, limit, request.query.get("cursor"))
    return json_answer(200, [_shown(key) for key in found], {"x-next-cursor": after} if after else None)


def edit(request: Request, body: "models.EditVaultKey") -> Answer:
    changes: dict[str, str | None] = {"name": body.name}
    if "storage_uuid" in body.model_fields_set:
        changes["storage_id"] = None if body.storage_uuid is None else uuid_of("storage_uuid", body.storage_uuid)
    return json_answer(200, _shown(*keys.edit(request.principal, uuid_of("key_uuid", body.key_uuid), changes)))


def delete(request: Request, body: "models.DeleteVaultKey") -> Answer:
    key_uuid = named(request, "key_uuid", body.key_uuid)
    ended = key_ends.delete(request.principal, key_uuid)
    shown: models.KeyDeleted = {
        "key_uuid": key_uuid,
        "deleted_count": ended.deleted,
        "warning": ended.left.warning,
        "left": ended.left.keys,
        "job_id": ended.job_id,
    }
    return json_answer(202 if ended.job_id else 200, shown)


def storage_limits(request: Request) -> Answer:
    keys.require_entry(request.principal)
    key = keys.get(request.principal, named(request, "key_uuid")) if "key_uuid" in request.query else None
    applies = key is None or key.storage_id is None
    shown: models.StorageLimits = {
        "key_uuid": key.key_uuid if key else None,
        "max_delta_bytes": attempts.MAX_BYTES,
        "limits": quotas.told(key) if applies else None,  # type: ignore[typeddict-item]  # built by its windows
    }
    return json_answer(200, shown)


def check_layout(request: Request) -> Answer:
    key = keys.get(request.principal, named(request, "key_uuid"))
    limit = whole_number(request.query.get("limit"), "limit", keys.MAX_PAGE)
    found = keys.check_layout(key, limit, request.query.get("cursor"))
    shown: models.Layout = {
        "key_uuid": key.key_uuid,
        "storage_uuid": key.storage_id,
        "checked_count": found.checked,
        "missing": _located(found.missing),
        "differing": _located(found.differing),
    }
    return json_answer(200, shown, {"x-next-cursor": found.after} if found.after else None)


def _located(whole_keys: Mapping[str, str]) -> "list[models.Located]":
    return [{"delta_uuid": delta_uuid, "object_key": whole} for delta_uuid, whole in whole_keys.items()]


def migrate(request: Request, body: "models.MigrateVaultKey") -> Answer:
    key_uuid, storage_id = uuid_of("key_uuid", body.key_uuid), uuid_of("storage_uuid", body.storage_uuid)
    job = migrating.begin(request.principal, key_uuid, storage_id)
    shown: models.KeyMigration = {"key_uuid": key_uuid, "storage_uuid": storage_id, "job_id": job.job_id}
    return json_answer(202, shown)


def _shown(key: VaultKey, warning: str | None = None) -> "models.VaultKey":
    return {
        "key_uuid": key.key_uuid,
        "name": key.name,
        "storage_uuid": key.storage_id,
        "user_uuid": key.owner_id,
        "delta_count": int(key.deltas),
        "size_bytes": int(key.size_bytes),
        "job_id": key.job_id,
        "warning": warning,
        "created_at": key.created_at,
        "updated_at": key.updated_at,
    }
