"""A server of S3's protocol that checks what S3 checks: OpenStack Swift on loopback, ended with whoever started it.

    with strict_s3(tmp_path) as server:
        storage = S3("bucket", endpoint=server.endpoint, access_key=server.access_key, …)

What it keeps: signatures of version 4 in headers and in URLs, with region, time, every signed header and the body's
SHA-256; no `x-amz-*` header that is not signed; Content-MD5 and `x-amz-checksum-*`; `If-None-Match: *` when an object is
put or an upload completed; the order and size (5 MiB) of parts; keys of 1024 bytes; names of buckets. Nothing is
eventual: what was stored is listed.

What it does not keep:

- `If-Match`, `If-None-Match` with an ETag, `If-(Un)Modified-Since` on what writes, tags, server-side encryption, bucket
  policies, notifications, lifecycles: `NotImplemented`; versions are not kept;
- the checksums of objects: they are checked, not told again;
- CORS: a preflight is answered 403;
- ACLs: they are taken, but nobody reads without a signature, whatever they say;
- a bucket that is missing is `AccessDenied` to the second user, as it may be in S3;
- headers that S3 does not have (`X-Trans-Id`) are in answers; the type of answers without a body is `text/html`;
- the data: they go with the process, as part of them is in its memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import LOOPBACK, listening_port, running


@dataclass(frozen=True)
class StrictS3:
    """Where the server is, the keys of who may do everything there, and those of a second user, who may do nothing."""

    endpoint: str
    access_key: str = "OWNER0123456789ABCDE"
    secret_key: str = "owner/secret+0123456789abcdefghijklmnopq"
    region: str = "us-east-1"
    second_access_key: str = "OTHER0123456789ABCDE"
    second_secret_key: str = "other/secret+0123456789abcdefghijklmnopq"


@contextmanager
def strict_s3(folder: Path) -> Iterator[StrictS3]:
    """A server with no bucket, its files in `folder`, which is empty or not there yet. Raises StartError."""
    folder.mkdir(parents=True, exist_ok=True)
    with running(["tests.servers.swift_process:main", str(folder.resolve())], folder / "log", listening_port) as port:
        yield StrictS3(f"http://{LOOPBACK}:{port}")
