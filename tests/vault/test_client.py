"""`tools/vault_client.py`, the documented client: what it says, what it keeps secret, and what it tells when something is wrong."""

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Tenant
from tests.durability.api_process import ApiProcess
from tests.vault.conftest import Vault
from tools import vault_client

ROOT = Path(vault_client.__file__).resolve().parents[1]
PASSPHRASE = "correct horse battery staple"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def api(tenant: Tenant) -> Iterator[str]:
    """The API on a port of its own."""
    process = ApiProcess()
    yield f"http://127.0.0.1:{process.port}"
    process.reap()


@pytest.fixture
def run(api: str, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives its status, and what it printed and said."""
    monkeypatch.setenv("STOWAGE_URL", api)
    monkeypatch.setenv("STOWAGE_TOKEN", tenant.service_key)
    monkeypatch.setenv("STOWAGE_PASSPHRASE", PASSPHRASE)

    def command(*arguments: str) -> tuple[int, str, str]:
        status = vault_client.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out.strip(), printed.err.strip()

    return command


def test_a_file_goes_in_and_comes_out_and_only_its_owner_can_read_it(run: Run, internal: Vault, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"Dear diary" * 1000)
    _, key_uuid, _ = run("create-key", "laptop")
    status, delta_uuid, _ = run("upload", key_uuid, str(tmp_path / "in"))
    assert status == 0
    _, listed, _ = run("list", key_uuid)
    assert listed.split()[:3] == [delta_uuid, str(10_000 + 52), "stored"]
    stored = internal.owner.read(f"deltas/{key_uuid}/{delta_uuid}", 0, 10_052)
    assert b"Dear" not in stored
    assert run("download", delta_uuid, str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out").read_bytes() == b"Dear diary" * 1000


def test_the_largest_file_fits_and_one_byte_more_does_not(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(vault_client.MAX_FILE_BYTES))
    _, key_uuid, _ = run("create-key", "laptop")
    status, delta_uuid, _ = run("upload", key_uuid, str(tmp_path / "in"))
    assert status == 0
    assert run("list", key_uuid)[1].split()[1] == "10485760"
    assert run("download", delta_uuid, str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()
    (tmp_path / "in").write_bytes(bytes(vault_client.MAX_FILE_BYTES + 1))
    status, _, said = run("upload", key_uuid, str(tmp_path / "in"))
    assert status == 1
    assert said == "vault_client: the file is too large: a delta takes at most 10485708 bytes of it"


def test_a_list_goes_on_page_after_page(run: Run, own: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    key_uuid = own.key()
    begun = [own.begin(key_uuid)["delta_uuid"] for _ in range(105)]
    assert [line.split()[0] for line in run("list", key_uuid)[1].splitlines()] == begun


@settings(max_examples=8, deadline=None)
@given(plain=st.binary(max_size=200), passphrase=st.text(min_size=1, max_size=20))
def test_whatever_is_encrypted_is_decrypted_and_never_twice_the_same(plain: bytes, passphrase: str) -> None:
    passphrase = passphrase.encode("utf-8", "ignore").decode() or "x"
    first, second = vault_client.encrypt(plain, passphrase), vault_client.encrypt(plain, passphrase)
    assert first != second
    assert len(first) == len(plain) + 52
    assert vault_client.decrypt(first, passphrase) == plain


@pytest.mark.parametrize("position", [0, 7, 8, 23, 24, 35, 36, 40, -17, -1])
def test_a_changed_byte_anywhere_is_found(position: int) -> None:
    delta = bytearray(vault_client.encrypt(b"Dear diary", PASSPHRASE))
    delta[position] ^= 1
    with pytest.raises(vault_client.ClientError):
        vault_client.decrypt(bytes(delta), PASSPHRASE)


def test_another_passphrase_opens_nothing_and_writes_no_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").write_bytes(b"Dear diary")
    _, key_uuid, _ = run("create-key", "laptop")
    _, delta_uuid, _ = run("upload", key_uuid, str(tmp_path / "in"))
    monkeypatch.setenv("STOWAGE_PASSPHRASE", "another")
    status, _, said = run("download", delta_uuid, str(tmp_path / "out"))
    assert (status, said) == (1, "vault_client: the passphrase is another one, or the delta was changed")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bytes_of_it", [b"", b"stowage1", b"x" * 100, b"stowage1" + bytes(43)])
def test_what_it_did_not_make_is_said_to_be_so(bytes_of_it: bytes) -> None:
    with pytest.raises(vault_client.ClientError, match="not made by this client"):
        vault_client.decrypt(bytes_of_it, PASSPHRASE)


def test_what_the_api_says_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x")
    unknown = "00000000-0000-4000-8000-00000000abcd"
    assert run("upload", unknown, str(tmp_path / "in"))[2] == f"vault_client: KeyNotFound: there is no key {unknown}"
    _, key_uuid, _ = run("create-key", "laptop")
    for _ in range(2):
        assert run("upload", key_uuid, str(tmp_path / "in"))[0] == 0
    status, _, said = run("upload", key_uuid, str(tmp_path / "in"))
    assert status == 1
    assert said.startswith("vault_client: LimitReached: this key has used its 2 uploads of the day on internal storage; wait")


def test_what_is_not_set_or_not_there_is_told_in_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, said = run("upload", "k", str(tmp_path / "none"))
    assert status == 1
    assert "No such file" in said
    monkeypatch.setenv("STOWAGE_URL", "http://127.0.0.1:9")
    status, _, said = run("create-key", "laptop")
    assert status == 1
    assert said.startswith("vault_client: ")
    assert "\n" not in said
    monkeypatch.delenv("STOWAGE_URL")
    assert run("list", "k")[2].endswith("after `make run`, `source .data/dev.env` does")


def test_help_tells_each_command() -> None:
    done = subprocess.run([sys.executable, "tools/vault_client.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name, told, _ in vault_client.COMMANDS:
        assert name in done.stdout
        assert told.split(",")[0] in " ".join(done.stdout.split())


def test_on_a_terminal_it_shows_how_far_it_is(api: str, tenant: Tenant, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(5_000_000))
    environment = os.environ | {"STOWAGE_URL": api, "STOWAGE_TOKEN": tenant.service_key, "STOWAGE_PASSPHRASE": PASSPHRASE}
    command = [sys.executable, "tools/vault_client.py"]
    made = subprocess.run([*command, "create-key", "k"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    arguments = [*command, "upload", made.stdout.strip(), str(tmp_path / "in")]
    with subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while chunk := _read(master):
            shown += chunk
        assert process.wait() == 0
    os.close(master)
    assert b"upload: 100%" in shown
    assert b"4.77M/4.77M" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""
