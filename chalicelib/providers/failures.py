"""Why a storage does not do what it was asked: one stable word a cause, whatever library has met it.

A provider catches what its library raises and raises `StorageUnavailable` made here. Who wraps it decides by the word
whether another attempt may help (`providers/retries.py`); the connectivity probe has a wording and a hint for each.
"""

import ssl
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from chalicelib.errors import StorageUnavailable


class Failure(StrEnum):
    """The causes, as they are told to callers and stored in records."""

    INVALID_CREDENTIALS = "InvalidCredentials"
    WRONG_SIGNATURE = "WrongSignature"
    BUCKET_NOT_FOUND = "BucketNotFound"
    ACCESS_DENIED = "AccessDenied"
    TIMEOUT = "Timeout"
    CANNOT_CONNECT = "CannotConnect"
    CONNECTION_REFUSED = "ConnectionRefused"
    WRONG_REGION = "WrongRegion"
    TLS_FAILED = "TlsFailed"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    HOST_KEY_CHANGED = "HostKeyChanged"
    ENDPOINT_REFUSED = "EndpointRefused"
    CLOCK_SKEWED = "ClockSkewed"
    BUSY = "Busy"
    ASSEMBLING = "Assembling"
    FAILED = "Failed"


# What may be over a moment later. Everything else is the same the next time it is asked.
PASSING = frozenset({Failure.TIMEOUT, Failure.CANNOT_CONNECT, Failure.BUSY})

_MESSAGES = {
    Failure.INVALID_CREDENTIALS: "the storage does not know these credentials; check them in the storage's record",
    Failure.WRONG_SIGNATURE: "the storage does not accept the signature; check the secret key in the storage's record",
    Failure.BUCKET_NOT_FOUND: "the storage has no such bucket or folder; check it in the storage's record",
    Failure.ACCESS_DENIED: "the storage denies the request; check the permissions of its credentials",
    Failure.TIMEOUT: "the storage does not answer in time; try again shortly",
    Failure.CANNOT_CONNECT: "the storage cannot be reached; try again shortly",
    Failure.CONNECTION_REFUSED: "the storage refuses connections; check its host and port",
    Failure.WRONG_REGION: "the storage's bucket lies in another region than its record says",
    Failure.TLS_FAILED: "the storage's certificate is not trusted",
    Failure.AUTHENTICATION_FAILED: "the storage's server does not accept the user's password or key",
    Failure.HOST_KEY_CHANGED: "the storage's server shows another host key than the one that is pinned",
    Failure.ENDPOINT_REFUSED: "the storage's endpoint leads to an address that may not be asked",
    Failure.CLOCK_SKEWED: "the storage's clock and this one differ too much",
    Failure.BUSY: "the storage is busy; try again shortly",
    Failure.ASSEMBLING: "the storage is still putting the object together; ask again shortly",
    Failure.FAILED: "the storage refused or failed the request; try again shortly",
}


def failure(cause: Failure, **told: Any) -> StorageUnavailable:
    """The error for a cause; `told` is what else a caller may know of it."""
    return StorageUnavailable(_MESSAGES[cause], cause.value, **told)


def of_connection(error: BaseException) -> Failure:
    """What kept a connection from being made or used, told from the whole chain of exceptions that led to `error`."""
    from chalicelib.outbound import Refused, Unreachable

    chain = list(_chain(error))
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Failure], ...] = (
        (Refused, Failure.ENDPOINT_REFUSED),
        (ssl.SSLCertVerificationError, Failure.TLS_FAILED),
        (ConnectionRefusedError, Failure.CONNECTION_REFUSED),
        (TimeoutError, Failure.TIMEOUT),
        (ssl.SSLError, Failure.TLS_FAILED),
        (Unreachable, Failure.CANNOT_CONNECT),
    )
    for kind, cause in kinds:
        if any(isinstance(met, kind) for met in chain):
            return cause
    return Failure.CANNOT_CONNECT


def of_status(status: int) -> Failure:
    """What an HTTP status means that comes with no code that is known."""
    if status < 300:
        return Failure.CANNOT_CONNECT  # success, and an answer that is none
    if status < 400:
        return Failure.ENDPOINT_REFUSED  # a redirect, which is not followed
    if status >= 500:
        return Failure.BUSY
    return {401: Failure.INVALID_CREDENTIALS, 403: Failure.ACCESS_DENIED}.get(status, Failure.FAILED)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that it came of, by cause, context, argument or, as botocore does it, by keyword."""
    met: set[int] = set()
    waiting = [error]
    while waiting:
        present = waiting.pop()
        if not isinstance(present, BaseException) or id(present) in met:
            continue
        met.add(id(present))
        yield present
        told = getattr(present, "kwargs", None)
        inner = (getattr(present, name, None) for name in ("reason", "inner_exception"))  # urllib3's, Azure's
        waiting += [present.__cause__, present.__context__, *inner, *present.args]
        waiting += list(told.values()) if isinstance(told, dict) else []
