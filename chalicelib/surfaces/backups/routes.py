"""The backups surface's routes, as far as storages go (CONTRACT "Backups surface")."""

from chalicelib.errors import InvalidName, InvalidRequest, ProbeFailed, StorageInUse, StorageNotFound, StowageError, Throttled
from chalicelib.surfaces.http import json_answer
from chalicelib.surfaces.routes import Parameter, Route, Surface
from chalicelib.webapp import Answer

_BASE = "/api/v1/backups"
_CONFIGS = "chalicelib.surfaces.backups.storages:"
_MODELS = "chalicelib.surfaces.backups.models:"
_ORGANIZATION = Parameter("organization_id", "query", "The caller's tenant; it may be left out.", {"type": "string", "format": "uuid"})
# Where this surface has another status for an error than the others.
STATUSES: dict[type[StowageError], int] = {InvalidRequest: 422, InvalidName: 422, StorageInUse: 400}


def render(error: StowageError, request_id: str) -> Answer:
    """An error as this surface has it: one text; what was wrong with the request is 422."""
    detail = error.message
    if isinstance(error, ProbeFailed):
        detail = f"{detail} {error.details['hint']}"
    return json_answer(STATUSES.get(type(error), error.status), {"detail": detail}, error.headers)


ROUTES = (
    Route(
        "POST",
        f"{_BASE}/storage-configs",
        _CONFIGS + "create",
        "Add a storage",
        {201: _MODELS + "StorageConfig"},
        body=_MODELS + "CreateStorageConfig",
        parameters=(_ORGANIZATION,),
        errors=(StorageNotFound,),
    ),
    Route(
        "GET",
        f"{_BASE}/storage-configs",
        _CONFIGS + "list_all",
        "List the storages, oldest first",
        {200: _MODELS + "StorageConfigs"},
        parameters=(_ORGANIZATION,),
        errors=(StorageNotFound,),
    ),
    Route(
        "POST",
        f"{_BASE}/storage-configs/test-connection",
        _CONFIGS + "try_out",
        "Test a storage before it is saved",
        {200: _MODELS + "ConnectionTest"},
        body=_MODELS + "CreateStorageConfig",
        parameters=(_ORGANIZATION,),
        errors=(StorageNotFound, Throttled),
    ),
    Route(
        "GET",
        f"{_BASE}/storage-configs/{{config_id}}",
        _CONFIGS + "show",
        "Show a storage",
        {200: _MODELS + "StorageConfig"},
        errors=(StorageNotFound, InvalidName),
    ),
    Route(
        "PATCH",
        f"{_BASE}/storage-configs/{{config_id}}",
        _CONFIGS + "change",
        "Change a storage",
        {200: _MODELS + "StorageConfig"},
        body=_MODELS + "ChangeStorageConfig",
        errors=(StorageNotFound, StorageInUse, ProbeFailed, InvalidName, Throttled),
    ),
    Route(
        "DELETE",
        f"{_BASE}/storage-configs/{{config_id}}",
        _CONFIGS + "delete",
        "Remove a storage's record, and nothing of what lies in it",
        {200: _MODELS + "StorageConfigDeleted"},
        errors=(StorageNotFound, StorageInUse, InvalidName),
    ),
    Route(
        "POST",
        f"{_BASE}/storage-configs/{{config_id}}/test",
        _CONFIGS + "try_saved",
        "Test a storage as it stands",
        {200: _MODELS + "ConnectionTest"},
        errors=(StorageNotFound, InvalidName, Throttled),
    ),
    Route("GET", f"{_BASE}/storage-settings", _CONFIGS + "settings_", "What may be configured here", {200: _MODELS + "StorageSettings"}),
    Route("GET", f"{_BASE}/storage-providers", _CONFIGS + "providers_", "Compare the providers", {200: _MODELS + "StorageProviders"}),
)

SURFACE = Surface("backups", ROUTES, render, statuses=STATUSES, error_schema="Detail")
