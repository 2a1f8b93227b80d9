"""A server of S3's protocol, in threads of this process, that checks no signature and answers what a test wants it to.

    with scripted_s3() as server:
        server.say["GET"] = lambda asked: Said(403, error("AccessDenied"))

What it is not told otherwise it does as S3 would. `server.asked` are the operations so far, by the names of `_operation`.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LOOPBACK = "127.0.0.1"
ACCESS_KEY = "SCRIPTED0123456789AB"
SECRET_KEY = "scripted/secret+0123456789abcdefghijklmn"


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    dated: bool = True


@dataclass(frozen=True)
class Asked:
    """A request: `key` without the bucket, header names in lower case."""

    operation: str
    key: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


def error(code: str, message: str = "no", **more: str) -> bytes:
    """S3's way to say no."""
    told = "".join(f"<{name}>{value}</{name}>" for name, value in {"Code": code, "Message": message, **more}.items())
    return f'<?xml version="1.0" encoding="UTF-8"?><Error>{told}</Error>'.encode()


class ScriptedS3:
    """Where it is, what it holds, and what it is to say by operation."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://{LOOPBACK}:{port}"
        self.objects: dict[str, bytes] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.requests: list[Asked] = []
        self.say: dict[str, Callable[[Asked], Said | None]] = {}

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked.operation)
        self.requests.append(asked)
        scripted = self.say.get(asked.operation) or self.say.get("*")
        said = scripted(asked) if scripted else None
        return said if said is not None else getattr(self, f"_{asked.operation.lower()}")(asked)

    def _list(self, asked: Asked) -> Said:
        return Said(200, b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>")

    def _put(self, asked: Asked) -> Said:
        if asked.headers.get("if-none-match") == "*" and asked.key in self.objects:
            return Said(412, error("PreconditionFailed"))
        if "content-md5" in asked.headers or "x-amz-checksum-sha256" in asked.headers:
            return Said(400, error("BadDigest"))  # the probe sends wrong ones alone
        self.objects[asked.key] = asked.body
        self.metadata[asked.key] = {name: value for name, value in asked.headers.items() if name.startswith("x-amz-meta-")}
        return Said(200, headers=self._etag(asked.key))

    def _get(self, asked: Asked) -> Said:
        if asked.key not in self.objects:
            return Said(404, error("NoSuchKey"))
        body = self.objects[asked.key]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
        if wanted is None:
            return Said(200, body, self._etag(asked.key))
        start, end = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
        return Said(206, body[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(body)}", **self._etag(asked.key)})

    def _head(self, asked: Asked) -> Said:
        if asked.key not in self.objects:
            return Said(404)
        return Said(200, self.objects[asked.key], self.metadata[asked.key] | self._etag(asked.key))

    def _delete(self, asked: Asked) -> Said:
        for key in re.findall(r"<Key>(.*?)</Key>", asked.body.decode()):
            self.objects.pop(key, None)
        return Said(200, b"<DeleteResult></DeleteResult>")

    def _versioning(self, asked: Asked) -> Said:
        return Said(200, b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")

    def _create_multipart(self, asked: Asked) -> Said:
        return Said(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")

    def _part(self, asked: Asked) -> Said:
        return Said(200, headers={"ETag": '"part"'})

    def _abort(self, asked: Asked) -> Said:
        return Said(204)

    def _other(self, asked: Asked) -> Said:
        return Said(501, error("NotImplemented"))

    def _etag(self, key: str) -> dict[str, str]:
        return {"ETag": f'"{hashlib.md5(self.objects[key]).hexdigest()}"'}


def _operation(method: str, key: str, query: dict[str, list[str]]) -> str:
    """What S3's protocol means by a request."""
    plain = {"GET": "GET", "PUT": "PUT", "HEAD": "HEAD"}
    for name, operation in (("list-type", "LIST"), ("versioning", "VERSIONING"), ("delete", "DELETE"), ("uploads", "CREATE_MULTIPART")):
        if name in query:
            return operation
    if "uploadId" in query:
        return {"PUT": "PART", "DELETE": "ABORT"}.get(method, "OTHER")
    return plain.get(method, "OTHER") if key else "OTHER"


@contextmanager
def scripted_s3() -> Iterator[ScriptedS3]:
    """The server; its one bucket may be called anything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, keep_blank_values=True)
            key = unquote(parts.path.lstrip("/").partition("/")[2])
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            said = server.answer(Asked(_operation(self.command, key, query), key, query, headers, body))
            self.send_response_only(said.status)
            dated = {"Last-Modified": formatdate(usegmt=True)} if said.dated else {}
            for name, value in ({"Content-Length": str(len(said.body))} | dated | said.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    listening.daemon_threads = True
    server = ScriptedS3(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
