"""The files surface's routes, with all that dispatch and OpenAPI need to know of them (CONTRACT "Files surface")."""

from typing import Any

from chalicelib.errors import (
    BytesMissing,
    ExpiredToken,
    FolderExists,
    FolderNotFound,
    Forbidden,
    ImportFailed,
    InvalidCursor,
    InvalidName,
    InvalidRequest,
    InvalidSignature,
    KeyTooLong,
    MethodNotAllowed,
    ObjectExists,
    ObjectNotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StorageUnavailable,
    StowageError,
    Throttled,
    TooLarge,
    Unauthorized,
    UnprocessableImage,
    UnsupportedType,
    UploadExpired,
    UploadNotFound,
)
from chalicelib.surfaces.http import json_answer
from chalicelib.surfaces.parameters import FLAG, NUMBER, READING, transforming
from chalicelib.surfaces.routes import Parameter, Route, Surface
from chalicelib.webapp import Answer

_FILES = "chalicelib.surfaces.files.files:"
_FOLDERS = "chalicelib.surfaces.files.folders:"
_UPLOADS = "chalicelib.surfaces.files.uploads:"
_MODELS = "chalicelib.surfaces.files.models:"

# Where this surface has another status for an error than the others (FEATURES F15.1), and its words for statuses.
STATUSES: dict[type[StowageError], int] = {InvalidRequest: 422, InvalidName: 422, InvalidCursor: 422, KeyTooLong: 422}
CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    410: "GONE",
    412: "PRECONDITION_FAILED",
    413: "TOO_LARGE",
    415: "UNSUPPORTED_TYPE",
    416: "RANGE_NOT_SATISFIABLE",
    422: "VALIDATION",
    423: "LOCKED",
    429: "RATE_LIMITED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}

_ACL = {"type": "string", "enum": ["public", "private"]}
_LISTING = (
    Parameter(
        "prefix",
        "query",
        "Only keys that start with it. One that more than 500 have is looked for among 2,000 files, or for 8 seconds, a page.",
    ),
    Parameter("folderId", "query", "Only files in this folder; `__root__`: those in none."),
    Parameter(
        "search",
        "query",
        "Only keys that hold it, whatever the case. A page looks at 2,000 files at most, or for 8 seconds, then comes short.",
    ),
    Parameter("limit", "query", "Files a page.", NUMBER | {"minimum": 1, "maximum": 200, "default": 50}),
    Parameter("offset", "query", "Files to pass over.", NUMBER | {"minimum": 0, "maximum": 10_000, "default": 0}),
    Parameter("cursor", "query", "`meta.nextCursor` of the page before."),
)
_WRITING = (
    Parameter("folderId", "query", "A folder's id; `__root__`: in none. Default: as it was; of a new file, the folder that its key names."),
    Parameter("acl", "query", "`public`: anybody may have transforms of it. Default: as it was; of a new file, `private`.", _ACL),
    Parameter("x-metadata", "header", "The base64 of a JSON object, at most 4 KB of it: `metadata`."),
    Parameter("x-upsert", "header", "`false`: an existing file is kept, and the answer is 409. Default `true`.", FLAG),
    Parameter("If-None-Match", "header", "`*`: the file must not exist.", {"type": "string", "const": "*"}),
)
_TRANSFORMING = transforming(takes_auto=False)
_VERSION = Parameter("version", "query", "The version meant: 404 if it is another by now.")
_READING = (
    Parameter("token", "query", "Of a signed URL, in place of a credential."),
    _VERSION,
    *READING,
    *_TRANSFORMING,
)
_GIVEN: dict[int, str | None] = {200: None, 206: None, 302: None, 304: None}
_HEADERS_ALONE: dict[int, str | None] = {200: None, 302: None, 304: None}
_FIND_ERRORS: tuple[type[StowageError], ...] = (InvalidName, ObjectNotFound)
_GIVE_ERRORS: tuple[type[StowageError], ...] = (
    *_FIND_ERRORS,
    PreconditionFailed,
    RangeNotSatisfiable,
    BytesMissing,
    StorageUnavailable,
    Throttled,
    UnprocessableImage,
)
_SHOW_ERRORS: tuple[type[StowageError], ...] = (*_FIND_ERRORS, Forbidden, BytesMissing, StorageUnavailable, Throttled, UnprocessableImage)
# A signed URL is as good as a credential, so a credential is not needed on every request.
_TOKEN_ERRORS: tuple[type[StowageError], ...] = (Unauthorized, Forbidden, InvalidSignature, ExpiredToken)
_STORE_ERRORS: tuple[type[StowageError], ...] = (
    InvalidName,
    KeyTooLong,
    FolderNotFound,
    ObjectExists,
    TooLarge,
    UnsupportedType,
    StorageUnavailable,
)


def render(error: StowageError, request_id: str) -> Answer:
    """An error as this surface has it (seed 003, FEATURES F15.1); `details.reason` is the code that the other surfaces have."""
    status = STATUSES.get(type(error), error.status)
    shown: dict[str, Any] = {"code": CODES[status], "message": error.message, "details": {"reason": error.code, **error.details}}
    return json_answer(status, {"error": shown, "requestId": request_id}, error.headers)


ROUTES = (
    Route(
        "GET",
        "/api/storage",
        _FILES + "list_page",
        "List files, newest first",
        {200: _MODELS + "FileList"},
        parameters=_LISTING,
        errors=(InvalidName, InvalidCursor),
    ),
    Route(
        "PUT",
        "/api/storage/{key+}",
        _FILES + "put",
        "Store a file",
        {200: _MODELS + "StoredFile", 201: _MODELS + "StoredFile"},
        raw_body="*/*",
        parameters=_WRITING,
        errors=_STORE_ERRORS,
    ),
    Route(
        "GET",
        "/api/storage/{key+}",
        _FILES + "get",
        "Download a file, or a transform of it",
        _GIVEN,
        parameters=_READING,
        errors=(*_GIVE_ERRORS, *_TOKEN_ERRORS),
        needs_credential=False,
        takes_credential=True,
    ),
    Route(
        "HEAD",
        "/api/storage/{key+}",
        _FILES + "get",
        "What a download would say, without its bytes",
        _HEADERS_ALONE,
        parameters=_READING,
        errors=(*_GIVE_ERRORS, *_TOKEN_ERRORS),
        needs_credential=False,
        takes_credential=True,
    ),
    Route(
        "PATCH",
        "/api/storage/{key+}",
        _FILES + "change",
        "Change a file's acl, folder or metadata",
        {200: _MODELS + "ChangedFile"},
        body=_MODELS + "ChangeFile",
        errors=(*_FIND_ERRORS, FolderNotFound),
    ),
    Route("DELETE", "/api/storage/{key+}", _FILES + "delete", "Delete a file", {200: _MODELS + "FileOk"}, errors=_FIND_ERRORS),
    Route(
        "POST",
        "/api/storage/{key+}",
        _FILES + "post",
        "Sign a URL of a file, by its key and `/sign`",
        {200: _MODELS + "SignedFile"},
        body=_MODELS + "SignFile",
        optional_body=True,
        errors=(*_FIND_ERRORS, MethodNotAllowed),
    ),
    Route(
        "POST",
        "/api/storage/_sign/{key+}",
        _FILES + "sign",
        "Sign a URL of a file",
        {200: _MODELS + "SignedFile"},
        body=_MODELS + "SignFile",
        optional_body=True,
        errors=_FIND_ERRORS,
    ),
    Route("GET", "/api/storage/folder-counts", _FILES + "count_by_folder", "Count files by folder", {200: _MODELS + "FolderCounts"}),
    Route(
        "POST",
        "/api/storage/from-url",
        _FILES + "import_from_url",
        "Store what a URL answers as a file: at most 100 MB, within 30 seconds",
        {201: _MODELS + "StoredFile", 202: _MODELS + "ImportStarted"},
        body=_MODELS + "ImportFile",
        errors=(*_STORE_ERRORS, ImportFailed, Throttled),
    ),
    Route(
        "GET",
        "/api/public/{tenant_id}/{key+}",
        _FILES + "get_public",
        "Where a transform of a public file is",
        {302: None},
        parameters=(_VERSION, *_TRANSFORMING),
        errors=_SHOW_ERRORS,
        needs_credential=False,
    ),
    Route(
        "HEAD",
        "/api/public/{tenant_id}/{key+}",
        _FILES + "get_public",
        "Where a transform of a public file is, without a body",
        {302: None},
        parameters=(_VERSION, *_TRANSFORMING),
        errors=_SHOW_ERRORS,
        needs_credential=False,
    ),
    Route(
        "GET",
        "/api/folders",
        _FOLDERS + "list_page",
        "List the folders that one may see, by name within a page",
        {200: _MODELS + "FolderList"},
        parameters=(Parameter("cursor", "query", "`meta.nextCursor` of the page before."),),
        errors=(InvalidCursor,),
    ),
    Route(
        "POST",
        "/api/folders",
        _FOLDERS + "create",
        "Create a folder",
        {201: _MODELS + "OneFolder"},
        body=_MODELS + "CreateFolder",
        errors=(FolderExists, FolderNotFound),
    ),
    Route(
        "PATCH",
        "/api/folders/{folder_id}",
        _FOLDERS + "change",
        "Give a folder another name or parent",
        {200: _MODELS + "ChangedFolder"},
        body=_MODELS + "ChangeFolder",
        errors=(FolderExists, FolderNotFound, InvalidName),
    ),
    Route(
        "DELETE",
        "/api/folders/{folder_id}",
        _FOLDERS + "delete",
        "Delete a folder: its files are in none then, its folders lie where it lay",
        {200: _MODELS + "FileOk"},
        errors=(FolderNotFound, InvalidName),
    ),
    Route(
        "GET",
        "/api/uploads",
        _UPLOADS + "list_newest",
        "List uploads of files, newest first",
        {200: _MODELS + "FileUploads"},
        parameters=(
            Parameter(
                "status",
                "query",
                "Only these, among the newest 500.",
                {"type": "string", "enum": ["uploading", "completed", "expired", "aborted"]},
            ),
            Parameter("limit", "query", "How many.", NUMBER | {"minimum": 1, "maximum": 200, "default": 100}),
        ),
    ),
    Route(
        "GET",
        "/api/uploads/{upload_id}",
        _UPLOADS + "show",
        "Show an upload of a file",
        {200: _MODELS + "FileUpload"},
        errors=(UploadNotFound, UploadExpired, InvalidName),
    ),
)

SURFACE = Surface("files", ROUTES, render, statuses=STATUSES, error_schema="FileError", takes_cookie=True)
