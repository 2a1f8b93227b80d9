"""Sealed secrets open under their key and for their record, and nowhere else."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import settings
from chalicelib.access import sealing
from chalicelib.settings import SettingsError
from tests.conftest import MASTER_KEY

RECORD = "tenants/1/jwt_secret"
UseKey = Callable[[str], None]


@pytest.fixture
def use_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[UseKey]:
    def use(text: str) -> None:
        monkeypatch.setenv("STOWAGE_MASTER_KEY", text)
        settings.settings.cache_clear()
        sealing.master_key.cache_clear()

    yield use
    monkeypatch.undo()
    settings.settings.cache_clear()
    sealing.master_key.cache_clear()


@given(st.text(max_size=200), st.text(max_size=60))
def test_a_secret_opens_for_its_record(secret: str, record: str) -> None:
    assert sealing.unseal(sealing.seal(secret, record), record) == secret


def test_a_secret_does_not_show() -> None:
    sealed = sealing.seal("hunter2" * 5, RECORD)
    payload = base64.urlsafe_b64decode(sealed.partition(".")[2])
    assert b"hunter2" not in payload
    assert MASTER_KEY not in sealed


def test_sealing_twice_gives_two_texts() -> None:
    assert len({sealing.seal("a", RECORD) for _ in range(50)}) == 50


def test_a_secret_moved_to_another_record_does_not_open() -> None:
    with pytest.raises(SettingsError, match="changed or moved"):
        sealing.unseal(sealing.seal("a", RECORD), "tenants/2/jwt_secret")


def test_another_master_key_does_not_open_and_is_named(use_key: UseKey) -> None:
    sealed = sealing.seal("a", RECORD)
    use_key(base64.b64encode(bytes(32)).decode())
    with pytest.raises(SettingsError, match=sealed.partition(".")[0]):
        sealing.unseal(sealed, RECORD)


@given(st.data())
def test_a_changed_byte_does_not_open(data: st.DataObject) -> None:
    key_id, _, payload = sealing.seal("secret", RECORD).partition(".")
    raw = bytearray(base64.urlsafe_b64decode(payload))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SettingsError):
        sealing.unseal(f"{key_id}.{base64.urlsafe_b64encode(raw).decode()}", RECORD)


@given(st.integers(0, 60))
def test_a_shortened_text_does_not_open(length: int) -> None:
    sealed = sealing.seal("secret", RECORD)
    with pytest.raises(SettingsError):
        sealing.unseal(sealed[: min(length, len(sealed) - 1)], RECORD)


def hkdf_sha256(key: bytes, info: bytes) -> bytes:
    """RFC 5869 with an empty salt and one block, written out."""
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_it_is_aes_256_gcm_under_a_key_derived_by_hkdf() -> None:
    sealed = base64.urlsafe_b64decode(sealing.seal("secret", RECORD).partition(".")[2])
    derived = hkdf_sha256(base64.b64decode(MASTER_KEY), b"stowage-sealed-secrets")
    assert AESGCM(derived).decrypt(sealed[:12], sealed[12:], RECORD.encode()) == b"secret"
    assert len(sealed) == 12 + len("secret") + 16


def test_the_key_id_tells_nothing_of_the_derived_key() -> None:
    derived = hkdf_sha256(base64.b64decode(MASTER_KEY), b"stowage-sealed-secrets")
    key_id = sealing.seal("a", RECORD).partition(".")[0]
    assert len(key_id) == 8
    assert key_id not in derived.hex() + base64.b64decode(MASTER_KEY).hex()


@pytest.mark.parametrize(
    "text",
    [
        "short",
        "not base64!",
        base64.b64encode(bytes(31)).decode(),
        base64.b64encode(bytes(33)).decode(),
        base64.b64encode(bytes(16)).decode(),
    ],
)
def test_a_master_key_that_is_not_32_bytes_is_refused_by_name_and_not_told(use_key: UseKey, text: str) -> None:
    use_key(text)
    with pytest.raises(SettingsError, match="STOWAGE_MASTER_KEY") as refused:
        sealing.seal("a", RECORD)
    assert text not in str(refused.value)


def test_without_a_master_key_both_variables_are_named(use_key: UseKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOWAGE_MASTER_KEY_PARAMETER", raising=False)
    use_key("")
    with pytest.raises(SettingsError, match=r"STOWAGE_MASTER_KEY.*STOWAGE_MASTER_KEY_PARAMETER"):
        sealing.master_key()
