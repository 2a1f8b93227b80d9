"""The TUS protocol, 1.0.0 (tus.io/protocols/resumable-upload), for any surface that has uploads.

Headers in, headers out: what an upload becomes is for the surface to say, from the client's metadata; everything else
is the core's.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from email.utils import format_datetime

from chalicelib import seam
from chalicelib.core import joining, names, parts, uploads
from chalicelib.core.sessions import DONE, JOINED, OBJECT, PARTIAL, Wanted
from chalicelib.errors import ChecksumMismatch, InvalidRequest, MethodNotAllowed, UnsupportedType, UnsupportedVersion
from chalicelib.surfaces.http import Request, natural_number
from chalicelib.surfaces.tus import CHUNK, VERSION, chunk_max
from chalicelib.tables.uploads import UploadSession
from chalicelib.webapp import Answer

EXTENSIONS = "creation,creation-with-upload,creation-defer-length,expiration,termination,checksum,concatenation"
DIGESTS = ("sha1", "sha256", "md5")
MAX_METADATA_CHARACTERS = 8192
_PARTIAL, _FINAL = "partial", "final;"

Metadata = Mapping[str, str]
WantedOf = Callable[[Metadata], Wanted]
"""What an upload is to become, by the client's metadata; raises InvalidRequest."""


# ---- the methods ---------------------------------------------------------------------------------------
def options(request: Request) -> Answer:
    """What this server can do. The one request that needs no version."""
    capabilities = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(parts.largest()),
        "Tus-Checksum-Algorithm": ",".join(DIGESTS),
    }
    return _answer(204, capabilities | chunk_max())


def create(request: Request, folder: str, wanted_of: WantedOf, named_by: Sequence[str]) -> Answer:
    """Begin an upload; `folder` is the path that the uploads of this surface lie under.

    A partial upload needs none of the metadata that an object is `named_by`.
    """
    _check_version(request)
    concatenation, label = request.headers.get("upload-concat"), request.headers.get("upload-metadata")
    if not all(text.isascii() and text.isprintable() for text in (concatenation or "", label or "")):
        raise InvalidRequest("Upload-Metadata and Upload-Concat are printable ASCII: values of metadata are in base64")
    metadata = parse_metadata(label or "")
    is_nameless = concatenation == _PARTIAL and not any(name in metadata for name in named_by)
    told = Wanted("", "", CHUNK) if is_nameless else wanted_of(metadata)
    wanted = replace(told, label=label or None, concatenation=concatenation)
    if concatenation in (None, _PARTIAL):
        session = _begin(request, PARTIAL if concatenation else OBJECT, wanted)
    elif concatenation.startswith(_FINAL):
        session = joining.join(request.principal, wanted, _named_uploads(concatenation))
    else:
        raise InvalidRequest("Upload-Concat is 'partial', or 'final;' and the URLs of partial uploads")
    location = f"{request.base_url}{folder}/{session.upload_id}"
    offset = {} if session.kind == JOINED or not (request.body or session.status == DONE) else _offset(session)
    return _answer(201, {"Location": location, **offset, **_expiry(session), **chunk_max()})


def _begin(request: Request, kind: str, wanted: Wanted) -> UploadSession:
    chunk = _chunk(request) if request.body else b""
    return uploads.begin(request.principal, kind, replace(wanted, total=_total(request)), chunk)


def append(request: Request) -> Answer:
    """Take a chunk."""
    _check_version(request)
    chunk = _chunk(request)
    offset = natural_number(request.headers.get("upload-offset"), "Upload-Offset")
    length = request.headers.get("upload-length")
    total = None if length is None else natural_number(length, "Upload-Length")
    session = uploads.append(request.principal, request.path("upload_id"), offset, chunk, total)
    return _answer(204, _offset(session) | _expiry(session))


def head(request: Request) -> Answer:
    """How far an upload is, and all that is known of it."""
    _check_version(request)
    session = uploads.head(request.principal, request.path("upload_id"))
    shown = {"Upload-Defer-Length": "1"} if session.total is None else {"Upload-Length": str(int(session.total))}
    if session.kind != JOINED or session.status == DONE:
        shown |= _offset(session)
    if session.label:
        shown["Upload-Metadata"] = session.label
    if session.concatenation:
        shown["Upload-Concat"] = session.concatenation
    return _answer(200, shown | _expiry(session) | {"Cache-Control": "no-store"})


def terminate(request: Request) -> Answer:
    """Give an upload up."""
    _check_version(request)
    uploads.terminate(request.principal, request.path("upload_id"))
    return _answer(204, {})


def overridden(request: Request) -> Answer:
    """POST to an upload: for clients that have no other method at hand."""
    methods = {"PATCH": append, "HEAD": head, "DELETE": terminate}
    method = request.headers.get("x-http-method-override", "").strip().upper()
    if method not in methods:
        raise MethodNotAllowed("POST to an upload takes X-HTTP-Method-Override: PATCH, HEAD or DELETE", allow="PATCH, HEAD, DELETE")
    return methods[method](request)


# ---- headers in ----------------------------------------------------------------------------------------
def _check_version(request: Request) -> None:
    given = request.headers.get("tus-resumable")
    if given != VERSION:
        raise UnsupportedVersion(f"this speaks TUS {VERSION}; send it as Tus-Resumable")


def _total(request: Request) -> int | None:
    length, deferred = request.headers.get("upload-length"), request.headers.get("upload-defer-length")
    if (length is None) == (deferred is None):
        raise InvalidRequest("send either Upload-Length or Upload-Defer-Length: 1")
    if deferred is not None and deferred.strip() != "1":
        raise InvalidRequest("Upload-Defer-Length is 1")
    return None if length is None else natural_number(length, "Upload-Length")


def _chunk(request: Request) -> bytes:
    """The body, if it is a chunk and has the digest that was promised."""
    if request.headers.get("content-type", "").strip().lower() != CHUNK:
        raise UnsupportedType(f"a chunk is of type {CHUNK}")
    promised = request.headers.get("upload-checksum")
    if promised is not None:
        algorithm, _, digest = promised.strip().partition(" ")
        if algorithm not in DIGESTS:
            raise InvalidRequest(f"Upload-Checksum names one of {', '.join(DIGESTS)}")
        found = hashlib.new(algorithm, request.body, usedforsecurity=False).digest()
        if not hmac.compare_digest(found, _decoded(digest, "Upload-Checksum")):
            raise ChecksumMismatch("the chunk has another digest than Upload-Checksum; send it again")
    return request.body


def parse_metadata(header: str) -> dict[str, str]:
    """Upload-Metadata: pairs of a key and the base64 of a UTF-8 text, by commas. An empty header has none."""
    if len(header) > MAX_METADATA_CHARACTERS:
        raise InvalidRequest(f"Upload-Metadata has at most {MAX_METADATA_CHARACTERS} characters")
    metadata: dict[str, str] = {}
    for pair in filter(None, (each.strip() for each in header.split(","))):
        key, _, value = pair.partition(" ")
        if not key.isascii() or key in metadata:
            raise InvalidRequest("the keys of Upload-Metadata are ASCII, and each is given once")
        try:
            metadata[key] = _decoded(value.strip(), "Upload-Metadata").decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"the value of {key[:80]} in Upload-Metadata is not UTF-8") from None
    return metadata


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise InvalidRequest(f"{what} holds something that is not base64") from None


def _named_uploads(concatenation: str) -> Sequence[str]:
    """The ids of the uploads whose URLs are given, absolute or not."""
    ids = [url.rstrip("/").rpartition("/")[2] for url in concatenation.removeprefix(_FINAL).split()]
    if not ids or not all(map(names.is_version, ids)):
        raise InvalidRequest("Upload-Concat: final; names the URLs of partial uploads, by spaces")
    return ids


# ---- headers out ---------------------------------------------------------------------------------------
def _answer(status: int, headers: Mapping[str, str]) -> Answer:
    return Answer(status, headers={"Tus-Resumable": VERSION, **headers})


def _offset(session: UploadSession) -> dict[str, str]:
    return {"Upload-Offset": str(int(session.offset))}


def _expiry(session: UploadSession) -> dict[str, str]:
    return {"Upload-Expires": format_datetime(seam.at(session.expires_at), usegmt=True)}
