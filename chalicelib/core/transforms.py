"""Images on demand: which transform a request may have, and one made once for all who ask for it.

    transforms/{bucket_id}/{version}/{options}     a result, in the internal storage

Those of public files lie where anybody may fetch them (`core/publishing.py`). A version names bytes that never change, so a
result is never wrong, only forgotten: after the hour (a setting) it is made anew, after a day the storage drops it. Found
there, it costs one look. Otherwise one request claims it by a row (`tables/transforms.py`) and has the image function make it;
the others wait for what becomes of that row. Killed after its claim, a request leaves a row that anyone may take over once the
claim is past; what the function makes meanwhile is kept all the same.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

from chalicelib import aws, providers, seam
from chalicelib.core import content, limits, publishing, staging
from chalicelib.core.objects import Found
from chalicelib.errors import (
    BytesMissing,
    Forbidden,
    InternalError,
    InvalidRequest,
    StorageUnavailable,
    StowageError,
    Throttled,
    Unavailable,
    UnprocessableImage,
)
from chalicelib.images import options as asked
from chalicelib.images.options import PARAMETERS, PRESET, Options
from chalicelib.observability import count, logger
from chalicelib.settings import settings
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import ConditionFailed
from chalicelib.tables.transforms import Transform

FOLDER = "transforms/"
# What a bucket may be held to: the presets that it names, or signed URLs that say which transform they open.
PRESETS, SIGNED = "presets", "signed"
# Seconds. The image function has 18 and what it takes to start, and a request that claims it late is still answered within the API
# function's 28; a claim lasts as long as its holder can be at work.
TAKE_UP = 2
CONNECT_TIMEOUT = 2
INVOKE_TIMEOUT = 21
WAIT = 24
CLAIM = 25
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
BUSY_PAUSE = 1
AT_ONCE = 0.5
# How long a result that was made counts as one that must be there: as long as a request can last that looked before.
SETTLED = 30
# How long a refusal is remembered: a broken file will not get better, but what took too long may have waited for the storage.
REFUSED, OVERCOME = 3600, 300
KEPT = 86_400
MAKING, MADE, REFUSAL = "making", "made", "refused"
# What tells a result's format.
SIGNATURE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """A result: `size` bytes of the type `content_type` under `key`; `body` None where it is too large for an answer."""

    key: str
    content_type: str
    size: int
    body: bytes | None


# ---- what is asked for -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Signed:
    """The options that a signed URL fixes, and whether the service key signed it."""

    given: Mapping[str, str]
    trusted: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A transform that a request may have.

    `varies`: by the Accept header too; `lasting`: its URL means it for ever; `is_open`: whoever may see the image may have it.
    """

    options: Options
    varies: bool
    lasting: bool
    is_open: bool


def wanted(
    found: Found, query: Mapping[str, str], accept: str, signed: Signed | None = None, trusted: bool = False, is_file: bool = False
) -> Wanted | None:
    """The transform that a request of an object asks for and may have; None: its bytes as they are.

    `trusted` callers are not held to the bucket's mode. What is no image, and SVG, is given as it is whatever the query asks; `is_file`,
    asked for as a file, it is refused, and so is `format=auto` (seed 003 "Image transform").
    Raises InvalidRequest, Forbidden, and UnprocessableImage for a URL that was signed for a transform of what is none any more.
    """
    given = {name: query[name] for name in sorted(PARAMETERS & query.keys())}
    if signed is not None:
        if given:
            raise InvalidRequest("the signed URL says which transform it opens; leave the options out")
        if not _is_picture(found.row):
            raise UnprocessableImage("the signed URL is for a transform, and the object is no image that can be transformed")
        given, trusted = dict(signed.given), signed.trusted
    elif not given:
        return None
    elif is_file:
        _check_strictly(found.row, given)
    elif not _is_picture(found.row):
        return None
    refusal = _refusal(found.bucket, given)
    if refusal is not None and not trusted:
        raise refusal
    meant = _of_preset(found.bucket, given)
    options = asked.parse(meant, accept)
    # Seed 003 has a file's picture kept for good: a page that overwrites the file says `version` too.
    lasting = PRESET not in given and (is_file or "version" in query)
    return Wanted(options, asked.is_automatic(meant), lasting, refusal is None) if options else None


def _check_strictly(row: StoredObject, given: Mapping[str, str]) -> None:
    if not _is_picture(row):
        raise UnprocessableImage(f"file {row.name} is no image that can be transformed")
    if asked.is_automatic(given):
        raise InvalidRequest(f"format is one of: {', '.join(asked.FORMATS)}")


def _is_picture(row: StoredObject) -> bool:
    essence = content.essence(row.content_type)
    return essence.startswith("image/") and essence != "image/svg+xml"


def _refusal(bucket: Bucket, given: Mapping[str, str]) -> Forbidden | None:
    """Why the bucket's mode refuses a transform, if it does."""
    if bucket.transforms == SIGNED:
        return Forbidden(f"bucket {bucket.name} gives only transforms that a URL signed with the service key names (`transform`)")
    if bucket.transforms == PRESETS and PRESET not in given:
        return Forbidden(f"bucket {bucket.name} gives only its presets: {_names(bucket)}")
    return None


def _of_preset(bucket: Bucket, given: Mapping[str, str]) -> Mapping[str, str]:
    """The options that a preset stands for."""
    if PRESET not in given:
        return given
    if any(name in given for name in asked.NAMES):
        raise InvalidRequest("a preset stands for all options; leave the others out")
    presets = bucket.transform_presets or {}
    if given[PRESET] not in presets:
        raise InvalidRequest(f"bucket {bucket.name} has no such preset; it has {_names(bucket)}")
    options: Mapping[str, str] = presets[given[PRESET]]
    return options


def _names(bucket: Bucket) -> str:
    return ", ".join(sorted(bucket.transform_presets or {})) or "none"


def check(found: Found, given: Mapping[str, str], trusted: bool) -> None:
    """Raise unless a URL may be signed for this transform of an object.

    Only a `trusted` signer goes beyond the bucket's mode: else whoever may read an image could sign every size of it.
    """
    if not _is_picture(found.row):
        raise InvalidRequest(f"object {found.row.name} is no image that can be transformed")
    wanted(found, {}, "", Signed(given, trusted))


def etag(row: StoredObject, options: Options) -> str:
    """A weak validator: what is made anew looks the same, byte for byte it need not be."""
    return f'W/"{hashlib.sha256(f"{row.version}/{options}".encode()).hexdigest()[:24]}"'


# ---- making it ---------------------------------------------------------------------------------------------
def picture(found: Found, options: Options) -> Picture:
    """The transformed image; raises UnprocessableImage, Throttled, Unavailable, BytesMissing, StorageUnavailable."""
    return _picture(found, options, f"{FOLDER}{found.bucket.bucket_id}/{found.row.version}/", settings().max_body)


def published(found: Found, options: Options) -> str:
    """Where anybody may fetch the transformed image of a public file; raises what `picture` does, ObjectNotFound if it is none any more."""
    return publishing.url_of(_picture(found, options, publishing.folder_of(found.row), SIGNATURE_BYTES).key)


def _picture(found: Found, options: Options, folder: str, most: int) -> Picture:
    """A transformed image in a folder, with its bytes if they were found there and are at most so many."""
    limit = settings().max_transform_size
    if found.row.size > limit:
        raise UnprocessableImage(f"images of at most {limit} bytes are transformed, and this has {int(found.row.size)}", limit=limit)
    if not settings().image_function:
        raise UnprocessableImage("this installation transforms no images: STOWAGE_IMAGE_FUNCTION names no function")
    key = f"{folder}{options}"
    kept = _kept(key, most)
    if kept is not None:
        return kept
    if publishing.is_for_anybody(folder):
        publishing.announce(found.row)
    return _made_once(found, options, key)


def read(shown: Picture, offset: int, length: int) -> bytes:
    """Bytes of a result that is too large for one answer."""
    return providers.internal().read(shown.key, offset, length)


def _kept(key: str, most: int) -> Picture | None:
    """A result that was made within the hour, with its bytes if they are at most so many."""
    found = providers.internal().inspect(key, most)
    if found is None or found.stored + settings().transform_ttl <= seam.timestamp():
        return None
    whole = len(found.start) == found.size
    return Picture(key, asked.media_type(found.start), found.size, found.start if whole else None)


def _made_once(found: Found, options: Options, key: str) -> Picture:
    """Make it, or have what another request makes of it at this moment."""
    begun, lost = seam.timestamp(), ""
    while seam.timestamp() < begun + TAKE_UP:
        claim, is_ours = _claim(key, lost)
        if is_ours:
            return _make(found, options, claim)
        settled = _awaited(claim, begun + WAIT)
        if kept := _kept(key, settings().max_body):  # whatever its row says: who made it may have died since
            return kept
        lost = settled.token if settled is not None and settled.state == MADE else ""
    raise Unavailable("the image is being transformed, which takes long; try again shortly")


def _claim(key: str, lost: str) -> tuple[Transform, bool]:
    """Claim the making of a result, unless it is claimed or settled; gives the row that stands, and whether it is ours.

    `lost` is the token of a row that says of a result that it is there, and it is not.
    """
    now = seam.timestamp()
    row = Transform(key, token=seam.new_token(16), state=MAKING, until=now + CLAIM, expires_at=int(now) + KEPT)
    try:
        row.put(Transform.result_key.does_not_exist() | (Transform.until < now) | (Transform.token == lost))
        return row, True
    except ConditionFailed as failed:
        return failed.row, failed.row.token == row.token  # ours, if an answer was lost


def _awaited(row: Transform | None, deadline: float) -> Transform | None:
    """What becomes of a claim of another's, None if it is given up or past; raises the refusal that it ended with."""
    pause = FIRST_PAUSE
    while row is not None and row.state == MAKING and seam.timestamp() < min(row.until, deadline):
        seam.sleep(pause / 2 + seam.jitter(pause / 2))
        pause = min(pause * 2, LONGEST_PAUSE)
        row = Transform.read(row.result_key)
    if row is not None and row.state == REFUSAL:
        raise _refused(json.loads(row.refusal))
    return row


def _make(found: Found, options: Options, claim: Transform) -> Picture:
    try:
        # Strangers, who may ask for what is published, use up nothing that the tenant's own have.
        allowance = "public transforms" if publishing.is_for_anybody(claim.result_key) else "transforms"
        limits.take(found.bucket.tenant_id, allowance, settings().transforms_per_minute)
        began = seam.timestamp()
        answer = _invoke(found.row, options, claim.result_key)
        outcome = "TransformsRefused" if "refused" in answer else "TransformsMade"
        count({outcome: 1, "TransformMs": (seam.timestamp() - began) * 1000}, "api")
    except Exception:
        with suppress(ConditionFailed, Unavailable):  # taken over by now, or soon past
            claim.remove(Transform.token == claim.token)
        raise
    if "refused" in answer:
        _settle(claim, REFUSAL, OVERCOME if answer["refused"] is _OVERCOME else REFUSED, json.dumps(answer["refused"]))
        raise _refused(answer["refused"])
    _settle(claim, MADE, SETTLED)
    body = answer["body"]
    return Picture(claim.result_key, answer["content_type"], answer["size"], None if body is None else base64.b64decode(body))


def _settle(claim: Transform, state: str, seconds: float, refusal: str | None = None) -> None:
    token, now = claim.token, seam.timestamp()
    settled = Transform(claim.result_key, token=token, state=state, refusal=refusal, until=now + seconds, expires_at=int(now) + KEPT)
    with suppress(ConditionFailed, Unavailable):  # taken over by now, or soon past: the result is there all the same
        settled.put(Transform.token == token)


def _refused(told: Mapping[str, Any]) -> UnprocessableImage:
    return UnprocessableImage(told["message"], **told["details"])


# ---- the image function ------------------------------------------------------------------------------------
# What Lambda reports of a function that a file has brought down: it would do so again.
_BROUGHT_DOWN = frozenset({"Sandbox.Timedout", "Runtime.ExitError", "Runtime.OutOfMemory"})
_OVERCOME = {"message": "the image takes more time or memory to transform than there is; store or ask for a smaller one", "details": {}}
_OF_STORAGE: dict[str, type[StowageError]] = {error.__name__: error for error in (BytesMissing, StorageUnavailable)}


def _invoke(row: StoredObject, options: Options, target: str) -> dict[str, Any]:
    """What the image function answers."""
    source = {"key": staging.copied(row), "size": int(row.size)}
    event = {"source": source, "options": options.to_dict(), "target": target, "inline": settings().max_body}
    try:
        answer = _asked({"FunctionName": settings().image_function, "Payload": json.dumps(event).encode()})
        payload: dict[str, Any] = json.loads(answer["Payload"].read())
    except ClientError as error:
        if error.response["Error"]["Code"] == "TooManyRequestsException":
            raise Throttled("as many images as may be are being transformed; try again shortly", BUSY_PAUSE) from error
        raise Unavailable("the image function cannot be invoked; try again shortly") from error
    except (BotoCoreError, OSError) as error:
        raise Unavailable("the image function does not answer; try again shortly") from error
    return _failure(payload) if "FunctionError" in answer else payload


def _asked(invocation: dict[str, Any]) -> dict[str, Any]:
    began = seam.timestamp()
    try:
        answer: dict[str, Any] = _lambda()._make_api_call("Invoke", invocation)
    except ConnectionClosedError:
        if seam.timestamp() - began > AT_ONCE:
            raise
        # It was kept from before this function was frozen, and Lambda has closed it since.
        answer = _lambda()._make_api_call("Invoke", invocation)
    return answer


def _failure(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What a failed invocation means: raises unless it is the file that the function failed at."""
    kind, message = str(payload.get("errorType", "")), str(payload.get("errorMessage", ""))
    if kind in _BROUGHT_DOWN or "Task timed out" in message:
        return {"refused": _OVERCOME}
    logger().error("the image function failed", extra={"error_type": kind})
    if kind in _OF_STORAGE:
        raise _OF_STORAGE[kind](message)
    raise InternalError("the image could not be transformed; try again, and report the request id if it stays")


@lru_cache(maxsize=1)
def _lambda() -> Any:
    # One attempt: a second would not be answered before the request has ended.
    retries = {"total_max_attempts": 1, "mode": "standard"}
    once = aws.config(connect_timeout=CONNECT_TIMEOUT, read_timeout=INVOKE_TIMEOUT, retries=retries)
    return aws.new_client("lambda", region_name=aws.region(), config=once)
