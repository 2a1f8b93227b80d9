"""The storage surface's routes for uploads: in chunks, direct, and by TUS."""

from chalicelib.errors import (
    BucketNotFound,
    CannotPresign,
    ChecksumMismatch,
    IntegrityFailed,
    InvalidName,
    KeyTooLong,
    MethodNotAllowed,
    NotUploaded,
    ObjectExists,
    OffsetMismatch,
    StorageUnavailable,
    StowageError,
    TooLarge,
    UnsupportedType,
    UnsupportedVersion,
    UploadExpired,
    UploadIncomplete,
    UploadLocked,
    UploadNotFound,
    UploadSettled,
)
from chalicelib.surfaces import tus
from chalicelib.surfaces.routes import Parameter, Route, Surface

_UPLOADS = "chalicelib.surfaces.storage.uploads:"
_TUS = "chalicelib.surfaces.storage.tus:"
_MODELS = "chalicelib.surfaces.storage.models:"

UPLOAD_ERRORS: tuple[type[StowageError], ...] = (
    InvalidName,
    KeyTooLong,
    BucketNotFound,
    ObjectExists,
    TooLarge,
    UnsupportedType,
    StorageUnavailable,
)
_SESSION_ERRORS: tuple[type[StowageError], ...] = (UploadNotFound, UploadExpired, UploadSettled, InvalidName)
# The last bytes complete an upload, and so any request on it may meet what an upload meets.
_CHUNK_ERRORS: tuple[type[StowageError], ...] = (*_SESSION_ERRORS, *UPLOAD_ERRORS, OffsetMismatch, UploadLocked)

_NUMBER = {"type": "integer", "minimum": 0}
_OFFSET = Parameter("Upload-Offset", "header", "The byte that the body begins at: as many as were taken so far.", _NUMBER)
_RANGE = Parameter("Content-Range", "header", "In place of Upload-Offset: `bytes 0-99/1000`.")
_TUS_VERSION = Parameter("Tus-Resumable", "header", "`1.0.0`", {"type": "string", "const": tus.VERSION})
_UPSERT = Parameter("x-upsert", "header", "`false`: an existing object is kept, and the answer is 409. Default `true`.")
_LENGTH = Parameter("Upload-Length", "header", "Bytes of the whole.", _NUMBER)
_CHECKSUM = Parameter("Upload-Checksum", "header", "sha1, sha256 or md5 of the body, a space, and the digest in base64.")
_PAGE = (
    Parameter("from", "query", "The first part.", {"type": "integer", "minimum": 1, "default": 1}),
    Parameter("count", "query", "How many.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1000}),
)

UPLOAD_ROUTES = (
    Route(
        "POST",
        "/storage/upload/resumable",
        _UPLOADS + "begin",
        "Begin an upload in chunks",
        {201: _MODELS + "UploadBegun"},
        body=_MODELS + "BeginUpload",
        errors=UPLOAD_ERRORS,
    ),
    Route(
        "POST",
        "/storage/upload/direct",
        _UPLOADS + "begin_direct",
        "Begin an upload that goes to the storage directly",
        {201: _MODELS + "DirectBegun"},
        body=_MODELS + "BeginDirect",
        errors=(*UPLOAD_ERRORS, CannotPresign),
    ),
    Route(
        "PATCH",
        "/storage/upload/{upload_id}",
        _UPLOADS + "append",
        "Send the next bytes of an upload",
        {200: _MODELS + "UploadProgress"},
        raw_body="*/*",
        parameters=(_OFFSET, _RANGE),
        errors=_CHUNK_ERRORS,
    ),
    Route(
        "HEAD",
        "/storage/upload/{upload_id}",
        _UPLOADS + "head",
        "How far an upload is: Upload-Offset, Upload-Length",
        {200: None},
        errors=_CHUNK_ERRORS,
    ),
    Route(
        "DELETE",
        "/storage/upload/{upload_id}",
        _UPLOADS + "abandon",
        "Give an upload up",
        {200: _MODELS + "Nothing"},
        errors=(*_SESSION_ERRORS, UploadLocked),
    ),
    Route(
        "POST",
        "/storage/upload/{upload_id}/complete",
        _UPLOADS + "complete",
        "Make the object of an upload in chunks",
        {200: _MODELS + "Stored"},
        body=_MODELS + "CompleteUpload",
        optional_body=True,
        errors=(*_CHUNK_ERRORS, UploadIncomplete, IntegrityFailed),
    ),
    Route(
        "POST",
        "/storage/upload/{upload_id}/confirm",
        _UPLOADS + "confirm",
        "Make the object of a direct upload",
        {200: _MODELS + "Stored"},
        body=_MODELS + "ConfirmUpload",
        optional_body=True,
        errors=(*_SESSION_ERRORS, *UPLOAD_ERRORS, NotUploaded, IntegrityFailed),
    ),
    Route(
        "GET",
        "/storage/upload/{upload_id}/parts",
        _UPLOADS + "sign_parts",
        "URLs for the parts of a direct upload, again or for the first time",
        {200: _MODELS + "DirectBegun"},
        parameters=_PAGE,
        errors=_SESSION_ERRORS,
    ),
)

_TUS_CREATION = (
    _TUS_VERSION,
    _LENGTH,
    Parameter("Upload-Defer-Length", "header", "`1`, in place of Upload-Length: it is told by a later PATCH."),
    Parameter(
        "Upload-Metadata",
        "header",
        "`bucket`; `filename` or `path`; `filetype` or `contentType`; `metadata`, a JSON object. Values in base64.",
    ),
    Parameter("Upload-Concat", "header", "`partial`; or `final;` and the URLs of partial uploads, by spaces: they are joined."),
    _CHECKSUM,
    _UPSERT,
)
_TUS_CHUNK = (_TUS_VERSION, _OFFSET, _LENGTH, _CHECKSUM)
_TUS_ERRORS = (*_CHUNK_ERRORS, UnsupportedVersion)

TUS_ROUTES = (
    Route(
        "OPTIONS",
        "/storage/v1/upload/tus",
        _TUS + "options",
        "What TUS server this is",
        {204: None},
        needs_credential=False,
    ),
    Route(
        "POST",
        "/storage/v1/upload/tus",
        _TUS + "create",
        "Begin a TUS upload",
        {201: None},
        raw_body=tus.CHUNK,
        optional_body=True,
        parameters=_TUS_CREATION,
        errors=(*_TUS_ERRORS, UploadIncomplete, ChecksumMismatch),
    ),
    Route(
        "PATCH",
        "/storage/v1/upload/tus/{upload_id}",
        _TUS + "append",
        "Send the next chunk",
        {204: None},
        raw_body=tus.CHUNK,
        parameters=_TUS_CHUNK,
        errors=(*_TUS_ERRORS, ChecksumMismatch),
    ),
    Route(
        "HEAD",
        "/storage/v1/upload/tus/{upload_id}",
        _TUS + "head",
        "How far a TUS upload is",
        {200: None},
        parameters=(_TUS_VERSION,),
        errors=_TUS_ERRORS,
    ),
    Route(
        "DELETE",
        "/storage/v1/upload/tus/{upload_id}",
        _TUS + "terminate",
        "Give a TUS upload up",
        {204: None},
        parameters=(_TUS_VERSION,),
        errors=(*_SESSION_ERRORS, UploadLocked, UnsupportedVersion),
    ),
    Route(
        "POST",
        "/storage/v1/upload/tus/{upload_id}",
        _TUS + "overridden",
        "Any of these methods, by X-HTTP-Method-Override",
        {200: None, 204: None},
        raw_body=tus.CHUNK,
        optional_body=True,
        parameters=(
            *_TUS_CHUNK,
            Parameter("X-HTTP-Method-Override", "header", "The method.", {"type": "string", "enum": ["PATCH", "HEAD", "DELETE"]}),
        ),
        errors=(*_TUS_ERRORS, ChecksumMismatch, MethodNotAllowed),
    ),
)

TUS_SURFACE = Surface("tus", TUS_ROUTES, tus.render, error_type="text/plain")
