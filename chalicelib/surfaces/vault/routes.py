"""The vault's routes (CONTRACT "Vault surface")."""

from chalicelib.errors import (
    AttemptMismatch,
    CannotPresign,
    ClaimNotFound,
    DeltaMissing,
    DeltaNotFound,
    IntegrityFailed,
    InvalidCursor,
    KeyBusy,
    KeyNotFound,
    KeyTooLong,
    LimitReached,
    NotUploaded,
    ProbeFailed,
    SectionClaimed,
    StorageExists,
    StorageInUse,
    StorageNotFound,
    StorageRemoved,
    StorageUnavailable,
    StowageError,
    Throttled,
    UploadSettled,
)
from chalicelib.surfaces.routes import Parameter, Route, Surface
from chalicelib.surfaces.storage.routes import render

_KEYS = "chalicelib.surfaces.vault.keys:"
_DELTAS = "chalicelib.surfaces.vault.deltas:"
_STORAGES = "chalicelib.surfaces.vault.storages:"
_MODELS = "chalicelib.surfaces.vault.models:"
_STORAGE = Parameter("storage_uuid", "query", "The storage.", {"type": "string", "format": "uuid"})
_KEY = Parameter("key_uuid", "query", "The key.", {"type": "string", "format": "uuid"})
_DELTA = Parameter("delta_uuid", "query", "The delta.", {"type": "string", "format": "uuid"})
_PAGING = (
    Parameter("limit", "query", "How many.", {"type": "integer", "minimum": 1, "maximum": 1000}),
    Parameter("cursor", "query", "`x-next-cursor` of the page before.", {"type": "string", "format": "uuid"}),
)
_PAGED = (InvalidCursor,)
_PROBED = (StorageExists, ProbeFailed, Throttled)
_ASKED: tuple[type[StowageError], ...] = (StorageUnavailable, StorageRemoved)
_POINTED: tuple[type[StowageError], ...] = (StorageNotFound, ProbeFailed, Throttled, CannotPresign, KeyTooLong, *_ASKED)

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
    # ---- keys ------------------------------------------------------------------------------------------------
    Route(
        "POST",
        "/keys/create",
        _KEYS + "create",
        "Add a key, on internal storage or on a storage of one's own",
        {201: _MODELS + "VaultKey"},
        body=_MODELS + "CreateVaultKey",
        errors=_POINTED,
    ),
    Route(
        "GET",
        "/keys/list",
        _KEYS + "list_all",
        "List the keys, oldest first",
        {200: _MODELS + "VaultKeys"},
        parameters=_PAGING,
        errors=_PAGED,
    ),
    Route(
        "PATCH",
        "/keys/edit",
        _KEYS + "edit",
        "Rename a key, or have it point to another storage, where its deltas have been copied to",
        {200: _MODELS + "VaultKey"},
        body=_MODELS + "EditVaultKey",
        errors=(*_POINTED, KeyNotFound, KeyBusy),
    ),
    *(
        Route(
            method,
            "/keys/delete",
            _KEYS + "delete",
            "Delete a key with its deltas, and their objects if the storage lets it",
            {200: _MODELS + "KeyDeleted", 202: _MODELS + "KeyDeleted"},
            body=_MODELS + "DeleteVaultKey",
            optional_body=True,
            parameters=(_KEY,),
            errors=(KeyNotFound,),
        )
        for method in ("POST", "DELETE")
    ),
    Route(
        "GET",
        "/keys/storage-limits",
        _KEYS + "storage_limits",
        "The limits of internal storage, and what a key has used of them",
        {200: _MODELS + "StorageLimits"},
        parameters=(_KEY,),
        errors=(KeyNotFound,),
    ),
    Route(
        "GET",
        "/keys/check-layout",
        _KEYS + "check_layout",
        "Which deltas do not lie where their key points",
        {200: _MODELS + "Layout"},
        parameters=(_KEY, *_PAGING),
        errors=(KeyNotFound, *_PAGED, *_ASKED),
    ),
    Route(
        "POST",
        "/keys/migrate",
        _KEYS + "migrate",
        "Copy a key's deltas to another storage, prove each, then have the key point there",
        {202: _MODELS + "KeyMigration"},
        body=_MODELS + "MigrateVaultKey",
        errors=(*_POINTED, KeyNotFound, KeyBusy, UploadSettled),
    ),
    # ---- deltas ----------------------------------------------------------------------------------------------
    Route(
        "POST",
        "/deltas/upload",
        _DELTAS + "upload",
        "Get a URL that takes a delta's bytes, once",
        {201: _MODELS + "DeltaUpload"},
        body=_MODELS + "UploadDelta",
        errors=(KeyNotFound, DeltaNotFound, UploadSettled, LimitReached, Throttled, CannotPresign, KeyTooLong, *_ASKED),
    ),
    Route(
        "POST",
        "/deltas/confirm",
        _DELTAS + "confirm",
        "Have a delta be stored that was uploaded",
        {200: _MODELS + "Delta"},
        body=_MODELS + "ConfirmDelta",
        errors=(DeltaNotFound, NotUploaded, AttemptMismatch, IntegrityFailed, LimitReached, CannotPresign, *_ASKED),
    ),
    Route(
        "GET",
        "/deltas/download",
        _DELTAS + "download",
        "Get a URL that gives a delta's bytes",
        {200: _MODELS + "DeltaDownload"},
        parameters=(_DELTA,),
        errors=(DeltaNotFound, NotUploaded, DeltaMissing, IntegrityFailed, LimitReached, CannotPresign, KeyTooLong, *_ASKED),
    ),
    Route(
        "GET",
        "/deltas/list",
        _DELTAS + "list_all",
        "List a key's deltas, oldest first",
        {200: _MODELS + "Deltas"},
        parameters=(_KEY, *_PAGING),
        errors=(KeyNotFound, *_PAGED, *_ASKED),
    ),
    Route(
        "DELETE",
        "/deltas/delete",
        _DELTAS + "delete",
        "Delete a delta, and its object if the storage lets it",
        {200: _MODELS + "DeltaDeleted"},
        body=_MODELS + "DeleteDelta",
        optional_body=True,
        parameters=(_DELTA,),
        errors=(DeltaNotFound, *_ASKED),
    ),
    Route(
        "POST",
        "/deltas/claim",
        _DELTAS + "claim",
        "Take a section of a delta, which nobody else then can",
        {201: _MODELS + "SectionClaim"},
        body=_MODELS + "ClaimSection",
        errors=(DeltaNotFound, NotUploaded, SectionClaimed),
    ),
    Route(
        "GET",
        "/deltas/claims",
        _DELTAS + "list_claims",
        "List the sections of a delta that are taken",
        {200: _MODELS + "SectionClaims"},
        parameters=(_DELTA,),
        errors=(DeltaNotFound, NotUploaded),
    ),
    Route(
        "DELETE",
        "/deltas/claim",
        _DELTAS + "release",
        "Give a section back",
        {200: _MODELS + "ClaimReleased"},
        body=_MODELS + "ReleaseSection",
        optional_body=True,
        parameters=(_DELTA, Parameter("claim_id", "query", "The claim.", {"type": "string", "format": "uuid"})),
        errors=(DeltaNotFound, NotUploaded, ClaimNotFound),
    ),
)

SURFACE = Surface("vault", ROUTES, render)
