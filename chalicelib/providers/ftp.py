"""Objects as files on an FTP server (RFC 959, RFC 3659, RFC 4217 for TLS), by the standard library's ftplib.

See `providers/tree.py` for what lies where. Folders are listed by MLSD, or on servers that lack it by LIST as Unix writes it. Data is
always fetched passively, and from the very address that the control connection leads to: a server cannot send us elsewhere.
Needs: reading, writing, renaming and making folders in the base folder.
"""

import ftplib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from socket import SHUT_RDWR, socket
from typing import Any

from chalicelib import outbound
from chalicelib.outbound import Refused, Unreachable
from chalicelib.providers.failures import Failure, failure, of_connection
from chalicelib.providers.tree import Attributes, Denied, Entry, NoSuchPath, Tree, denied, put_in_place

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 7.0
ENDS_WITHIN = 2.0
PORT = 21
EXPLICIT, IMPLICIT, NONE = "explicit", "implicit", "none"
# Bytes: some hundred thousand files in one folder.
MAX_LISTING = 64 << 20
_UNKNOWN_COMMAND = frozenset({"500", "501", "502", "504"})
_NOT_LOGGED_IN = "530"
_UNIX = re.compile(r"([-dl])\S{9,}\s+\d+\s+\S+\s+\S+\s+(\d+)\s+\w{3}\s+\d{1,2}\s+[\d:]{4,5} (.*)")


class FTP(Tree):
    """A folder of a server. `tls` is `explicit` (asked for on the usual port), `implicit` (from the first byte on) or `none`."""

    def __init__(
        self, host: str, base: str, *, port: int = PORT, username: str, password: str, tls: str = EXPLICIT, prefix: str = ""
    ) -> None:
        super().__init__(base.rstrip("/"), prefix)
        self._host, self._port = host, port
        self._username, self._password, self._tls = username, password, tls

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell a server that cannot be reached, or that refuses, from one that is busy."""
        try:
            yield
        except ftplib.error_perm as error:
            code = str(error)[:3]
            raise failure(Failure.AUTHENTICATION_FAILED if code == _NOT_LOGGED_IN else Failure.ACCESS_DENIED) from error
        except ftplib.error_temp as error:
            raise failure(Failure.BUSY) from error
        except (ftplib.Error, EOFError, OSError, Refused, Unreachable) as error:
            raise failure(of_connection(error)) from error

    def _connect(self) -> "_Session":
        made = _Screened() if self._tls == NONE else _ScreenedTLS(self._tls == IMPLICIT)
        try:
            made.begin(self._host, self._port)
            try:
                made.login(self._username, self._password)
            except ftplib.error_perm as error:
                raise failure(Failure.AUTHENTICATION_FAILED) from error
            if isinstance(made, ftplib.FTP_TLS):
                made.prot_p()
            made.voidcmd("TYPE I")
            return _Session(made)
        except BaseException:
            made.close()
            raise


class _Begun:
    """Mixed into ftplib's classes: connects to screened addresses, and reuses the one of the control connection for data."""

    sock: Any
    timeout: Any

    def begin(self, host: str, port: int) -> None:
        self.host, self.port, self.timeout = host, port, READ_TIMEOUT
        self.sock = self._secured(outbound.connect(host, port, CONNECT_TIMEOUT))
        self.sock.settimeout(READ_TIMEOUT)
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding="utf-8")
        self.welcome = self.getresp()  # type: ignore[attr-defined]

    def _secured(self, connected: socket) -> socket:
        return connected

    def makepasv(self) -> tuple[str, int]:
        _, port = super().makepasv()  # type: ignore[misc]
        return self.sock.getpeername()[0], port


class _Screened(_Begun, ftplib.FTP):
    encoding = "utf-8"


class _ScreenedTLS(_Begun, ftplib.FTP_TLS):
    """Explicit TLS asks for it at login, as FTP_TLS does by itself; implicit begins with it."""

    encoding = "utf-8"

    def __init__(self, implicit: bool) -> None:
        super().__init__(context=ssl.create_default_context())
        self._implicit = implicit

    def _secured(self, connected: socket) -> socket:
        if not self._implicit:
            return connected
        connected.settimeout(READ_TIMEOUT)
        return self.context.wrap_socket(connected, server_hostname=self.host)

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> Any:
        """Data connections of a session are resumed from the control connection's, which many servers demand."""
        connected, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321  # a tenant's own choice
        session = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
        return self.context.wrap_socket(connected, server_hostname=self.host, session=session), size


class _Session:
    """A connection that is logged in and transfers bytes as they are."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._home = str(client.pwd())
        self._lists_by_machine = True

    def fileno(self) -> int:
        return -1 if self._client.sock is None else int(self._client.sock.fileno())

    def close(self) -> None:
        self._client.close()

    # ---- Files -----------------------------------------------------------------------------------------
    def write(self, path: str, body: bytes) -> None:
        self._store("STOR", path, body, 0)

    def append(self, path: str, body: bytes) -> None:
        before = self._size(path)
        self._store("APPE", path, body, before)

    def _store(self, command: str, path: str, body: bytes, before: int) -> None:
        try:
            with self._transfer(f"{command} {self._at(path)}") as connected:
                connected.sendall(body)
                if isinstance(connected, ssl.SSLSocket):
                    connected.unwrap()  # servers tell by it that the file is whole
            self._client.voidresp()
        except ftplib.error_perm as error:
            if self.attributes(path.rpartition("/")[0]) is None:
                raise NoSuchPath(path) from error
            raise denied(Failure.ACCESS_DENIED) from error
        if self._size(path) != before + len(body):  # a connection that broke may look like the end of the file
            raise failure(Failure.FAILED)

    @contextmanager
    def _transfer(self, command: str, rest: int | None = None) -> Iterator[Any]:
        """A data connection. It is shut by hand: a deadline that watches it would keep it open."""
        connected = self._client.transfercmd(command, rest)
        try:
            connected.settimeout(READ_TIMEOUT)
            outbound.watch(connected)
            yield connected
        finally:
            with suppress(OSError):
                connected.shutdown(SHUT_RDWR)
            connected.close()

    def _size(self, path: str) -> int:
        with self._telling(path):
            return int(self._client.size(self._at(path)))

    def read(self, path: str, offset: int, length: int) -> bytes:
        with self._telling(path):
            body = bytearray()
            with self._transfer(f"RETR {self._at(path)}", offset or None) as connected:
                while len(body) < length and (piece := connected.recv(min(1 << 20, length - len(body)))):
                    body += piece
            if len(body) < length:
                self._client.voidresp()
            else:
                self._leave_off()
        return bytes(body)

    def _leave_off(self) -> None:
        """Hear how a transfer ended of which enough was fetched. A session whose server does not say so soon is done with."""
        self._client.sock.settimeout(ENDS_WITHIN)
        try:
            self._client.voidresp()
        except (ftplib.error_temp, ftplib.error_perm):
            pass  # that it was cut short
        except (ftplib.Error, EOFError, OSError):
            self.close()
            return
        self._client.sock.settimeout(READ_TIMEOUT)

    def attributes(self, path: str) -> Attributes | None:
        at = self._at(path)
        try:
            size = int(self._client.size(at))
            told = self._client.sendcmd(f"MDTM {at}").split()[1]
        except ftplib.error_perm:
            if self._is_folder(at):
                return Attributes(0, True, 0.0)
            self._require_absence(at)
            return None
        return Attributes(size, False, datetime.strptime(told[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())

    def _is_folder(self, at: str) -> bool:
        try:
            self._client.cwd(at)
            return True
        except ftplib.error_perm:
            return False

    def _require_absence(self, at: str) -> None:
        """Raise StorageUnavailable unless the nearest folder that can be entered shows that nothing is there: 550 may mean much."""
        folder, _, name = at.rstrip("/").rpartition("/")
        while not self._is_folder(folder or "/"):
            folder, _, name = folder.rpartition("/")
            if not name:
                raise denied(Failure.ACCESS_DENIED)
        found = {entry.name: entry for entry in self.entries(folder or "/")}
        if name in found and (found[name].is_folder or f"{folder}/{name}" == at):
            raise denied(Failure.ACCESS_DENIED)

    def rename(self, source: str, target: str) -> None:
        try:
            self._rename(source, target)
        except Denied:
            if self.attributes(target.rpartition("/")[0]) is None:
                raise NoSuchPath(target) from None
            try:  # the folder may have been made by another in between
                self._rename(source, target)
            except Denied:
                if self.attributes(target) is None:
                    raise
                put_in_place(self._rename, self.remove, source, target, is_taken=True)

    def _rename(self, source: str, target: str) -> None:
        with self._telling(source):
            self._client.rename(self._at(source), self._at(target))

    def remove(self, path: str) -> None:
        with self._telling(path):
            self._client.delete(self._at(path))

    def make_folder(self, path: str) -> None:
        try:
            self._client.mkd(self._at(path))
        except ftplib.error_perm as error:
            if not self._is_folder(self._at(path)):
                raise denied(Failure.ACCESS_DENIED) from error

    def remove_folder(self, path: str) -> bool:
        try:
            self._client.rmd(self._at(path))
            return True
        except ftplib.error_perm:  # not empty
            return False

    def entries(self, path: str) -> list[Entry]:
        with self._telling(path):
            self._client.cwd(self._at(path))
            if self._lists_by_machine:
                try:
                    return [entry for line in self._lines("MLSD") if (entry := _of_facts(line))]
                except ftplib.error_perm as error:
                    if str(error)[:3] not in _UNKNOWN_COMMAND:
                        raise
                    self._lists_by_machine = False
            return [entry for line in self._lines("LIST -a") if (entry := _of_line(line))]

    def _lines(self, command: str) -> list[str]:
        """The lines of a listing. ftplib's own way would leave the session in ASCII mode, in which nothing has a size."""
        text = bytearray()
        with self._transfer(command) as connected:
            while piece := connected.recv(1 << 16):
                text += piece
                if len(text) > MAX_LISTING:
                    raise failure(Failure.FAILED)
        self._client.voidresp()
        lines = bytes(text).replace(b"\r\n", b"\n").split(b"\n")
        return [line.decode() for line in lines if _is_utf8(line)]  # no name of ours is anything else

    def _at(self, path: str) -> str:
        if path.startswith("/"):
            return path
        return f"{self._home.rstrip('/')}/{path.removeprefix('.').removeprefix('/')}"

    @contextmanager
    def _telling(self, path: str) -> Iterator[None]:
        """A refusal of what is asked of a path: that it is not there, where that is so."""
        try:
            yield
        except ftplib.error_perm as error:
            if self.attributes(path) is None:
                raise NoSuchPath(path) from error
            raise denied(Failure.ACCESS_DENIED) from error


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
        return True
    except UnicodeDecodeError:
        return False


def _of_facts(line: str) -> Entry | None:
    """An entry from a line of MLSD: `type=file;size=3;… name` (RFC 3659 §7)."""
    facts, _, name = line.partition(" ")
    told = dict(fact.lower().partition("=")[::2] for fact in facts.split(";") if fact)
    kind = told.get("type")
    return Entry(name, int(told.get("size", 0)), kind == "dir") if name and kind in ("file", "dir") else None


def _of_line(line: str) -> Entry | None:
    match = _UNIX.fullmatch(line)
    if match is None or match[1] == "l" or match[3] in (".", ".."):
        return None
    return Entry(match[3], int(match[2]), match[1] == "d")
