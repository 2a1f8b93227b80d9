"""The two TUS servers that are measured, as processes of their own, and the one client that uploads to both."""

import base64
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.rig import Rig
from infra import stack

PEER = Path(__file__).parent / "peer"
PEER_BUCKET = "tus-peer"
BUCKET = "uploads"
# As large as the local server takes a request: for chunks of 8 MiB.
MAX_BODY = 10 << 20
# Seconds.
_TIMEOUT = 120
_START_TIMEOUT = 60
_STOP_TIMEOUT = 25
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Kind:
    """One of the two: how to start it, where its uploads begin, and where in S3 the bytes come to lie."""

    name: str
    command: Callable[[int], list[str]]
    path: str
    s3_bucket: str
    s3_prefixes: tuple[str, ...]
    headers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def ours(rig: Rig) -> Kind:
    """Stowage as `infra/run.py` starts it, and a tenant with a bucket."""
    tenant = rig.tenant("uploads")
    tenant.service.bucket(BUCKET)

    def command(port: int) -> list[str]:
        local = ["chalice.cli:main", "local", "--host", "127.0.0.1", "--port", str(port), "--no-autoreload"]
        return [sys.executable, "-m", "infra.lifeline", *local]

    return Kind(
        "Stowage",
        command,
        "/storage/v1/upload/tus",
        os.environ["STOWAGE_S3_BUCKET"],
        (f"objects/{tenant.tenant_id}-{BUCKET}/", "uploads/"),
        {"Authorization": f"Bearer {tenant.service_key}"},
        {"STOWAGE_MAX_BODY": str(MAX_BODY), "STOWAGE_LOG_LEVEL": "INFO", "PYTHONUNBUFFERED": "1", "AWS_EC2_METADATA_DISABLED": "true"},
    )


def peer() -> Kind:
    """`@tus/server` before `@tus/s3-store`, installed when it is not, and a bucket of its own."""
    install_peer()
    stack.aws_client("s3", os.environ).create_bucket(Bucket=PEER_BUCKET)

    def command(port: int) -> list[str]:
        return ["node", str(PEER / "server.mjs")]

    return Kind("@tus/server", command, "/files", PEER_BUCKET, ("",), environment={"BUCKET": PEER_BUCKET})


def install_peer() -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        raise SystemExit("stowage: what is measured has its peer on Node; install node 20.19 or later, with npm")
    lock, installed = PEER / "package-lock.json", PEER / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    print("  installing the peers into benchmarks/peer, once", file=sys.stderr, flush=True)
    done = subprocess.run(
        ["npm", "ci", "--prefix", str(PEER), "--no-audit", "--no-fund"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"stowage: npm could not install the peer; it said:\n{done.stdout.strip()}")
    installed.touch()


class Server:
    """A running server of one kind."""

    def __init__(self, kind: Kind, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.kind = kind
        self._process = process
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)

    def upload(self, chunk: bytes, number: int, after_answer: Callable[[], object] = lambda: None) -> float:
        """Upload `chunk` that many times over as one file; gives the seconds that it took."""
        total = len(chunk) * number
        self._connection.close()  # Node's server closes one that was idle for 5 s; it is opened anew by itself
        began = time.perf_counter()
        path = self._create(total)
        after_answer()
        for offset in range(0, total, len(chunk)):
            sent = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
            answer = self._ask("PATCH", path, chunk, sent)
            if answer.get("upload-offset") != str(offset + len(chunk)):
                raise RuntimeError(f"{self.kind.name} is at byte {answer.get('upload-offset')}, not {offset + len(chunk)}")
            after_answer()
        return time.perf_counter() - began

    def _create(self, total: int) -> str:
        named = {"bucket": BUCKET, "filename": f"{time.time_ns()}.bin", "filetype": "application/octet-stream"}
        metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in named.items())
        answer = self._ask("POST", self.kind.path, None, {"Upload-Length": str(total), "Upload-Metadata": metadata})
        return urlsplit(answer["location"]).path

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> dict[str, str]:
        self._connection.request(method, path, body, {"Tus-Resumable": "1.0.0", **self.kind.headers, **headers})
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status not in (201, 204):
            raise RuntimeError(f"{self.kind.name} answered {method} with {answer.status}: {said.decode(errors='replace')}")
        return {name.lower(): value for name, value in answer.getheaders()}

    def cpu_seconds(self) -> float:
        """Of all its threads since it began, within and without the kernel."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_bytes(self) -> int:
        """The most memory that it has had resident."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024


@contextmanager
def running(kind: Kind, endpoint: str | None = None) -> Iterator[Server]:
    """A new server of a kind, against the embedded AWS, or what stands before it at `endpoint`."""
    with socket.socket() as probe, tempfile.TemporaryFile() as log:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        process = stack.spawn(kind.command(port), _environment(kind, port, endpoint), output=log)
        try:
            if not stack.await_answer(port, "/health", process, _START_TIMEOUT):
                log.seek(0)
                raise RuntimeError(f"{kind.name} did not start:\n{log.read().decode(errors='replace')}")
            yield Server(kind, process, port)
        finally:
            stack.stop(process, _STOP_TIMEOUT)


def _environment(kind: Kind, port: int, endpoint: str | None) -> dict[str, str]:
    there = {} if endpoint is None else {"AWS_ENDPOINT_URL": endpoint}
    return {**os.environ, **kind.environment, **there, "PORT": str(port)}


def take_out(kind: Kind, total: int, expected: str | None = None) -> None:
    """Remove what an upload left in S3, which the embedded AWS keeps in memory; that it lay there whole is checked first.

    `expected` is the SHA-256 in hex, where all bytes are to be looked at.
    """
    s3 = stack.aws_client("s3", os.environ)
    pages = s3.get_paginator("list_objects_v2")
    found = [
        each
        for prefix in kind.s3_prefixes
        for page in pages.paginate(Bucket=kind.s3_bucket, Prefix=prefix)
        for each in page.get("Contents", ())
    ]
    whole = [each["Key"] for each in found if each["Size"] == total]
    if len(whole) != 1 or (expected and _sha256(s3, kind.s3_bucket, whole[0]) != expected):
        raise RuntimeError(f"{kind.name} did not store the {total} bytes that it took")
    s3.delete_objects(Bucket=kind.s3_bucket, Delete={"Objects": [{"Key": each["Key"]} for each in found], "Quiet": True})


def _sha256(s3: Any, bucket: str, key: str) -> str:
    import hashlib

    running = hashlib.sha256()
    for piece in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
        running.update(piece)
    return running.hexdigest()
