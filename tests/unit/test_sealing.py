"""Sealed secrets open under their key and for their record, and nowhere else."""

import base64
import hmac
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import seam, settings
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
        sealing.forget_master_keys()

    yield use
    monkeypatch.undo()
    settings.settings.cache_clear()
    sealing.forget_master_keys()


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
    return HKDF(hashes.SHA256(), 32, None, info).derive(key)


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
        sealing.master_keys()


# ---- several master keys -------------------------------------------------------------------------------
OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def test_of_several_master_keys_the_first_seals_and_all_open(use_key: UseKey) -> None:
    use_key(OLD)
    before = sealing.seal("a", RECORD)
    use_key(f"{NEW},{OLD}")
    after = sealing.seal("b", RECORD)
    assert (sealing.unseal(before, RECORD), sealing.unseal(after, RECORD)) == ("a", "b")
    use_key(NEW)
    assert sealing.unseal(after, RECORD) == "b"
    with pytest.raises(SettingsError, match=before.partition(".")[0]):
        sealing.unseal(before, RECORD)


def test_a_secret_says_which_master_key_sealed_it(use_key: UseKey) -> None:
    ids = []
    for text in (OLD, NEW, f"{NEW},{OLD}", f"{OLD},{NEW}"):
        use_key(text)
        ids.append(sealing.seal("a", RECORD).partition(".")[0])
    old, new, *rotated = ids
    assert old != new
    assert rotated == [new, old]


def test_spaces_around_master_keys_are_none_of_theirs(use_key: UseKey) -> None:
    use_key(f" {NEW} , {OLD} ")
    assert [key.secret for key in sealing.master_keys()] == [bytes([2]) * 32, bytes([1]) * 32]


@pytest.mark.parametrize("text", [f"{NEW},", f",{NEW}", f"{NEW},,{OLD}", f"{NEW},short", f"{NEW};{OLD}", f"{NEW} {OLD}"])
def test_one_bad_master_key_among_good_ones_is_refused(use_key: UseKey, text: str) -> None:
    use_key(text)
    with pytest.raises(SettingsError, match="STOWAGE_MASTER_KEY"):
        sealing.master_keys()


# ---- published vectors ---------------------------------------------------------------------------------
class Derivation(NamedTuple):
    """A test case of RFC 5869, Appendix A; all in hex but the length."""

    secret: str
    salt: str
    info: str
    length: int
    derived: str


def _up_to(first: int, last: int) -> str:
    return bytes(range(first, last + 1)).hex()


RFC_5869 = [
    Derivation(
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    Derivation(
        _up_to(0x00, 0x4F),
        _up_to(0x60, 0xAF),
        _up_to(0xB0, 0xFF),
        82,
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    Derivation(
        "0b" * 22,
        "",
        "",
        42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize("case", RFC_5869)
def test_hkdf_is_that_of_rfc_5869(case: Derivation) -> None:
    derived = sealing.hkdf(bytes.fromhex(case.secret), bytes.fromhex(case.salt), bytes.fromhex(case.info), case.length)
    assert derived.hex() == case.derived


@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=100), st.integers(1, 8160))
def test_hkdf_is_that_of_cryptography(secret: bytes, salt: bytes, context: bytes, length: int) -> None:
    assert sealing.hkdf(secret, salt, context, length) == HKDF(hashes.SHA256(), length, salt, context).derive(secret)


class Authentication(NamedTuple):
    """A test case of RFC 4231 for HMAC-SHA-256; case 5, whose answer is cut, is left out."""

    key: bytes
    data: bytes
    digest: str


RFC_4231 = [
    Authentication(b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    Authentication(b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    Authentication(b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    Authentication(bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    Authentication(
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    Authentication(
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data."
        b" The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.mark.parametrize("case", RFC_4231)
def test_the_keyed_hash_is_that_of_rfc_4231(case: Authentication) -> None:
    assert hmac.digest(case.key, case.data, "sha256").hex() == case.digest


def test_keys_that_nobody_has_are_looked_for_once_in_a_while(use_key: UseKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be unsealed may come from anybody, as a cursor does: each look would be a call of the parameter store."""
    now, reads = [1_000_000.0], []
    monkeypatch.setattr(seam, "timestamp", lambda: now[0])
    use_key("")
    monkeypatch.setenv("STOWAGE_MASTER_KEY_PARAMETER", "/somewhere")
    settings.settings.cache_clear()
    monkeypatch.setattr(sealing, "_stored_master_keys", lambda parameter: reads.append(parameter) or MASTER_KEY)
    for _ in range(50):
        with pytest.raises(SettingsError, match="was sealed under"):
            sealing.unseal("ffffffff.AAAA", RECORD, is_ours=False)
    assert len(reads) == 2
    now[0] += sealing.LOOK_AGAIN_EVERY
    with pytest.raises(SettingsError, match="was sealed under"):
        sealing.unseal("ffffffff.AAAA", RECORD, is_ours=False)
    assert len(reads) == 3
    # What was sealed here is looked for at once, so that nobody notices a rotation, whatever callers send meanwhile.
    with pytest.raises(SettingsError, match="was sealed under"):
        sealing.unseal("ffffffff.AAAA", RECORD)
    assert len(reads) == 4
