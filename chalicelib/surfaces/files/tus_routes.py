"""The files surface's routes for TUS (seed 003 "Resumable uploads"): as on the storage surface, by other metadata."""

from dataclasses import replace
from functools import partial

from chalicelib.errors import FolderNotFound, InvalidName, KeyTooLong, StowageError
from chalicelib.surfaces import tus
from chalicelib.surfaces.routes import Parameter, Route, Surface
from chalicelib.surfaces.storage.upload_routes import TUS_ROUTES

_METADATA = Parameter(
    "Upload-Metadata",
    "header",
    "`key` or `filename`; `contentType`, `filetype` or `type`; `folderId`; `acl`; `metadata`, a JSON object. Values in base64.",
)


def _of_files(route: Route) -> Route:
    """The same route for files."""
    path = route.path.replace("/storage/v1/upload/tus", "/api/uploads")
    view = route.view.replace("chalicelib.surfaces.storage.tus:", "chalicelib.surfaces.files.uploads:")
    parameters = tuple(_METADATA if parameter.name == _METADATA.name else parameter for parameter in route.parameters)
    return replace(route, path=path, view=view, parameters=parameters, errors=(*route.errors, FolderNotFound))


# What a key may not be is told as everywhere on this surface; the rest is TUS's.
STATUSES: dict[type[StowageError], int] = {InvalidName: 422, KeyTooLong: 422}

TUS_SURFACE = Surface(
    "files-tus",
    tuple(map(_of_files, TUS_ROUTES)),
    partial(tus.render, statuses=STATUSES),
    error_type="text/plain",
    statuses=STATUSES,
    takes_cookie=True,
)
