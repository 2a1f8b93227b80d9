"""An identity provider: keys of its own, and a real HTTP server on loopback that publishes the public ones."""

import base64
import json
import threading
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Handler = Callable[[BaseHTTPRequestHandler], None]


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@cache
def rsa_key(name: str = "rsa", bits: int = 2048) -> rsa.RSAPrivateKey:
    """One key a name: making one takes a while."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str = "ec", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def jwk(key: Any, kid: str | None = None, **changed: Any) -> dict[str, Any]:
    """The public part of a key as a JWK; a member that is changed to `...` is left out."""
    algorithm: Any = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    whole = algorithm.to_jwk(key.public_key(), as_dict=True) | ({} if kid is None else {"kid": kid})
    whole.pop("key_ops", None)
    return {name: value for name, value in (whole | changed).items() if value is not ...}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


class Web:
    """A server on 127.0.0.1 that answers `status` and `body`, or as `handler` does; `asked` are the paths of its requests."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {}
        self.handler: Handler | None = None
        self.asked: list[str] = []
        self.sent: list[dict[str, str]] = []
        web = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                web.sent.append({name.lower(): value for name, value in self.headers.items()})
                (web.handler or web._answer)(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks.json"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(self.status)
        for name, value in ({"Content-Length": str(len(self.body))} | self.headers).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(self.body)

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = key_set(*keys)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
