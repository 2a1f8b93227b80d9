"""The connectivity probe: whether a storage can be used, told before it is trusted.

    LIST → PUT → GET, compared by SHA-256 → the extra checks on the same object → DELETE

One engine for both surfaces, which differ in the object's name and in what it holds (CONTRACT "Connectivity probe"). The first three
must succeed. The extra checks tell what the storage keeps of its promises, and choose the safeguards that are used there; a missing
right to delete is a warning. Nothing lists buckets or asks for a bucket as such, for which rights are often missing.

Killed at any step it leaves the test object, which the next probe overwrites or, by another name, is left for the user to remove.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from chalicelib import outbound, seam
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Capabilities, Closable, Provider
from chalicelib.providers.catalogue import KINDS, Connection, opened
from chalicelib.providers.failures import PASSING, Failure, failure
from chalicelib.providers.retries import persistent

WHOLE_TIMEOUT = 19.0
ATTEMPTS = 2
LIST, PUT, GET, DELETE = "LIST", "PUT", "GET", "DELETE"
VAULT_OBJECT = "omegasafe_connection_test.json"


@dataclass(frozen=True, slots=True)
class Profile:
    """The object that a probe writes."""

    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a probe failed: at which `step`, a stable `code`, the seed's wording, and what to do."""

    step: str
    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a probe found, each figure None as far as it is not known. `host_key` is the one that the server has shown."""

    problem: Problem | None = None
    bucket_exists: bool | None = None
    can_write: bool | None = None
    can_read: bool | None = None
    can_delete: bool | None = None
    latency_ms: int | None = None
    warning: str | None = None
    host_key: str = ""
    capabilities: Capabilities = field(default_factory=Capabilities)

    @property
    def succeeded(self) -> bool:
        return self.problem is None

    def findings(self) -> dict[str, Any]:
        """What is stored of it."""
        return {"can_delete": self.can_delete, **asdict(self.capabilities)}


def vault_profile(storage_id: str, user_id: str) -> Profile:
    """The fixed object of seed 000, with exactly its three fields."""
    told = {"storage_uuid": storage_id, "user_uuid": user_id, "timestamp": seam.iso(seam.now())}
    return Profile(VAULT_OBJECT, json.dumps(told).encode())


def backups_profile() -> Profile:
    """The object of seed 001, with a name of its own each time."""
    now = seam.now()
    return Profile(
        f"test-connection-{int(now.timestamp() * 1_000_000)}.txt", f"A connection test of {seam.iso(now)}; it can be removed.\n".encode()
    )


def probe(connection: Connection, tenant_id: str, profile: Profile) -> Result:
    """Try a storage out, in at most 20 s; raises nothing that the storage does."""
    with outbound.within(WHOLE_TIMEOUT) as deadline:
        try:
            bare = opened(connection, tenant_id)
        except StorageUnavailable as error:
            return _failed(Result(), LIST, connection, error)
        try:
            return _looked_at(bare, connection, profile, deadline)
        finally:
            if isinstance(bare, Closable):
                bare.close()


def _looked_at(bare: Provider, connection: Connection, profile: Profile, deadline: outbound.Deadline) -> Result:
    result, step = Result(), LIST
    provider = persistent(bare, seconds=WHOLE_TIMEOUT, attempts=ATTEMPTS)
    try:
        provider.reach()
        result, step = replace(result, bucket_exists=True, host_key=getattr(bare, "shown_host_key", "")), PUT
        provider.put(profile.key, profile.body, "application/json")
        result, step = replace(result, can_write=True), GET
        began = seam.timestamp()
        _compare(provider, profile)
        result = replace(result, can_read=True, latency_ms=max(1, round((seam.timestamp() - began) * 1000)))
    except (StorageUnavailable, BytesMissing) as error:
        return _failed(result, step, connection, failure(Failure.TIMEOUT) if deadline.passed else error)
    return _examined(result, provider, connection, profile)


def _compare(provider: Provider, profile: Profile) -> None:
    body = provider.read(profile.key, 0, len(profile.body))
    if hashlib.sha256(body).digest() != hashlib.sha256(profile.body).digest():
        raise StorageUnavailable("the storage gives other bytes than it was given", "BytesDiffer")


def _examined(result: Result, provider: Provider, connection: Connection, profile: Profile) -> Result:
    """The extra checks, and the end; neither is fatal."""
    with suppress(StorageUnavailable, BytesMissing):
        result = replace(result, capabilities=provider.examine(profile.key, profile.body))
    try:
        refused = next(iter(provider.delete([profile.key]).values()), None)
    except StorageUnavailable as error:
        refused = error.reason or Failure.FAILED.value
    except BytesMissing:
        refused = None  # gone is gone
    if refused is None:
        return replace(result, can_delete=True)
    key = connection.folder + profile.key
    why = Failure.ACCESS_DENIED.value if refused == Failure.ACCESS_DENIED else "refused"  # never a storage's own words
    warning = f"The test object could not be deleted ({why}); it stays at {key}, and so will objects that are deleted here."
    return replace(result, can_delete=False, warning=warning)


# ---- in words --------------------------------------------------------------------------------------------
def _failed(result: Result, step: str, connection: Connection, error: StorageUnavailable | BytesMissing) -> Result:
    code = (error.reason if isinstance(error, StorageUnavailable) else "BytesMissing") or Failure.FAILED.value
    message, hint = _worded(code, connection, error.details)
    problem = Problem(step, code, message, hint)
    refused = None if code in PASSING else False  # what is only out of reach may be permitted
    if step == PUT:
        return replace(result, problem=problem, can_write=refused)
    if step == GET:
        return replace(result, problem=problem, can_read=refused)
    return replace(result, problem=problem, bucket_exists=False if code == Failure.BUCKET_NOT_FOUND else None)


_WORDS = {
    Failure.INVALID_CREDENTIALS: (
        "The AWS Access Key Id you provided does not exist in our records.",
        "Check access key and secret key, also for spaces around them, or make new ones.",
    ),
    Failure.WRONG_SIGNATURE: (
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
        "The access key is known and the secret key does not belong to it: check it, or make new ones.",
    ),
    Failure.BUCKET_NOT_FOUND: (
        "The specified bucket does not exist",
        "Check its spelling, and that it is in this region and account. On a server it is the folder, which has to be there.",
    ),
    Failure.ACCESS_DENIED: (
        "Access Denied",
        "They need rights to list, read and write: on AWS s3:ListBucket, s3:GetObject and s3:PutObject, on R2 Object Read & Write.",
    ),
    Failure.TIMEOUT: (
        "Connection timeout",
        "Check that no firewall stands between: port 443 for HTTPS, 22 for SFTP, 21 for FTP.",
    ),
    Failure.CANNOT_CONNECT: (
        "Could not connect to the endpoint URL",
        "Check the endpoint: on R2 the account id, on B2 the bucket's region, on MinIO protocol and port.",
    ),
    Failure.CONNECTION_REFUSED: (
        "Connection refused",
        "Check that the server runs, its port (22 for SFTP, 21 for FTP), and that its firewall lets us in.",
    ),
    Failure.TLS_FAILED: (
        "SSL: CERTIFICATE_VERIFY_FAILED",
        "The server needs a certificate that is valid for its name; check also whether the endpoint is meant to be http:// or https://.",
    ),
    Failure.AUTHENTICATION_FAILED: (
        "Authentication failed (publickey,password)",
        "access_key is the user and secret_key the password; check that the server allows this way to log in.",
    ),
    Failure.HOST_KEY_CHANGED: (
        "The host key of the server has changed",
        "Somebody may stand between. If the server was set up anew, set host_key to its new key, or to null to trust what it shows next.",
    ),
    Failure.ENDPOINT_REFUSED: (
        "The endpoint leads to an address that is not public, or redirects",
        "Give the address of the storage itself. Private addresses are asked only where the platform allows it.",
    ),
    Failure.CLOCK_SKEWED: (
        "The difference between the request time and the current time is too large.",
        "The storage's clock is wrong by many minutes: set it.",
    ),
    Failure.BUSY: ("The storage is busy or failing", "Try again in a while."),
    "BytesDiffer": (
        "The storage gave back other bytes than it was given",
        "Something between changes what is stored: a proxy, or a server that transfers text.",
    ),
    "BytesMissing": ("The test object is gone right after it was stored", "Something removes objects from the storage: check its rules."),
}


def _worded(code: str, connection: Connection, told: dict[str, Any]) -> tuple[str, str]:
    if code == Failure.WRONG_REGION:
        expected = f"; expecting '{told['expected']}'" if told.get("expected") else ""
        message = f"The authorization header is malformed; the region '{told.get('region', connection.region)}' is wrong{expected}"
        return message, "Set region to the bucket's."
    if code in (Failure.INVALID_CREDENTIALS, Failure.WRONG_SIGNATURE):
        if connection.kind == "backblaze_b2":
            return (
                "Invalid application key",
                "access_key is the application key's id and secret_key the key; it needs access to the bucket.",
            )
        if connection.kind == "azure_blob":
            return "Server failed to authenticate the request", "access_key is the account's name and secret_key its key."
    title = KINDS[connection.kind].title
    return _WORDS.get(code, ("The storage refused the request", f"See what {title} says of it in its own log."))
