"""What only storages on servers' files can get wrong, and what Azure and S3 have of their own: joining, folders, prefixes, URLs."""

import hashlib
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalicelib import seam
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Capabilities, Listed, ListedPart, Part, catalogue, tree
from chalicelib.providers.azure import Azure
from chalicelib.providers.failures import Failure, failure
from chalicelib.providers.ftp import FTP
from chalicelib.providers.retries import persistent
from chalicelib.providers.s3 import S3
from chalicelib.providers.sftp import SFTP
from chalicelib.providers.tree import Tree
from tests.servers.asyncssh_server import asyncssh_server
from tests.servers.ftp import FTPServer
from tests.servers.pyftpd import pyftpd
from tests.servers.ssh import SSHServer
from tests.servers.vsftpd import vsftpd

pytestmark = pytest.mark.xdist_group("trees")
TEXT = "text/plain"


@dataclass(frozen=True)
class Served:
    """A server, and how providers on it are made."""

    kind: str
    server: Any
    make: Callable[..., Any]

    @property
    def root(self) -> Path:
        root: Path = self.server.root
        return root

    def files(self, below: str = "") -> list[str]:
        """Every file in the root's folder `below`."""
        found = (self.root / below).rglob("*")
        return sorted(str(path.relative_to(self.root / below)) for path in found if path.is_file())


def on_sftp(server: SSHServer) -> Served:
    def make(base: str = ".", prefix: str = "") -> SFTP:
        return SFTP(server.host, base, port=server.port, username=server.username, password=str(server.password), prefix=prefix)

    return Served("sftp", server, make)


def on_ftp(server: FTPServer) -> Served:
    def make(base: str = ".", prefix: str = "") -> FTP:
        where = {"port": server.port, "username": server.username, "password": server.password}
        return FTP(server.host, base, **where, tls="none", prefix=prefix)  # type: ignore[arg-type]

    return Served("ftp", server, make)


@pytest.fixture(scope="module")
def every_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    with ExitStack() as stack:
        ssh = stack.enter_context(asyncssh_server(tmp_path_factory.mktemp("asyncssh")))
        ftp = stack.enter_context(pyftpd(tmp_path_factory.mktemp("pyftpd")))
        old = stack.enter_context(vsftpd(tmp_path_factory.mktemp("vsftpd")))
        yield {"sftp": on_sftp(ssh), "ftp": on_ftp(ftp), "vsftpd": on_ftp(old)}


@pytest.fixture(params=["sftp", "ftp"])
def served(request: pytest.FixtureRequest, every_server: dict[str, Served]) -> Served:
    chosen: Served = every_server[request.param]
    return chosen


@pytest.fixture
def base(served: Served) -> str:
    """A folder of the server's that no other test uses."""
    name = seam.new_uuid()
    (served.root / name).mkdir()
    return name


@pytest.fixture
def provider(served: Served, base: str) -> Any:
    return served.make(base)


def begun(provider: Any, key: str, sizes: list[int]) -> tuple[str, list[Part], bytes]:
    """An upload with parts of these sizes; gives its id, its parts and their bytes."""
    upload = provider.create_multipart(key, TEXT)
    bodies = [bytes([number]) * size for number, size in enumerate(sizes, 1)]
    return upload, [provider.upload_part(key, upload, number, body) for number, body in enumerate(bodies, 1)], b"".join(bodies)


def completed(provider: Any, key: str, upload: str, parts: list[Part], at_most: int = 50) -> int:
    """Completes an upload in as many calls as it takes; gives their number."""
    for calls in range(1, at_most):
        try:
            provider.complete_multipart(key, upload, parts)
        except StorageUnavailable as error:
            assert error.reason == Failure.ASSEMBLING  # noqa: PT017
        else:
            return calls
    pytest.fail("it is never complete")


# ---- joining -----------------------------------------------------------------------------------------------------
@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is time for one part a call."""
    monkeypatch.setattr(tree, "JOINS_FOR", 0)


@pytest.mark.usefixtures("hurried")
def test_an_object_is_completed_in_as_many_calls_as_it_takes(provider: Any) -> None:
    upload, parts, body = begun(provider, "a/b", [1000, 1, 70_000, 5, 300_000])
    calls = completed(provider, "a/b", upload, parts)
    assert calls == len(parts)
    assert provider.read("a/b", 0, len(body)) == body
    provider.complete_multipart("a/b", upload, parts)


@pytest.mark.usefixtures("hurried")
def test_nothing_is_seen_before_it_is_whole_and_nothing_stays(provider: Any, served: Served, base: str) -> None:
    upload, parts, _ = begun(provider, "a", [10, 10, 10])
    with pytest.raises(StorageUnavailable):
        provider.complete_multipart("a", upload, parts)
    assert provider.stat("a") is None
    assert list(provider.list("")) == []
    assert [part.size for part in provider.list_parts("a", upload)] == [10, 10, 10]
    completed(provider, "a", upload, parts)
    assert served.files(base) == ["a"]


@pytest.mark.usefixtures("hurried")
def test_an_upload_that_is_joined_in_part_can_be_given_up(provider: Any, served: Served, base: str) -> None:
    upload, parts, _ = begun(provider, "a", [10, 10, 10])
    with pytest.raises(StorageUnavailable):
        provider.complete_multipart("a", upload, parts)
    assert provider.abort_all("a") == 1
    assert served.files(base) == []
    with pytest.raises(BytesMissing):
        provider.complete_multipart("a", upload, parts)


@pytest.mark.usefixtures("hurried")
def test_another_choice_of_parts_begins_anew(provider: Any) -> None:
    upload, parts, _ = begun(provider, "a", [10, 20, 30])
    with pytest.raises(StorageUnavailable):
        provider.complete_multipart("a", upload, parts)
    completed(provider, "a", upload, parts[1:])
    assert provider.read("a", 0, 50) == b"\2" * 20 + b"\3" * 30


@pytest.mark.usefixtures("hurried")
def test_a_part_that_was_replaced_while_it_was_joined_is_a_failure_that_is_told(provider: Any) -> None:
    upload, parts, _ = begun(provider, "a", [10, 20, 30])
    with pytest.raises(StorageUnavailable):
        provider.complete_multipart("a", upload, parts)
    provider.upload_part("a", upload, 1, b"another")
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            provider.complete_multipart("a", upload, parts)
    assert provider.stat("a") is None


def dying(monkeypatch: pytest.MonkeyPatch, provider: Any, method: str) -> None:
    """Has the provider's next connection die at the first call of a method of its files."""
    real = provider._connections.one

    class Dying:
        def __init__(self, files: Any) -> None:
            self._files = files

        def __getattr__(self, name: str) -> Any:
            if name == method:
                monkeypatch.setattr(provider._connections, "one", real)
                raise ConnectionResetError
            return getattr(self._files, name)

    from contextlib import contextmanager

    @contextmanager
    def one() -> Iterator[Any]:
        with real() as files:
            yield Dying(files)

    monkeypatch.setattr(provider._connections, "one", one)


def test_what_a_joiner_left_that_died_is_joined_by_a_later_call(
    provider: Any, served: Served, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, parts, body = begun(provider, "a", [1000, 2000, 3000])
    dying(monkeypatch, provider, "append")
    with pytest.raises(StorageUnavailable):
        provider.complete_multipart("a", upload, parts)
    left = list((served.root / base / ".stowage" / "parts" / upload).glob("joining.*"))
    assert len(left) == 1
    with pytest.raises(StorageUnavailable) as told:  # it may still be at it
        provider.complete_multipart("a", upload, parts)
    assert told.value.reason == Failure.ASSEMBLING
    os.utime(left[0], (time.time() - 3600,) * 2)
    provider.complete_multipart("a", upload, parts)
    assert provider.read("a", 0, len(body)) == body
    assert served.files(base) == ["a"]


def test_the_only_part_of_an_upload_outlives_who_publishes_it(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, parts, body = begun(provider, "a", [1000])
    publish = Tree._publish

    def dies(*_: Any) -> None:
        monkeypatch.setattr(Tree, "_publish", publish)
        raise failure(Failure.CANNOT_CONNECT)

    monkeypatch.setattr(Tree, "_publish", dies)
    with pytest.raises(StorageUnavailable):
        provider.complete_multipart("a", upload, parts)
    provider.complete_multipart("a", upload, parts)
    assert provider.read("a", 0, len(body)) == body


@pytest.mark.usefixtures("hurried")
def test_of_several_joiners_none_says_that_there_is_no_upload(served: Served, base: str) -> None:
    told: list[Exception] = []
    for number in range(12):
        one = served.make(base)
        upload, parts, body = begun(one, f"a{number}", [1000] * (number % 6 + 1))

        def complete(_: int, key: str = f"a{number}", upload: str = upload, parts: list[Part] = parts) -> None:
            for _ in range(len(parts) + 3):
                try:
                    served.make(base).complete_multipart(key, upload, parts)
                except StorageUnavailable:
                    continue
                except BytesMissing as error:
                    told.append(error)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(complete, range(4)))
        complete(0)  # they may have been in each other's way to the end
        assert one.read(f"a{number}", 0, len(body)) == body
    assert told == []


def test_joiners_at_once_never_mix(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "JOINS_FOR", 0.005)
    sizes = [20_000 + number for number in range(12)]
    upload, parts, body = begun(provider, "a", sizes)

    def complete(_: int) -> None:
        for _ in range(20):
            with suppress(StorageUnavailable, BytesMissing):
                provider.complete_multipart("a", upload, parts)
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(complete, range(4)))
    deadline = time.monotonic() + 20
    while provider.stat("a") is None and time.monotonic() < deadline:
        with suppress(StorageUnavailable):
            provider.complete_multipart("a", upload, parts)
    assert hashlib.sha256(provider.read("a", 0, len(body))).digest() == hashlib.sha256(body).digest()
    assert provider.stat("a").size == len(body)


# ---- what is its own ---------------------------------------------------------------------------------------------
def test_its_own_folder_is_not_listed_and_keys_of_that_name_are_kept_apart(provider: Any, served: Served, base: str) -> None:
    upload = provider.create_multipart("a", TEXT)
    provider.upload_part("a", upload, 1, b"part")
    (served.root / base / ".stowage" / "staging" / "left").write_bytes(b"x")
    assert list(provider.list("")) == list(provider.list(".stowage")) == list(provider.list(".stowage/")) == []
    keys = [".stowage/parts/x", ".stowage/staging/left", ".stowage", "%.stowage/x", ".stowage2/x", "b/.stowage/x"]
    for key in keys[:2] + keys[3:]:
        provider.put(key, key.encode(), TEXT)
    assert [listed.key for listed in provider.list("")] == sorted(keys[:2] + keys[3:], key=str.encode)
    assert [listed.key for listed in provider.list(".stowage/")] == keys[:2]
    assert provider.read(keys[1], 0, 5) == b".stow"
    assert (served.root / base / ".stowage" / "staging" / "left").read_bytes() == b"x"
    assert provider.delete(keys) == {}
    assert list(provider.list("")) == []
    assert [part.size for part in provider.list_parts("a", upload)] == [4]


def test_what_writes_have_left_goes_after_a_day(provider: Any, served: Served, base: str) -> None:
    provider.put("probe", b"12345", TEXT)
    staging = served.root / base / ".stowage" / "staging"
    for name, age in (("old", 25 * 3600), ("young", 23 * 3600)):
        (staging / name).write_bytes(b"x")
        os.utime(staging / name, (time.time() - age,) * 2)
    found = provider.examine("probe", b"12345")
    assert [path.name for path in staging.iterdir()] == ["young"]
    assert (found.range_read, found.multipart, found.conditional_put, found.versioning) == (True, True, None, None)
    assert abs(found.clock_skew_seconds) < 20


def test_what_giving_up_has_left_goes_after_a_day_too(provider: Any, served: Served, base: str) -> None:
    provider.put("probe", b"12345", TEXT)
    left = served.root / base / ".stowage" / "staging" / "f"
    left.mkdir()
    (left / "0000001.part").write_bytes(b"x")
    for path in (left / "0000001.part", left):
        os.utime(path, (time.time() - 48 * 3600,) * 2)
    provider.examine("probe", b"12345")
    assert not left.exists()


# ---- folders -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("slashes", ["{}", "{}/", "./{}", "/{}", "/{}/"])
def test_a_base_may_be_relative_or_absolute(served: Served, base: str, slashes: str) -> None:
    provider = served.make(slashes.format(base))
    provider.reach()
    provider.put("a/b", b"x", TEXT)
    assert (served.root / base / "a" / "b").read_bytes() == b"x"
    assert list(provider.list("")) == [Listed("a/b", 1)]
    assert provider.delete(["a/b"]) == {}
    assert (served.root / base).is_dir()


@pytest.mark.parametrize(
    "ask",
    [
        lambda provider: provider.reach(),
        lambda provider: provider.stat("a"),
        lambda provider: provider.inspect("a", 5),
        lambda provider: provider.read("a", 0, 5),
        lambda provider: provider.put("a", b"x", TEXT),
        lambda provider: list(provider.list("")),
        lambda provider: list(provider.list("a/b/")),
        lambda provider: provider.create_multipart("a", TEXT),
        lambda provider: provider.abort_all("a"),
        lambda provider: provider.delete(["a"]),
    ],
    ids=["reach", "stat", "inspect", "read", "put", "list", "list below", "create_multipart", "abort_all", "delete"],
)
def test_a_base_that_is_missing_is_told_and_not_made(served: Served, ask: Callable[[Any], Any]) -> None:
    name = f"missing-{seam.new_uuid()}"
    with pytest.raises(StorageUnavailable) as told:
        ask(served.make(name, "prefix"))
    assert told.value.reason == Failure.BUCKET_NOT_FOUND
    assert not (served.root / name).exists()


def test_the_folder_of_a_prefix_is_made_when_something_is_put(served: Served, base: str) -> None:
    provider = served.make(base, "team/a b")
    assert list(provider.list("")) == []
    assert provider.stat("x") is None
    provider.put("x", b"1", TEXT)
    assert (served.root / base / "team" / "a b" / "x").read_bytes() == b"1"
    (served.root / base / "team" / "other").write_bytes(b"not ours")
    assert list(provider.list("")) == [Listed("x", 1)]
    assert provider.delete(["x", "../other"]) == {}
    assert (served.root / base / "team" / "other").exists()


@pytest.mark.parametrize("prefix", ["", "/", "a", "a/", "/a", "a//b", "//a///b//", "a/b/"])
def test_empty_segments_of_a_prefix_make_no_folders(served: Served, base: str, prefix: str) -> None:
    where = {"host": served.server.host, "port": served.server.port, "tls": "none" if served.kind == "ftp" else ""}
    keys = {"access_key": served.server.username, "secret_key": str(served.server.password)}
    connection = catalogue.Connection(kind=served.kind, bucket=base, prefix=prefix, **where, **keys)  # type: ignore[arg-type]
    provider = catalogue.opened(connection, "tenant")
    provider.put("k/x", b"1", TEXT)
    folder = "/".join(segment for segment in prefix.split("/") if segment)
    assert (served.root / base / folder / "k" / "x").read_bytes() == b"1"
    assert list(provider.list("")) == [Listed("k/x", 1)]


@pytest.mark.parametrize("kind", ["sftp", "vsftpd"])
def test_what_is_no_regular_file_is_no_object(every_server: dict[str, Served], kind: str) -> None:
    """pyftpdlib tells what a link leads to."""
    served = every_server[kind]
    name = seam.new_uuid()
    folder = served.root / name
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "file").write_bytes(b"123")
    (folder / "link").symlink_to("real/file")
    (folder / "folder").symlink_to("real")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    provider = served.make(name if kind == "sftp" else str(folder))
    assert list(provider.list("")) == [Listed("real/file", 3)]


def test_without_mlsd_the_same_is_listed(every_server: dict[str, Served]) -> None:
    keys = [
        "a b",
        " leading",
        "trailing ",
        "ü/日本",
        "100%",
        "%41",
        ".hidden",
        "a//b",
        "x/./y",
        "d/" * 20 + "z",
        "tab\tbed",
        "-rw-r--r-- 1",
    ]
    found = []
    for kind in ("ftp", "vsftpd"):
        served, name = every_server[kind], seam.new_uuid()
        (served.root / name).mkdir()
        provider = served.make(name if kind == "ftp" else str(served.root / name))
        for key in keys:
            provider.put(key, key.encode(), TEXT)
        found.append(list(provider.list("")))
        assert provider.delete(keys) == {}
        assert list(provider.list("")) == []
    assert found[0] == found[1] == [Listed(key, len(key.encode())) for key in sorted(keys, key=str.encode)]


@pytest.mark.parametrize("kind", ["sftp", "ftp", "vsftpd"])
def test_a_name_that_is_no_text_spoils_no_listing(every_server: dict[str, Served], kind: str) -> None:
    served, name = every_server[kind], seam.new_uuid()
    (served.root / name).mkdir()
    provider = served.make(name if kind != "vsftpd" else str(served.root / name))
    provider.put("a", b"1", TEXT)
    Path(os.fsdecode(os.fsencode(served.root / name) + b"/caf\xe9")).write_bytes(b"x")
    provider.reach()
    if kind == "sftp":  # which tells names as text alone: the folder is said to be what it is
        with pytest.raises(StorageUnavailable, match="not UTF-8"):
            list(provider.list(""))
        return
    assert Listed("a", 1) in list(provider.list(""))


def refusing_renames(monkeypatch: pytest.MonkeyPatch) -> None:
    import ftplib

    import paramiko

    def ftp(*_: Any) -> None:
        raise ftplib.error_perm("550 Not enough privileges.")

    def sftp(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ftplib.FTP, "rename", ftp)
    monkeypatch.setattr(paramiko.SFTPClient, "posix_rename", sftp)
    monkeypatch.setattr(paramiko.SFTPClient, "rename", sftp)


def test_what_cannot_be_replaced_is_kept(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.put("a", b"old", TEXT)
    with monkeypatch.context() as patch:
        refusing_renames(patch)
        with pytest.raises(StorageUnavailable):
            provider.put("a", b"new", TEXT)
    assert provider.stat("a") is not None


# ---- connections -------------------------------------------------------------------------------------------------
def counting_logins(provider: Any, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    logins: list[None] = []
    connect = provider._connections._connect

    def counted() -> Any:
        logins.append(None)
        return connect()

    monkeypatch.setattr(provider._connections, "_connect", counted)
    return logins


def shut_idle(provider: Any) -> None:
    """Ends the connections that are kept, as a server or something between does."""
    for _, kept in provider._connections._idle:
        with socket.socket(fileno=os.dup(kept.fileno())) as again:
            again.shutdown(socket.SHUT_RDWR)
    time.sleep(0.2)


def test_calls_share_a_connection(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logins = counting_logins(provider, monkeypatch)
    provider.put("a/b", b"x", TEXT)
    assert provider.stat("never") is None
    with pytest.raises(BytesMissing):
        provider.read("never", 0, 1)
    assert list(provider.list("")) == [Listed("a/b", 1)]
    provider.delete(["a/b", "never"])
    assert len(logins) == 1


def test_calls_at_once_have_connections_of_their_own(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logins, together = counting_logins(provider, monkeypatch), threading.Barrier(3)

    def hold(number: int) -> None:
        with provider._files() as files:
            together.wait(20)
            files.make_folder(f"{provider._base}/{number}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(hold, range(3)))
    assert len(logins) == 3
    assert len(provider._connections._idle) == 3


def test_a_connection_that_was_kept_for_long_is_not_trusted(provider: Any, monkeypatch: pytest.MonkeyPatch, clock: Any) -> None:
    logins = counting_logins(provider, monkeypatch)
    provider.stat("a")
    clock.advance(31)
    provider.stat("a")
    assert len(logins) == 2


def test_a_connection_that_has_ended_is_replaced(provider: Any, served: Served, request: pytest.FixtureRequest) -> None:
    asked = persistent(provider, seconds=18)
    asked.put("a", b"x", TEXT)
    shut_idle(provider)
    assert asked.read("a", 0, 1) == b"x"


def test_however_many_connections_have_ended(provider: Any) -> None:
    asked = persistent(provider, seconds=18)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(provider._files())
    shut_idle(provider)
    assert asked.stat("a") is None


def test_a_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    with asyncssh_server(tmp_path) as server:
        provider = persistent(on_sftp(server).make(), seconds=18)
        provider.put("a", b"x", TEXT)
    with pytest.raises(StorageUnavailable):
        provider.stat("a")
    provider.provider._connections.close()  # type: ignore[attr-defined]
    with asyncssh_server(tmp_path, port=server.port):
        assert provider.read("a", 0, 1) == b"x"


# ---- Azure -------------------------------------------------------------------------------------------------------
def asked(method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_azure_keeps_letters_that_xml_cannot_hold(azure_on_azurite: Azure, folder: str) -> None:
    names = ["a\ufffe", "a\uffff/b", "\uffff", "a\uf8fe", "a\uf8fe0", "a\uf8fe2", "\ufffe\uffff\uf8fe1", "plain"]
    keys = sorted((folder + name for name in names), key=str.encode)
    for key in keys:
        azure_on_azurite.put(key, key.encode(), TEXT)
    assert [listed.key for listed in azure_on_azurite.list(folder)] == keys
    assert [azure_on_azurite.read(key, 0, len(key.encode())) for key in keys] == [key.encode() for key in keys]
    assert [listed.key for listed in azure_on_azurite.list(folder + "a\uffff")] == [folder + "a\uffff/b"]
    azure_on_azurite.copy(keys[0], folder + "copy\ufffe")
    assert azure_on_azurite.delete([*keys, folder + "copy\ufffe"]) == {}
    assert list(azure_on_azurite.list(folder)) == []


def test_azure_lists_in_the_order_of_utf8(azure_on_azurite: Azure, folder: str) -> None:
    """Azure sorts by UTF-16: an emoji comes before letters of the end of the basic plane there."""
    names = ["🙂", "\ue000", "\uffee", "🙂a", "z", "é", "x🙂/1", "x\uffee/1", "x/1", "x🙂", "\U0010fffd", "日"]
    keys = sorted((folder + name for name in names), key=str.encode)
    for key in keys:
        azure_on_azurite.put(key, b"", TEXT)
    assert [listed.key for listed in azure_on_azurite.list(folder)] == keys
    for after in keys:
        assert [listed.key for listed in azure_on_azurite.list(folder, after)] == keys[keys.index(after) + 1 :]


def test_azure_copies_parts_where_the_server_cannot(azure_on_azurite: Azure, folder: str) -> None:
    """Azurite does not know Put Block From URL."""
    source, target = folder + "source", folder + "target"
    body = bytes(range(256)) * 8000
    azure_on_azurite.put(source, body, TEXT)
    upload = azure_on_azurite.create_multipart(target, "image/png")
    parts = [azure_on_azurite.copy_part(target, upload, number, source, start, 1 << 20) for number, start in ((1, 100), (2, 900_000))]
    azure_on_azurite.complete_multipart(target, upload, parts)
    assert azure_on_azurite.read(target, 0, 2 << 20) == body[100 : 100 + (1 << 20)] + body[900_000 : 900_000 + (1 << 20)]


def test_a_url_of_azure_makes_one_blob_once_and_reads_nothing(azure_on_azurite: Azure, folder: str) -> None:
    key = folder + "new ü"
    signed = azure_on_azurite.presign_put(key, 60, {"Content-Type": "image/png", "If-None-Match": "*"})
    assert asked("GET", signed.url) == 403
    assert asked("PUT", signed.url, b"first", dict(signed.headers)) == 201
    assert asked("PUT", signed.url, b"again", dict(signed.headers)) in (403, 409)
    without = {name: value for name, value in signed.headers.items() if name.lower() != "if-none-match"}
    assert asked("PUT", signed.url, b"again", without) in (403, 409)
    for method in ("GET", "DELETE"):
        assert asked(method, signed.url) == 403
    other = signed.url.replace("new%20", "old%20")
    assert other != signed.url
    assert asked("PUT", other, b"other", dict(signed.headers)) == 403
    found = azure_on_azurite.inspect(key, 10)
    assert found is not None
    assert (found.start, found.content_type) == (b"first", "image/png")


def test_a_url_of_azure_for_a_part_stores_that_part(azure_on_azurite: Azure, key: str) -> None:
    upload = azure_on_azurite.create_multipart(key, TEXT)
    url = azure_on_azurite.presign_part(key, upload, 2, 3, 60)
    assert asked("PUT", url, b"end") == 201
    first = azure_on_azurite.upload_part(key, upload, 1, b"begin ")
    assert list(azure_on_azurite.list_parts(key, upload)) == [ListedPart(1, first.etag, 6), ListedPart(2, "000002", 3)]
    assert asked("GET", url.partition("&comp=")[0]) == 403
    azure_on_azurite.complete_multipart(key, upload, azure_on_azurite.list_parts(key, upload))
    assert azure_on_azurite.read(key, 0, 9) == b"begin end"


def test_urls_of_azure_expire(azure_on_azurite: Azure, key: str) -> None:
    azure_on_azurite.put(key, b"x", TEXT)
    upload = azure_on_azurite.create_multipart(key, TEXT)
    assert asked("GET", azure_on_azurite.presign_get(key, 60, TEXT, "")) == 200
    assert asked("GET", azure_on_azurite.presign_get(key, -60, TEXT, "")) == 403
    put = azure_on_azurite.presign_put(key + "2", -60, {})
    assert asked("PUT", put.url, b"x", dict(put.headers)) == 403
    assert asked("PUT", azure_on_azurite.presign_part(key, upload, 1, 1, -60), b"x") == 403


def test_uploads_to_azure_are_not_listed(azure_on_azurite: Azure, folder: str) -> None:
    azure_on_azurite.upload_part(folder + "a", azure_on_azurite.create_multipart(folder + "a", TEXT), 1, b"x")
    assert all(not listed.key.startswith(".stowage/") for listed in azure_on_azurite.list(""))
    assert list(azure_on_azurite.list(".stowage/")) == []
    assert azure_on_azurite.abort_all(folder + "a") == 1


def test_azure_is_seen_to_keep_its_promises(azure_on_azurite: Azure, key: str) -> None:
    """Azurite refuses another MD5 as InvalidOperation, Azure itself as Md5Mismatch."""
    azure_on_azurite.put(key, b"12345", TEXT)
    found = azure_on_azurite.examine(key, b"12345")
    assert found.clock_skew_seconds is not None
    assert abs(found.clock_skew_seconds) < 20
    seen = {"conditional_put": True, "content_md5": None, "metadata": True, "range_read": True, "multipart": True}
    assert found == Capabilities(**seen, clock_skew_seconds=found.clock_skew_seconds)  # type: ignore[arg-type]


# ---- S3 ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def outside(s3_on_swift: S3) -> S3:
    """The bucket of the provider that has a prefix, all of it."""
    keys = {"access_key": str(s3_on_swift._access_key), "secret_key": str(s3_on_swift._secret_key)}
    return S3("conformance", region=s3_on_swift._region, endpoint=str(s3_on_swift._endpoint), **keys)  # type: ignore[arg-type]


def test_everything_happens_below_the_prefix(s3_on_swift: S3, outside: S3, folder: str) -> None:
    prefix = s3_on_swift._prefix
    assert prefix == "team//prod ü/"
    for key in (folder + "a", "team//" + folder + "a", "team//prod ü" + folder + "a"):
        outside.put(key, b"outside", TEXT)
    s3_on_swift.put(folder + "a", b"inside", TEXT)
    s3_on_swift.copy(folder + "a", folder + "b")
    upload = s3_on_swift.create_multipart(folder + "c", TEXT)
    parts = [s3_on_swift.copy_part(folder + "c", upload, 1, folder + "a", 2, 4)]
    s3_on_swift.complete_multipart(folder + "c", upload, parts)
    assert [listed.key for listed in outside.list(prefix + folder)] == [prefix + folder + name for name in "abc"]
    assert [(listed.key, listed.size) for listed in s3_on_swift.list(folder)] == [(folder + "a", 6), (folder + "b", 6), (folder + "c", 4)]
    assert [listed.key for listed in s3_on_swift.list(folder, folder + "a")] == [folder + "b", folder + "c"]
    assert s3_on_swift.delete([folder + name for name in "abc"]) == {}
    assert list(s3_on_swift.list(folder)) == []
    assert outside.read(folder + "a", 0, 7) == b"outside"
    assert asked("GET", s3_on_swift.presign_get(folder + "a", 60, TEXT, "")) == 404


def test_uploads_outside_the_prefix_are_left_alone(s3_on_swift: S3, outside: S3, folder: str) -> None:
    key = folder + "a"
    theirs, ours = outside.create_multipart(key, TEXT), s3_on_swift.create_multipart(key, TEXT)
    assert s3_on_swift.abort_all(key) == 1
    assert list(outside.list_parts(key, theirs)) == []
    with pytest.raises(BytesMissing):
        s3_on_swift.list_parts(key, ours)
    assert outside.abort_all(key) == 1


def test_a_key_leaves_room_for_the_prefix(s3_on_swift: S3) -> None:
    key = "k" * s3_on_swift.max_key_bytes
    s3_on_swift.put(key, b"x", TEXT)
    assert s3_on_swift.delete([key]) == {}
    with pytest.raises(StorageUnavailable):
        s3_on_swift.put(key + "k", b"x", TEXT)


SEEN = {
    "s3_on_swift": Capabilities(True, True, True, True, True, True, False),
    "s3_on_moto": Capabilities(True, False, False, True, True, True, False),
    "s3_on_ministack": Capabilities(True, True, True, True, True, True, False),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_a_server_was_seen_to_do_is_what_it_does(name: str, key: str, request: pytest.FixtureRequest) -> None:
    provider: S3 = request.getfixturevalue(name)
    provider.put(key, b"12345", TEXT)
    found = provider.examine(key, b"12345")
    assert found.clock_skew_seconds is not None
    assert abs(found.clock_skew_seconds) < 20
    from dataclasses import replace

    assert replace(found, clock_skew_seconds=None) == SEEN[name]
    assert provider.read(key, 0, 5) == b"12345"
