"""Everything that can go wrong and be told to a caller: one class a kind, with its code and HTTP status.

An error is raised where it is known and turned into an answer in one place (`surfaces/http.py`), in the
format of the surface that was called. Messages are for the caller: they never carry a secret, a physical key
or the text of an inner exception. The README's table of errors is made from this module.
"""

import math
from typing import Any, ClassVar


class StowageError(Exception):
    """A failure with a stable `code`, an HTTP `status`, a `message` for people and `details` for programs."""

    code: ClassVar[str]
    status: ClassVar[int]
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


# 400: the request itself is wrong, and sending it again will not help
class InvalidRequest(StowageError):
    code, status = "InvalidRequest", 400


class InvalidName(StowageError):
    code, status = "InvalidName", 400


class KeyTooLong(StowageError):
    code, status = "KeyTooLong", 400


class InvalidCursor(StowageError):
    code, status = "InvalidCursor", 400


class InvalidPolicy(StowageError):
    """A definition that does not parse, or uses what policies cannot: `position` in characters from 0."""

    code, status = "InvalidPolicy", 400

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})", position=position)
        self.position = position


# 401 and 403: who asks, and may they
class Unauthorized(StowageError):
    code, status = "Unauthorized", 401
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="stowage"'}


class InvalidSignature(Unauthorized):
    code = "InvalidSignature"


class ExpiredToken(Unauthorized):
    code = "ExpiredToken"


class Forbidden(StowageError):
    code, status = "Forbidden", 403


# 404: there is none, or none for this caller
class RouteNotFound(StowageError):
    code, status = "RouteNotFound", 404


class BucketNotFound(StowageError):
    code, status = "BucketNotFound", 404


class ObjectNotFound(StowageError):
    code, status = "ObjectNotFound", 404


class StorageNotFound(StowageError):
    code, status = "StorageNotFound", 404


class FolderNotFound(StowageError):
    code, status = "FolderNotFound", 404


class JobNotFound(StowageError):
    code, status = "JobNotFound", 404


class PolicyNotFound(StowageError):
    code, status = "PolicyNotFound", 404


class TenantNotFound(StowageError):
    code, status = "TenantNotFound", 404


class KeyNotFound(StowageError):
    code, status = "KeyNotFound", 404


class UploadNotFound(StowageError):
    code, status = "UploadNotFound", 404


class DeltaNotFound(StowageError):
    code, status = "DeltaNotFound", 404


class DeltaMissing(StowageError):
    """A delta is known, and nothing lies where its key's storage says that it should."""

    code, status = "DeltaMissing", 404


class ClaimNotFound(StowageError):
    code, status = "ClaimNotFound", 404


class MethodNotAllowed(StowageError):
    code, status = "MethodNotAllowed", 405

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.headers = {"Allow": allow}  # type: ignore[misc]  # the one error whose header depends on the route


# 409 and 412: the present state does not allow it
class BucketExists(StowageError):
    code, status = "BucketExists", 409


class BucketNotEmpty(StowageError):
    code, status = "BucketNotEmpty", 409


class BucketFixed(StowageError):
    code, status = "BucketFixed", 409


class BucketReserved(StowageError):
    """The bucket of a tenant's files comes and goes with the tenant, and stays private."""

    code, status = "BucketReserved", 409


class FolderExists(StowageError):
    """An owner's folder has the name already: `folder_id` is the one."""

    code, status = "FolderExists", 409

    def __init__(self, message: str, folder_id: str | None) -> None:
        super().__init__(message, folder_id=folder_id)
        self.folder_id = folder_id


class ObjectExists(StowageError):
    code, status = "ObjectExists", 409


class TokenUsed(StowageError):
    code, status = "TokenUsed", 409


class OffsetMismatch(StowageError):
    code, status = "OffsetMismatch", 409


class UploadIncomplete(StowageError):
    code, status = "UploadIncomplete", 409


class UploadSettled(StowageError):
    """The upload is complete, or of another kind, and takes no more of what was asked."""

    code, status = "UploadSettled", 409


class NotUploaded(StowageError):
    code, status = "NotUploaded", 409


class AttemptMismatch(StowageError):
    """What was uploaded is of another attempt than the one that is confirmed."""

    code, status = "AttemptMismatch", 409


class SectionClaimed(StowageError):
    code, status = "SectionClaimed", 409


class KeyBusy(StowageError):
    """A job is moving the key to another storage."""

    code, status = "KeyBusy", 409


class StorageExists(StowageError):
    code, status = "StorageExists", 409


class StorageInUse(StowageError):
    """What refers to a storage keeps it from being removed or pointed elsewhere."""

    code, status = "StorageInUse", 409


class CannotPresign(StowageError):
    code, status = "CannotPresign", 409


class UploadExpired(StowageError):
    code, status = "UploadExpired", 410


class PreconditionFailed(StowageError):
    code, status = "PreconditionFailed", 412


class UnsupportedVersion(StowageError):
    code, status = "UnsupportedVersion", 412


# 413 to 416: the bytes are not acceptable
class TooLarge(StowageError):
    code, status = "TooLarge", 413


class UnsupportedType(StowageError):
    code, status = "UnsupportedType", 415


class RangeNotSatisfiable(StowageError):
    code, status = "RangeNotSatisfiable", 416

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.headers = {"Content-Range": f"bytes */{size}"}  # type: ignore[misc]  # RFC 9110 §15.5.17


# 422 and 423: bytes that are not what was promised, and a writer that is at work
class IntegrityFailed(StowageError):
    code, status = "IntegrityFailed", 422


class ProbeFailed(StowageError):
    """A storage could not be used as it was described: `details` have the step, a stable cause and a hint."""

    code, status = "ProbeFailed", 422


class ImportFailed(StowageError):
    """A URL could not be fetched: `message` says what its server did."""

    code, status = "ImportFailed", 422


class UnprocessableImage(StowageError):
    """The source of a transform is no image, broken, or too large to be transformed."""

    code, status = "UnprocessableImage", 422


class UploadLocked(StowageError):
    """Another request is writing to the upload: `seconds` until its lease ends at the latest."""

    code, status = "UploadLocked", 423

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, round(seconds)))}  # type: ignore[misc]  # depends on the lease


# 429: too much at once
class Throttled(StowageError):
    """`seconds` until it may be tried again."""

    code, status = "Throttled", 429

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, math.ceil(seconds)))}  # type: ignore[misc]  # depends on who asked how often


class LimitReached(StowageError):
    """A limit of a key on internal storage; `seconds` until it is counted anew, None where only deleting helps."""

    code, status = "LimitReached", 429

    def __init__(self, message: str, seconds: float | None, **details: Any) -> None:
        super().__init__(message, **details)
        if seconds is not None:
            self.headers = {"Retry-After": str(max(1, math.ceil(seconds)))}  # type: ignore[misc]  # depends on the window


# 460: of the TUS protocol's checksum extension
class ChecksumMismatch(StowageError):
    code, status = "ChecksumMismatch", 460


# 5xx: our side, or what we stand on; sending it again may help
class InternalError(StowageError):
    code, status = "InternalError", 500


class Unavailable(StowageError):
    code, status = "Unavailable", 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class StorageUnavailable(Unavailable):
    """The storage cannot be reached, or refuses: `reason` is a word for why (`providers/failures.py`), None where it is not known."""

    code = "StorageUnavailable"

    def __init__(self, message: str, reason: str | None = None, **details: Any) -> None:
        super().__init__(message, **({"reason": reason} if reason else {}), **details)
        self.reason = reason


class Staging(Unavailable):
    """An object is being copied to where it can be downloaded from."""

    code = "Staging"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


class StorageRemoved(StorageUnavailable):
    """The record of the storage is gone."""

    code = "StorageRemoved"


class BytesMissing(StowageError):
    """The row names bytes that the storage says it does not hold."""

    code, status = "BytesMissing", 503
    headers: ClassVar[dict[str, str]] = {"Retry-After": "60"}
