"""TUS 1.0.0: what every answer of its routes has. The methods themselves are in `protocol`, imported by the first that is called."""

from collections.abc import Mapping

from chalicelib.errors import StowageError, UnsupportedVersion
from chalicelib.settings import settings
from chalicelib.webapp import Answer

VERSION = "1.0.0"
CHUNK = "application/offset+octet-stream"


def render(error: StowageError, request_id: str, statuses: Mapping[type[StowageError], int] | None = None) -> Answer:
    """An error as TUS has it: a status and a line of text. It tells how much a chunk may have, which 413 is about.

    `statuses` are those that an error has on a surface, and TUS itself says nothing of.
    """
    headers = {"Content-Type": "text/plain; charset=utf-8", "Tus-Resumable": VERSION, **error.headers}
    if error.status == UnsupportedVersion.status:
        headers["Tus-Version"] = VERSION
    return Answer((statuses or {}).get(type(error), error.status), f"{error.message}\n".encode(), headers | chunk_max())


def chunk_max() -> dict[str, str]:
    """The header that tells how many bytes a request may carry."""
    return {"x-chunk-max": str(settings().max_body)}
