"""Where a listing goes on, as text for its caller."""

import base64
import json
from typing import Any

from chalicelib.access.permissions import Grant
from chalicelib.access.sealing import seal, unseal
from chalicelib.errors import InvalidCursor
from chalicelib.settings import SettingsError
from chalicelib.tables.buckets import Bucket


def encode(position: list[Any], bucket: Bucket, readable: Grant) -> str:
    """A cursor. Where policies decide it is sealed for its caller: it may stand at a name that they may not see."""
    text = json.dumps(position)
    if not readable.everything:
        return seal(text, _record(bucket, readable))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, bucket: Bucket, readable: Grant) -> Any:
    """What `encode` was given, or something else that somebody has made up; raises InvalidCursor."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True) if readable.everything else b""
        return json.loads(text or unseal(cursor, _record(bucket, readable), is_ours=False))
    except (ValueError, TypeError, RecursionError, SettingsError):
        raise invalid() from None


def fits(text: str, most: int) -> bool:
    """Whether what a cursor names can be a part of a key, of at most so many bytes."""
    try:
        return len(text.encode()) <= most
    except UnicodeEncodeError:
        return False


def invalid() -> InvalidCursor:
    """What to raise for a cursor that stands nowhere."""
    return InvalidCursor("the cursor is not one that this listing gave; begin again without it")


def _record(bucket: Bucket, readable: Grant) -> str:
    return f"cursors/{bucket.partition}/{readable.uid}"
