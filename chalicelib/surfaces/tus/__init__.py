"""TUS 1.0.0: what every answer of its routes has. The methods themselves are in `protocol`, imported by the first that is called."""

from chalicelib.errors import StowageError, UnsupportedVersion
from chalicelib.settings import settings
from chalicelib.webapp import Answer

VERSION = "1.0.0"
CHUNK = "application/offset+octet-stream"


def render(error: StowageError, request_id: str) -> Answer:
    """An error as TUS has it: a status and a line of text. It tells how much a chunk may have, which 413 is about."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "Tus-Resumable": VERSION, **error.headers}
    if error.status == UnsupportedVersion.status:
        headers["Tus-Version"] = VERSION
    return Answer(error.status, f"{error.message}\n".encode(), headers | chunk_max())


def chunk_max() -> dict[str, str]:
    """The header that tells how many bytes a request may carry."""
    return {"x-chunk-max": str(settings().max_body)}
