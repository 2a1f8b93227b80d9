"""TUS uploads into buckets: what the client's metadata says of the object."""

from chalicelib.core import content
from chalicelib.core.sessions import Wanted
from chalicelib.errors import InvalidRequest
from chalicelib.surfaces.http import Request
from chalicelib.surfaces.tus import protocol
from chalicelib.surfaces.tus.protocol import Metadata, append, head, options, overridden, terminate
from chalicelib.surfaces.writing import metadata_in, upsert
from chalicelib.webapp import Answer

__all__ = ["append", "create", "head", "options", "overridden", "terminate"]

FOLDER = "/storage/v1/upload/tus"


def create(request: Request) -> Answer:
    return protocol.create(request, FOLDER, lambda metadata: _wanted(metadata, upsert(request, default=True)), named_by=("bucket",))


def _wanted(metadata: Metadata, replaces: bool) -> Wanted:
    bucket, name = metadata.get("bucket"), metadata.get("path") or metadata.get("filename")
    if not bucket or not name:
        raise InvalidRequest("Upload-Metadata names the bucket, and the object's path as filename or path")
    content_type = content.declared_type(metadata.get("filetype") or metadata.get("contentType") or "", name)
    user_metadata = metadata_in(metadata.get("metadata"))
    return Wanted(bucket, name, content_type, user_metadata, replaces)
