"""Objects as files on an SFTP server (SSH File Transfer Protocol, version 3), by paramiko.

See `providers/tree.py` for what lies where. The server's host key is pinned by whoever gives it; without one the key that the server
shows is accepted, and told by `shown_host_key`. Needs: reading, writing, renaming and making folders in the base folder.
"""

import base64
import errno
import io
import logging
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import paramiko

from chalicelib import outbound
from chalicelib.outbound import Refused, Unreachable
from chalicelib.providers.failures import Failure, failure, of_connection
from chalicelib.providers.tree import Attributes, Denied, Entry, NoSuchPath, Tree, Unreadable, denied, put_in_place

# It logs what it raises as well, with tracebacks.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 7.0
PORT = 22
# Rounds of bcrypt: ssh-keygen takes 16 or 24, and a hundred take a second or two.
MAX_ROUNDS = 100
_OPENSSH_KEY = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END")
_KEYS = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


class SFTP(Tree):
    """A folder of a server. `host_key` as `type base64`, empty: any; `private_key` in PEM or OpenSSH's form, empty: the password counts.

    With a private key the password is its passphrase, if it has one.
    """

    def __init__(
        self,
        host: str,
        base: str,
        *,
        port: int = PORT,
        username: str,
        password: str = "",
        private_key: str = "",
        host_key: str = "",
        prefix: str = "",
    ) -> None:
        super().__init__(base.rstrip("/"), prefix)
        self._host, self._port = host, port
        self._username, self._password, self._private_key = username, password, private_key
        self._host_key = host_key
        self.shown_host_key = ""

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell a server that cannot be reached, or does not let anybody in."""
        try:
            yield
        except paramiko.AuthenticationException as error:
            broke_off = "transport shut down" in str(error)
            raise failure(Failure.CANNOT_CONNECT if broke_off else Failure.AUTHENTICATION_FAILED) from error
        except (paramiko.SSHException, EOFError, OSError, Refused, Unreachable) as error:
            raise failure(of_connection(error)) from error

    def _connect(self) -> "_Session":
        key = read_private_key(self._private_key, self._password) if self._private_key else None
        connected = outbound.connect(self._host, self._port, CONNECT_TIMEOUT)
        transport = paramiko.Transport(connected)
        try:
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = READ_TIMEOUT
            if self._host_key:
                self._prefer_pinned(transport)
            transport.start_client(timeout=READ_TIMEOUT)
            shown = transport.get_remote_server_key()
            self.shown_host_key = f"{shown.get_name()} {shown.get_base64()}"
            if self._host_key and self.shown_host_key != self._host_key:
                raise failure(Failure.HOST_KEY_CHANGED)
            if key is not None:
                transport.auth_publickey(self._username, key)
            else:
                transport.auth_password(self._username, self._password)
            return _Session(transport, connected)
        except BaseException:
            transport.close()
            raise

    def _prefer_pinned(self, transport: paramiko.Transport) -> None:
        """A server with several host keys is to show the one that is pinned."""
        kind = self._host_key.partition(" ")[0]
        options = transport.get_security_options()
        wanted = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
        known = [name for name in wanted if name in options.key_types]
        if known:
            options.key_types = tuple(known)


def read_private_key(text: str, passphrase: str) -> paramiko.PKey:
    """A private key from its text; raises StorageUnavailable for what is none, or when the passphrase does not open it."""
    if _rounds(text) > MAX_ROUNDS:
        raise failure(Failure.AUTHENTICATION_FAILED)
    for kind in _KEYS:
        with suppress(Exception):  # libraries make anything of what is no key
            return kind.from_private_key(io.StringIO(text), passphrase or None)
    raise failure(Failure.AUTHENTICATION_FAILED)


def _rounds(text: str) -> int:
    """How often bcrypt is to hash the passphrase of a key in OpenSSH's form, as the key itself demands (PROTOCOL.key)."""
    match = _OPENSSH_KEY.search(text)
    if match is None:
        return 0
    try:
        data = io.BytesIO(base64.b64decode(match[1]))
        data.read(len(b"openssh-key-v1\0"))
        _, _, options = (data.read(int.from_bytes(data.read(4), "big")) for _ in range(3))
        return int.from_bytes(options[-4:], "big")
    except ValueError:
        return 0


class _Session:
    """A connection that is logged in, with SFTP begun."""

    def __init__(self, transport: paramiko.Transport, connected: Any) -> None:
        self._transport, self._socket = transport, connected
        client = paramiko.SFTPClient.from_transport(transport)
        channel = client.get_channel() if client else None
        if client is None or channel is None:
            raise failure(Failure.FAILED)
        channel.settimeout(READ_TIMEOUT)
        self._client, self._channel = client, channel

    def fileno(self) -> int:
        number: int = self._socket.fileno()
        return number

    def close(self) -> None:
        self._transport.close()

    # ---- Files -----------------------------------------------------------------------------------------
    def write(self, path: str, body: bytes) -> None:
        self._write(path, body, "wx")

    def append(self, path: str, body: bytes) -> None:
        self._write(path, body, "ab")

    def _write(self, path: str, body: bytes, mode: str) -> None:
        with self._telling(), self._client.open(path, mode) as file:
            file.set_pipelined(True)
            file.write(body)

    def read(self, path: str, offset: int, length: int) -> bytes:
        with self._telling(), self._client.open(path, "rb") as file:
            if length > _AT_ONCE:
                return _read_ahead(file, offset, length)
            file.seek(offset)
            return bytes(file.read(length))

    def attributes(self, path: str) -> Attributes | None:
        try:
            with self._telling():
                found = self._client.stat(path)
        except NoSuchPath:
            return None
        return Attributes(found.st_size or 0, stat.S_ISDIR(found.st_mode or 0), float(found.st_mtime or 0))

    def rename(self, source: str, target: str) -> None:
        try:
            with self._telling():
                self._client.posix_rename(source, target)
        except Denied:
            if not self._is_open():
                raise
            self._rename_otherwise(source, target)

    def _rename_otherwise(self, source: str, target: str) -> None:
        """On a server without OpenSSH's extension, which replaces what is there, or in a folder that is not there."""
        if self.attributes(source) is None or self.attributes(target.rpartition("/")[0]) is None:
            raise NoSuchPath(target)
        put_in_place(self._rename, self.remove, source, target, self.attributes(target) is not None)

    def _rename(self, source: str, target: str) -> None:
        with self._telling():
            self._client.rename(source, target)

    def remove(self, path: str) -> None:
        with self._telling():
            self._client.remove(path)

    def make_folder(self, path: str) -> None:
        try:
            with self._telling():
                self._client.mkdir(path)
        except Denied:
            found = self.attributes(path)
            if found is None or not found.is_folder:
                raise

    def remove_folder(self, path: str) -> bool:
        try:
            with self._telling():
                self._client.rmdir(path)
            return True
        except Denied:  # not empty
            return False

    def entries(self, path: str) -> list[Entry]:
        with self._telling():
            found = self._client.listdir_attr(path)
        kinds = ((entry, entry.st_mode or 0) for entry in found)
        return [
            Entry(entry.filename, entry.st_size or 0, stat.S_ISDIR(mode))
            for entry, mode in kinds
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode)
        ]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What a server's answer to one request means."""
        try:
            yield
        except TimeoutError:
            raise
        except UnicodeDecodeError as error:
            raise Unreadable("the folder holds a file whose name is not UTF-8; rename it", Failure.FAILED.value) from error
        except OSError as error:
            if error.errno in _ABSENT:
                raise NoSuchPath(str(error.errno)) from error
            if error.errno == errno.EACCES:
                raise denied(Failure.ACCESS_DENIED) from error
            if error.errno is None and type(error) is OSError and self._is_open():  # SSH_FX_FAILURE and the like: the server has answered
                raise denied(Failure.FAILED) from error
            raise

    def _is_open(self) -> bool:
        return bool(self._transport.is_active() and not self._channel.closed)


_AT_ONCE = 32 << 10


def _read_ahead(file: paramiko.SFTPFile, offset: int, length: int) -> bytes:
    """Many requests at once instead of one after the other: a round trip each is what makes SFTP slow."""
    ends = min(offset + length, file.stat().st_size or 0)  # what is asked for beyond the end is waited for without end
    chunks = [(start, min(_AT_ONCE, ends - start)) for start in range(offset, ends, _AT_ONCE)]
    return b"".join(file.readv(chunks))
