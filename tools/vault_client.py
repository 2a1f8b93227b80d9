"""The vault's reference client: a file is encrypted here, and nobody else ever sees it in clear.

    python tools/vault_client.py create-key laptop             # prints the key's UUID
    python tools/vault_client.py upload KEY_UUID diary.txt     # prints the delta's UUID
    python tools/vault_client.py list KEY_UUID
    python tools/vault_client.py download DELTA_UUID diary.txt

Needs requests, cryptography and tqdm, and in the environment STOWAGE_URL, STOWAGE_TOKEN (a user's token or the service key; SERVICE_KEY
does as well) and, to be asked for nothing, STOWAGE_PASSPHRASE.

A delta is MAGIC, the salt, the nonce, and what AES-256-GCM makes of the file, its tag at the end; the head is authenticated too. The key
is derived from the passphrase by scrypt (RFC 7914) with a salt of the delta's own. A lost passphrase cannot be had back.
"""

import argparse
import base64
import getpass
import hashlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from tqdm import tqdm

MAGIC, SALT_BYTES, NONCE_BYTES, TAG_BYTES = b"stowage1", 16, 12, 16
HEAD_BYTES = len(MAGIC) + SALT_BYTES + NONCE_BYTES
MAX_FILE_BYTES = (10 << 20) - HEAD_BYTES - TAG_BYTES
TIMEOUT = (5, 60)  # seconds, to connect and between bytes


class ClientError(Exception):
    """What went wrong, for whoever typed the command."""


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=2**17, r=8, p=1).derive(passphrase.encode())  # OWASP's first choice: 128 MiB


def encrypt(plain: bytes, passphrase: str) -> bytes:
    """A delta of a file; raises ClientError for one that is too large."""
    if len(plain) > MAX_FILE_BYTES:
        raise ClientError(f"the file is too large: a delta takes at most {MAX_FILE_BYTES} bytes of it")
    head = MAGIC + os.urandom(SALT_BYTES) + os.urandom(NONCE_BYTES)
    return head + AESGCM(_key(passphrase, head[len(MAGIC) : -NONCE_BYTES])).encrypt(head[-NONCE_BYTES:], plain, head)


def decrypt(delta: bytes, passphrase: str) -> bytes:
    """The file of a delta; raises ClientError for a wrong passphrase, or bytes that were changed."""
    head = delta[:HEAD_BYTES]
    if not head.startswith(MAGIC) or len(delta) < HEAD_BYTES + TAG_BYTES:
        raise ClientError("this delta was not made by this client")
    try:
        return AESGCM(_key(passphrase, head[len(MAGIC) : -NONCE_BYTES])).decrypt(head[-NONCE_BYTES:], delta[HEAD_BYTES:], head)
    except InvalidTag:
        raise ClientError("the passphrase is another one, or the delta was changed") from None


class Vault:
    """The vault's API at `url`, under a user's token or the service key."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._headers = url.rstrip("/"), {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        """The JSON of an answer; raises ClientError with what the API says is wrong."""
        return self._answer(method, path, body, **query).json()

    def _answer(self, method: str, path: str, body: dict[str, Any] | None, **query: str) -> requests.Response:
        answer = requests.request(method, self._url + path, json=body, params=query, headers=self._headers, timeout=TIMEOUT)
        if answer.ok:
            return answer
        told = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
        raise ClientError(f"{told.get('code', answer.status_code)}: {told.get('message', answer.reason)}")

    def deltas(self, key_uuid: str) -> Iterator[dict[str, Any]]:
        """The deltas of a key, oldest first."""
        page: dict[str, str] = {}
        while True:
            answer = self._answer("GET", "/deltas/list", None, key_uuid=key_uuid, **page)
            yield from answer.json()
            if "x-next-cursor" not in answer.headers:
                return
            page = {"cursor": answer.headers["x-next-cursor"]}

    def upload(self, key_uuid: str, delta: bytes) -> str:
        """Store a delta, past the API; gives its UUID once that is confirmed."""
        md5 = base64.b64encode(hashlib.md5(delta, usedforsecurity=False).digest()).decode()
        begun = self.ask("POST", "/deltas/upload", {"key_uuid": key_uuid, "size_bytes": len(delta), "content_md5": md5})
        with tqdm.wrapattr(io.BytesIO(delta), "read", total=len(delta), desc="upload", disable=None) as body:
            answer = requests.put(begun["url"], data=body, headers=begun["headers"], timeout=TIMEOUT)
        if not answer.ok and answer.status_code != 412:  # 412: these bytes are there already
            raise ClientError(f"the storage refused the upload with {answer.status_code}")
        self.ask("POST", "/deltas/confirm", {name: begun[name] for name in ("delta_uuid", "upload_attempt_uuid")})
        return str(begun["delta_uuid"])

    def download(self, delta_uuid: str) -> bytes:
        """A delta, past the API."""
        url = self.ask("GET", "/deltas/download", delta_uuid=delta_uuid)["url"]
        with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
            if not answer.ok:
                raise ClientError(f"the storage refused the download with {answer.status_code}")
            body, size = io.BytesIO(), answer.headers.get("Content-Length")
            with tqdm.wrapattr(body, "write", total=int(size) if size else None, desc="download", disable=None) as shown:
                for piece in answer.iter_content(1 << 16):
                    shown.write(piece)
        return body.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0, or 1 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="vault_client.py", description="Keep encrypted files in a Stowage vault.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, told, fields in COMMANDS:
        command = commands.add_parser(name, help=told, description=told)
        for field in fields:
            command.add_argument(field)
    chosen, given = parser.parse_args(arguments), os.environ
    url, token = given.get("STOWAGE_URL"), given.get("STOWAGE_TOKEN") or given.get("SERVICE_KEY")
    try:
        if not url or not token:
            raise ClientError("set STOWAGE_URL and STOWAGE_TOKEN; after `make run`, `source .data/dev.env` does")
        run(chosen, Vault(url, token))
    except (ClientError, requests.RequestException, OSError) as error:
        print(f"vault_client: {error}", file=sys.stderr)
        return 1
    return 0


def run(chosen: argparse.Namespace, vault: Vault) -> None:
    """Do what was asked for, and print what comes of it."""
    if chosen.command == "create-key":
        print(vault.ask("POST", "/keys/create", {"name": chosen.name})["key_uuid"])
    elif chosen.command == "list":
        for delta in vault.deltas(chosen.key_uuid):
            print(delta["delta_uuid"], f"{delta['size_bytes']:>9}", delta["status"], delta["created_at"])
    elif chosen.command == "upload":
        with Path(chosen.file).open("rb") as file:
            plain = file.read(MAX_FILE_BYTES + 1)
        print(vault.upload(chosen.key_uuid, encrypt(plain, _passphrase())))
    else:
        Path(chosen.file).write_bytes(decrypt(vault.download(chosen.delta_uuid), _passphrase()))


def _passphrase() -> str:
    return os.environ.get("STOWAGE_PASSPHRASE") or getpass.getpass("Passphrase: ")


COMMANDS = (
    ("create-key", "make a key on internal storage, and print its UUID", ("name",)),
    ("upload", "encrypt a file, store it as a delta, and print its UUID", ("key_uuid", "file")),
    ("list", "print the deltas of a key: UUID, bytes, status, time", ("key_uuid",)),
    ("download", "fetch a delta and decrypt it into a file", ("delta_uuid", "file")),
)

if __name__ == "__main__":
    sys.exit(main())
