"""Time, randomness and identifiers: everything that is not a function of its input comes in here.

Callers write `seam.now()`, never `datetime.now()`, so that a test can move the clock or fix an id by
replacing one attribute of this module and nothing else.
"""

import os
import secrets
import time
import uuid
from datetime import UTC, datetime

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def timestamp() -> float:
    """Seconds since the Unix epoch."""
    return time.time()


def now() -> datetime:
    """The present moment, in UTC."""
    return at(timestamp())


def at(seconds: float) -> datetime:
    """The moment `seconds` after the Unix epoch, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def iso(moment: datetime) -> str:
    """`2026-11-20T10:34:05.123456Z`: fixed width, so that text order is time order."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> datetime:
    """The inverse of `iso`."""
    return datetime.fromisoformat(text)


def hour(seconds: float) -> str:
    """The hour that lies `seconds` after the Unix epoch, as `2026-11-20T10`; text order is time order."""
    return iso(at(seconds))[:13]


def new_uuid() -> str:
    """A random UUID in its hyphenated form."""
    return str(uuid.uuid4())


def new_timed_uuid() -> str:
    """A UUID of version 7 (RFC 9562 §5.7): in text order they are in the order of their making, to the millisecond."""
    number = int(timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return str(uuid.UUID(int=number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62))


def new_version() -> str:
    """A ULID: 26 characters that sort by their creation time (spec: github.com/ulid/spec).

    Written out because the published packages cost more to import (about 40 ms of CPU) than PynamoDB does.
    """
    number = int(timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def version_time(version: str) -> float:
    """When a ULID was made, in seconds since the Unix epoch."""
    number = 0
    for character in version[:10]:
        number = number << 5 | _CROCKFORD.index(character)
    return number / 1000


def new_token(size: int = 32) -> str:
    """A URL-safe random text made of `size` random bytes."""
    return secrets.token_urlsafe(size)


def jitter(ceiling: float) -> float:
    """A random number of seconds between nothing and `ceiling`."""
    return secrets.randbelow(1_000_000) / 1_000_000 * ceiling


def sleep(seconds: float) -> None:
    """Wait, as a backoff does."""
    time.sleep(seconds)
