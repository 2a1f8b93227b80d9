"""The vault's routes (CONTRACT "Vault surface")."""

from chalicelib.errors import ProbeFailed, StorageExists, StorageInUse, StorageNotFound, Throttled
from chalicelib.surfaces.routes import Parameter, Route, Surface
from chalicelib.surfaces.storage.routes import render

_STORAGES = "chalicelib.surfaces.vault.storages:"
_MODELS = "chalicelib.surfaces.vault.models:"
_STORAGE = Parameter("storage_uuid", "query", "The storage.", {"type": "string", "format": "uuid"})
_PROBED = (StorageExists, ProbeFailed, Throttled)

ROUTES = (
    Route(
        "POST",
        "/storages/create",
        _STORAGES + "create",
        "Add a storage, once it has passed the connectivity test",
        {201: _MODELS + "VaultStorage"},
        body=_MODELS + "CreateVaultStorage",
        errors=_PROBED,
    ),
    Route("GET", "/storages/list", _STORAGES + "list_all", "List the storages, oldest first", {200: _MODELS + "VaultStorages"}),
    Route(
        "PATCH",
        "/storages/edit",
        _STORAGES + "edit",
        "Change a storage; changed connection details are tested first",
        {200: _MODELS + "VaultStorage"},
        body=_MODELS + "EditVaultStorage",
        errors=(*_PROBED, StorageNotFound, StorageInUse),
    ),
    Route(
        "DELETE",
        "/storages/delete",
        _STORAGES + "delete",
        "Remove a storage's record, and nothing of what lies in it",
        {200: _MODELS + "VaultStorageDeleted"},
        body=_MODELS + "DeleteVaultStorage",
        optional_body=True,
        parameters=(_STORAGE,),
        errors=(StorageNotFound, StorageInUse),
    ),
    Route(
        "GET",
        "/storages/policy",
        _STORAGES + "policy",
        "The permissions that a storage's credentials need",
        {200: _MODELS + "StoragePolicy"},
        parameters=(_STORAGE,),
        errors=(StorageNotFound,),
    ),
    Route(
        "GET",
        "/storages/cors",
        _STORAGES + "cors",
        "The CORS rules that browsers need on a storage's bucket",
        {200: _MODELS + "StorageCors"},
        parameters=(_STORAGE,),
        errors=(StorageNotFound,),
    ),
)

SURFACE = Surface("vault", ROUTES, render)
