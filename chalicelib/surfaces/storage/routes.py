"""The storage surface's routes, with all that dispatch and OpenAPI need to know of them (CONTRACT "Storage surface")."""

from typing import Any

from chalicelib.errors import (
    BucketExists,
    BucketFixed,
    BucketNotEmpty,
    BucketNotFound,
    BucketReserved,
    BytesMissing,
    ExpiredToken,
    Forbidden,
    InvalidCursor,
    InvalidName,
    InvalidPolicy,
    InvalidSignature,
    KeyTooLong,
    ObjectExists,
    ObjectNotFound,
    PolicyNotFound,
    PreconditionFailed,
    ProbeFailed,
    RangeNotSatisfiable,
    Staging,
    StorageNotFound,
    StorageRemoved,
    StorageUnavailable,
    StowageError,
    Throttled,
    TokenUsed,
    UnprocessableImage,
    UnsupportedType,
)
from chalicelib.surfaces.http import json_answer
from chalicelib.surfaces.parameters import FLAG, NUMBER, READING, transforming
from chalicelib.surfaces.routes import Parameter, Route, Surface
from chalicelib.surfaces.storage.upload_routes import UPLOAD_ERRORS, UPLOAD_ROUTES
from chalicelib.webapp import Answer

_BUCKETS = "chalicelib.surfaces.storage.buckets:"
_OBJECTS = "chalicelib.surfaces.storage.objects:"
_POLICIES = "chalicelib.surfaces.storage.policies:"
_SIGNING = "chalicelib.surfaces.storage.signing:"
_MODELS = "chalicelib.surfaces.storage.models:"

_UPSERT = Parameter("x-upsert", "header", "Whether an existing object may be replaced.", FLAG)
_NOT_THERE = Parameter("If-None-Match", "header", "`*`: the object must not exist.", {"type": "string", "const": "*"})
_METADATA = Parameter("x-metadata", "header", "The base64 of a JSON object, at most 4 KB of it: `user_metadata`.")
_WRITING = (
    Parameter("x-upsert", "header", "`false`: an existing object is kept, and the answer is 409. Default `true`.", FLAG),
    _NOT_THERE,
    _METADATA,
)
_READING = (
    Parameter("version", "query", "The version meant: 404 if it is another by now, and the answer may be kept for good."),
    *READING,
    *transforming(takes_auto=True),
)
_LISTING = (
    Parameter("prefix", "query", "Only names that start with it."),
    Parameter("delimiter", "query", "`/`: fold what lies below folders.", {"type": "string", "enum": ["", "/"]}),
    Parameter("limit", "query", "Rows a page.", NUMBER | {"minimum": 1, "maximum": 1000, "default": 100}),
    Parameter("offset", "query", "Rows to pass over.", NUMBER | {"minimum": 0, "maximum": 10_000, "default": 0}),
    Parameter("cursor", "query", "`x-next-cursor` of the page before."),
)
_DOWNLOADED: dict[int, str | None] = {200: None, 206: None, 302: None, 304: None}
_DOWNLOAD_ERRORS: tuple[type[StowageError], ...] = (
    InvalidName,
    BucketNotFound,
    ObjectNotFound,
    PreconditionFailed,
    ProbeFailed,
    RangeNotSatisfiable,
    BytesMissing,
    StorageUnavailable,
    StorageRemoved,
    Staging,
    Forbidden,
    Throttled,
    UnprocessableImage,
)
_SIGNED_ERRORS: tuple[type[StowageError], ...] = (InvalidSignature, ExpiredToken)


def render(error: StowageError, request_id: str) -> Answer:
    """An error as this surface has it."""
    shown: dict[str, Any] = {"code": error.code, "message": error.message, "request_id": request_id}
    return json_answer(error.status, shown | {"details": error.details} if error.details else shown, error.headers)


def _downloads(path: str, view: str, needs_credential: bool, errors: tuple[type[StowageError], ...] = ()) -> tuple[Route, Route]:
    get, head = (
        Route(
            method,
            path,
            view,
            summary,
            answers,
            parameters=_READING,
            errors=(*_DOWNLOAD_ERRORS, *errors),
            needs_credential=needs_credential,
        )
        for method, summary, answers in (
            ("GET", "Download an object", _DOWNLOADED),
            ("HEAD", "What a download would say, without its bytes", {200: None, 304: None}),
        )
    )
    return get, head


ROUTES = (
    Route(
        "POST",
        "/storage/buckets",
        _BUCKETS + "create",
        "Create a bucket",
        {201: _MODELS + "Bucket"},
        body=_MODELS + "CreateBucket",
        errors=(BucketExists, InvalidName, StorageNotFound, ProbeFailed, Throttled),
    ),
    Route("GET", "/storage/buckets", _BUCKETS + "list_all", "List the buckets", {200: _MODELS + "Buckets"}),
    Route(
        "GET",
        "/storage/buckets/{bucket}",
        _BUCKETS + "get",
        "Show a bucket",
        {200: _MODELS + "Bucket"},
        errors=(BucketNotFound, InvalidName),
    ),
    Route(
        "PUT",
        "/storage/buckets/{bucket}",
        _BUCKETS + "change",
        "Change a bucket's settings",
        {200: _MODELS + "Bucket"},
        body=_MODELS + "ChangeBucket",
        errors=(BucketNotFound, BucketFixed, BucketReserved, InvalidName),
    ),
    Route(
        "DELETE",
        "/storage/buckets/{bucket}",
        _BUCKETS + "delete",
        "Delete a bucket and all objects in it",
        {200: _MODELS + "JobStarted"},
        parameters=(
            Parameter(
                "if_empty", "query", "`true`: only if it holds no object. A look beforehand: an upload under way can slip through.", FLAG
            ),
        ),
        errors=(BucketNotFound, BucketNotEmpty, BucketReserved, InvalidName),
    ),
    Route(
        "POST",
        "/storage/object/{bucket}/{path+}",
        _OBJECTS + "upload",
        "Upload an object, as the body or as the one file of a form",
        {200: _MODELS + "Stored", 201: _MODELS + "Stored"},
        raw_body="*/*",
        parameters=_WRITING,
        errors=UPLOAD_ERRORS,
    ),
    *_downloads("/storage/object/{bucket}/{path+}", _OBJECTS + "download", needs_credential=True),
    Route(
        "DELETE",
        "/storage/object/{bucket}/{path+}",
        _OBJECTS + "delete",
        "Delete an object",
        {200: _MODELS + "Nothing"},
        errors=(InvalidName, BucketNotFound, ObjectNotFound),
    ),
    *_downloads("/storage/public/{tenant_id}/{bucket}/{path+}", _OBJECTS + "download_public", needs_credential=False),
    Route(
        "GET",
        "/storage/object-info/{bucket}/{path+}",
        _OBJECTS + "show",
        "Show what is known of an object",
        {200: _MODELS + "Object"},
        errors=(InvalidName, BucketNotFound, ObjectNotFound),
    ),
    Route(
        "PATCH",
        "/storage/object-info/{bucket}/{path+}",
        _OBJECTS + "change",
        "Change an object's type or metadata",
        {200: _MODELS + "Object"},
        body=_MODELS + "ChangeObject",
        errors=(InvalidName, BucketNotFound, ObjectNotFound, UnsupportedType),
    ),
    Route(
        "GET",
        "/storage/objects/{bucket}",
        _OBJECTS + "list_page",
        "List objects by name",
        {200: _MODELS + "Rows"},
        parameters=_LISTING,
        errors=(InvalidName, InvalidCursor, BucketNotFound),
    ),
    Route(
        "DELETE",
        "/storage/objects/{bucket}",
        _OBJECTS + "delete_many",
        "Delete up to 1,000 objects",
        {200: _MODELS + "Outcomes"},
        body=_MODELS + "DeleteMany",
        errors=(BucketNotFound, InvalidName),
    ),
    Route(
        "POST",
        "/storage/object/move",
        _OBJECTS + "move",
        "Give an object another name or bucket",
        {200: _MODELS + "Object", 202: _MODELS + "JobStarted"},
        body=_MODELS + "Relocate",
        parameters=(_UPSERT, _NOT_THERE),
        errors=(*UPLOAD_ERRORS, ObjectNotFound, BytesMissing),
    ),
    Route(
        "POST",
        "/storage/object/copy",
        _OBJECTS + "copy",
        "Store an object a second time",
        {200: _MODELS + "Object", 202: _MODELS + "JobStarted"},
        body=_MODELS + "Relocate",
        parameters=(_UPSERT, _NOT_THERE),
        errors=(*UPLOAD_ERRORS, ObjectNotFound, BytesMissing),
    ),
    Route(
        "POST",
        "/storage/policies",
        _POLICIES + "create",
        "Add a policy to a bucket",
        {201: _MODELS + "Policy"},
        body=_MODELS + "CreatePolicy",
        errors=(InvalidPolicy, BucketNotFound),
    ),
    Route(
        "GET",
        "/storage/policies/bucket/{bucket}",
        _POLICIES + "of_bucket",
        "List a bucket's policies",
        {200: _MODELS + "Policies"},
        errors=(BucketNotFound, InvalidName),
    ),
    Route(
        "DELETE",
        "/storage/policies/{policy_id}",
        _POLICIES + "delete",
        "Delete a policy",
        {200: _MODELS + "Nothing"},
        errors=(PolicyNotFound, InvalidName),
    ),
    Route(
        "POST",
        "/storage/policies/explain",
        _POLICIES + "explain",
        "Say why a request would be allowed or not",
        {200: _MODELS + "Explanation"},
        body=_MODELS + "ExplainPolicy",
        errors=(BucketNotFound, ObjectNotFound, KeyTooLong),
    ),
    Route(
        "POST",
        "/storage/signed-url",
        _SIGNING + "sign",
        "Sign a download URL",
        {200: _MODELS + "Signed"},
        body=_MODELS + "Sign",
        errors=(BucketNotFound, ObjectNotFound),
    ),
    Route(
        "POST",
        "/storage/signed-urls",
        _SIGNING + "sign_many",
        "Sign up to 1,000 download URLs",
        {200: _MODELS + "SignedPaths"},
        body=_MODELS + "SignMany",
        errors=(BucketNotFound, ObjectNotFound),
    ),
    Route(
        "POST",
        "/storage/signed-url/revoke",
        _SIGNING + "revoke",
        "End all signed download URLs of an object",
        {200: _MODELS + "Nothing"},
        body=_MODELS + "Revoke",
        errors=(BucketNotFound, ObjectNotFound),
    ),
    Route(
        "POST",
        "/storage/signed-upload-url",
        _SIGNING + "sign_upload",
        "Sign a URL that uploads an object once",
        {200: _MODELS + "Signed"},
        body=_MODELS + "SignUpload",
        errors=(BucketNotFound, ObjectExists, KeyTooLong, UnsupportedType),
    ),
    *_downloads("/storage/signed/{token}", _SIGNING + "download", needs_credential=False, errors=_SIGNED_ERRORS),
    Route(
        "PUT",
        "/storage/signed/{token}",
        _SIGNING + "upload",
        "Upload an object by a signed URL",
        {200: _MODELS + "Stored", 201: _MODELS + "Stored"},
        raw_body="*/*",
        parameters=(_METADATA,),
        errors=(*UPLOAD_ERRORS, *_SIGNED_ERRORS, TokenUsed),
        needs_credential=False,
    ),
)

SURFACE = Surface("storage", ROUTES + UPLOAD_ROUTES, render)
