"""Whatever is given, the rules answer with a Connection that keeps them, or with InvalidRequest that names a field: never otherwise."""

import base64
import ipaddress
import re
import string
from typing import Any
from urllib.parse import urlsplit

import bcrypt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib import outbound
from chalicelib.core import storage_rules
from chalicelib.core.storage_rules import BACKUPS, BACKUPS_NAMES, FROZEN_CLASSES, VAULT, VAULT_NAMES, Named, aws_regions, checked
from chalicelib.errors import InvalidRequest
from chalicelib.providers.catalogue import AUTO, FILES, KINDS, SPEAKS_FTP, SPEAKS_S3, SPEAKS_SFTP, Connection
from tests.issuer import ec_key, rsa_key

ACCOUNT = "0123456789abcdef0123456789abcdef"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TRUST = "ssh-ed25519 " + "A" * 68


def _openssh(password: bytes | None = None) -> str:
    form = serialization.PrivateFormat.OpenSSH
    cipher = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return ed25519.Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, cipher).decode()


def _pem(key: Any) -> str:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return str(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode())


KEYS = [_openssh(), _openssh(b"passphrase"), _pem(rsa_key()), _pem(ec_key("ssh", ec.SECP384R1))]

# One of each kind that is taken as it stands.
VALID: dict[str, dict[str, Any]] = {
    "aws_s3": {"bucket": "my-bucket", "region": "us-east-1"},
    "cloudflare_r2": {"bucket": "my-bucket", "account_id": ACCOUNT},
    "backblaze_b2": {"bucket": "my-bucket", "endpoint": "s3.us-west-004.backblazeb2.com"},
    "minio": {"bucket": "my-bucket", "endpoint": "https://minio.example.com:9000"},
    "sftp": {"bucket": "/srv/a b", "host": "sftp.example.com"},
    "ftp": {"bucket": "/", "host": "ftp.example.com", "tls": "none", "port": 2121},
    "digitalocean_spaces": {"bucket": "my-bucket", "region": "fra1"},
    "wasabi": {"bucket": "my-bucket", "region": "eu-central-1"},
    "s3_compatible": {"bucket": "my-bucket", "endpoint": "http://s3.example.com"},
    "azure_blob": {"bucket": "my-container"},
    "filesystem": {"bucket": "own"},
}
for _kind, _fields in VALID.items():
    _fields |= {"kind": _kind, "prefix": "a//b/"}
    if _kind != "filesystem":
        _fields |= {"access_key": "account01", "secret_key": SECRET}
VALID_VAULT: dict[str, dict[str, Any]] = {
    "s3": {"kind": "aws_s3", "bucket": "my-bucket", "region": "us-east-1"},
    "r2": {"kind": "cloudflare_r2", "bucket": "my-bucket", "region": "auto", "endpoint": f"https://{ACCOUNT}.r2.cloudflarestorage.com"},
}
for _fields in VALID_VAULT.values():
    _fields |= {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": SECRET}

ODD = [
    "", " ", "a", "abc", "a-b.c", "..",
    "a/../b", "/a", "a//b/", "\0", "a\n", "\ud800", "é", "ａ", "a" * 63, "a" * 64, "a" * 513, "a" * 1025,
    "192.168.0.1", "127.1", "0x7f000001", "[", "]", "[::1]", "::1", "http://[", "https://[::1", "https://[x]/", "https://[v1.a]/", "//", "://",
    "https://a:b", "https://a:99999", "https://a:-1", "http://a:0", "http://a:９",
    "https://\u2100", "https://a\u2100b", "s3.x.backblazeb2.com",
    "https://s3.x.backblazeb2.com/", "https://s3.x.backblazeb2.com:443", "http://s3.x.backblazeb2.com", "https://s3.x.backblazeb2.com?a",
    "auto", "us-east-1", "none", "implicit", "GLACIER", "STANDARD_IA",
    ACCOUNT, ACCOUNT.upper(), f"https://{ACCOUNT}.r2.cloudflarestorage.com",
    f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com/", SECRET, TRUST, "http://u:p@a", "http://a#b", "http://a?b", "http://a/b", "http://a\\b",
    "{region}", "{access_key.__class__}", "%s", "https://minio.example.com:9000", "http://a.example", *KEYS,
]  # fmt: skip
texts = st.one_of(
    st.sampled_from(ODD),
    st.text(max_size=80),
    st.text(string.ascii_lowercase + string.digits + "-./:[]@%\\?#", max_size=80),
    st.builds("".join, st.lists(st.sampled_from(ODD), max_size=3)),
)
ports = st.one_of(st.integers(-5, 70_000), st.sampled_from([0, 1, 21, 22, 65535, 65536]))
FIELDS = [field for field in Connection.__dataclass_fields__ if field != "kind"]
any_fields = st.dictionaries(st.sampled_from(FIELDS), texts).flatmap(
    lambda given: ports.map(lambda port: given | ({"port": port} if "port" in given else {}))
)
LIGHT = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused_or_kept(surface: str, given: dict[str, Any]) -> Connection | None:
    """The connection, its rules seen to hold, or None for fields that were refused as they ought to be."""
    named: Named = VAULT_NAMES if surface == VAULT else BACKUPS_NAMES
    try:
        made = checked(surface, given)
    except InvalidRequest as error:
        refused = error
    else:
        (holds_on_the_vault if surface == VAULT else holds_on_backups)(made)
        holds_anywhere(made)
        return made
    known = {named.of(each) for each in (*FIELDS, "kind")}
    assert refused.details.get("field") in known or any(refused.message.startswith(f"{each}: ") for each in known), refused.message
    for secret in ("secret_key", "private_key"):
        assert len(given.get(secret, "")) < 12 or given[secret] not in refused.message
    return None


def holds_anywhere(made: Connection) -> None:
    assert len(made.prefix) <= 1024
    assert not made.prefix.startswith("/")
    assert ".." not in made.prefix
    assert not set(made.prefix) & set('<>:"|?*\\\0\n\r\t\x7f')
    made.prefix.encode()
    assert made.folder == "" or (made.folder.endswith("/") and "//" not in made.folder and not made.folder.startswith("/"))
    kind = KINDS[made.kind]
    if kind.protocol == SPEAKS_S3:
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", made.bucket)
        assert ".." not in made.bucket
        assert not _is_address(made.bucket)
        assert (made.host, made.port, made.tls, made.host_key, made.private_key) == ("", 0, "", "", "")
        assert re.fullmatch("[a-z0-9-]{1,40}", made.region)
        assert made.storage_class not in FROZEN_CLASSES
        _leads_to_a_server(made.address, plain=kind.plain_http)
    for field in (made.access_key, made.secret_key, made.bucket, made.host, made.region):
        field.encode()
        assert field.isprintable()


def holds_on_the_vault(made: Connection) -> None:
    assert made.kind in ("aws_s3", "cloudflare_r2")
    assert re.fullmatch("[A-Za-z0-9+/=]{16,128}", made.access_key)
    assert re.fullmatch("[A-Za-z0-9+/=]{32,128}", made.secret_key)
    if made.kind == "aws_s3":
        assert made.endpoint == ""
        assert made.region in aws_regions()
    else:
        assert made.region == AUTO
        assert re.fullmatch(r"https://[0-9a-f]{32}(\.(eu|fedramp))?\.r2\.cloudflarestorage\.com/?", made.endpoint)


def holds_on_backups(made: Connection) -> None:
    kind = KINDS[made.kind]
    if kind.protocol == FILES:
        assert re.fullmatch("[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", made.bucket)
        assert (made.access_key, made.secret_key, made.endpoint) == ("", "", "")
        return
    assert 1 <= len(made.access_key) <= 512
    assert made.secret_key or made.private_key
    assert len(made.secret_key) <= 512
    if made.kind == "backblaze_b2":
        assert made.address.rstrip("/") == f"https://s3.{made.region}.backblazeb2.com"
    if made.kind == "cloudflare_r2":
        assert made.region == AUTO
        assert made.address.startswith("https://")
        assert urlsplit(made.address).netloc.endswith(".r2.cloudflarestorage.com")
    if kind.protocol in (SPEAKS_SFTP, SPEAKS_FTP):
        assert 1 <= made.port <= 65535
        assert made.host
        assert not set(made.host) & set("/@ \\#?[]%")
        assert (made.endpoint, made.account_id, made.region, made.storage_class) == ("", "", "", "")
        assert made.tls in (("explicit", "implicit", "none") if kind.protocol == SPEAKS_FTP else ("",))
        assert ".." not in made.bucket.split("/")
        if _is_address(made.host):
            assert outbound.is_public(made.host)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _leads_to_a_server(address: str, plain: bool) -> None:
    parts = urlsplit(address)
    assert parts.scheme == "https" or (plain and parts.scheme == "http")
    assert parts.hostname
    assert (parts.username, parts.password, parts.query, parts.fragment) == (None, None, "", "")
    assert parts.path in ("", "/")
    assert parts.port != 0
    if _is_address(parts.hostname):
        assert outbound.is_public(parts.hostname)


# ---- as they stand ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", VALID)
def test_a_storage_of_each_kind_is_taken(kind: str) -> None:
    assert refused_or_kept(BACKUPS, VALID[kind]) is not None


@pytest.mark.parametrize("provider", VALID_VAULT)
def test_a_storage_of_each_provider_of_the_vault_is_taken(provider: str) -> None:
    assert refused_or_kept(VAULT, VALID_VAULT[provider]) is not None


@pytest.mark.parametrize("key", range(len(KEYS)))
def test_a_private_key_of_each_form_is_taken(key: int) -> None:
    assert refused_or_kept(BACKUPS, VALID["sftp"] | {"private_key": KEYS[key], "secret_key": "passphrase" if key == 1 else ""}) is not None


@pytest.mark.parametrize("kind", VALID)
def test_what_is_made_is_taken_again_as_it_is(kind: str) -> None:
    """A change of one field is checked with all the others as they are stored."""
    from dataclasses import asdict

    made = checked(BACKUPS, VALID[kind])
    assert checked(BACKUPS, asdict(made)) == made


# ---- whatever is given -----------------------------------------------------------------------------------------
@LIGHT
@given(st.sampled_from([kind for kind in KINDS if kind != "backblaze_b2"]), st.fixed_dictionaries({"bucket": texts}), any_fields)
def test_fields_at_random_on_backups(kind: str, bucket: dict[str, Any], given: dict[str, Any]) -> None:
    refused_or_kept(BACKUPS, bucket | given | {"kind": kind})


@LIGHT
@given(st.sampled_from([kind for kind in KINDS if kind != "backblaze_b2"]), any_fields)
def test_one_or_more_fields_changed_in_what_is_valid_on_backups(kind: str, given: dict[str, Any]) -> None:
    refused_or_kept(BACKUPS, VALID[kind] | given)


@LIGHT
@given(texts)
@example("[")
@example("https://a\u2100b")
def test_any_endpoint_of_b2(endpoint: str) -> None:
    refused_or_kept(BACKUPS, VALID["backblaze_b2"] | {"endpoint": endpoint})


@LIGHT
@given(any_fields)
def test_other_fields_changed_in_what_is_valid_of_b2(given: dict[str, Any]) -> None:
    refused_or_kept(BACKUPS, VALID["backblaze_b2"] | {field: value for field, value in given.items() if field != "endpoint"})


@LIGHT
@given(
    st.sampled_from(list(VALID_VAULT)),
    st.dictionaries(st.sampled_from(["bucket", "region", "endpoint", "prefix", "access_key", "secret_key"]), texts),
)
def test_one_or_more_fields_changed_in_what_is_valid_on_the_vault(provider: str, given: dict[str, Any]) -> None:
    refused_or_kept(VAULT, VALID_VAULT[provider] | given)


@LIGHT
@given(st.one_of(texts, st.sampled_from(list(KINDS))))
def test_any_kind_on_both_surfaces(kind: str) -> None:
    for surface in (VAULT, BACKUPS):
        made = refused_or_kept(surface, VALID["aws_s3"] | {"kind": kind, "access_key": "A" * 16})
        assert made is None or kind in KINDS


def _changed_keys() -> st.SearchStrategy[str]:
    """Keys with some of their text replaced."""
    parts = st.tuples(st.sampled_from([KEYS[0], KEYS[2], KEYS[3]]), st.floats(0, 1), st.integers(0, 40), texts)
    return parts.map(lambda drawn: _replaced(*drawn))


def _replaced(key: str, where: float, length: int, by: str) -> str:
    at = round(where * len(key))
    return key[:at] + by + key[at + length :]


@settings(LIGHT, max_examples=150)
@given(_changed_keys())
def test_a_private_key_that_was_changed(key: str) -> None:
    refused_or_kept(BACKUPS, VALID["sftp"] | {"private_key": key, "secret_key": ""})


def test_a_private_key_whose_public_part_is_another_is_refused() -> None:
    lines = KEYS[0].strip().splitlines()
    raw = bytearray(base64.b64decode("".join(lines[1:-1])))
    raw[-30] ^= 1
    key = "\n".join([lines[0], base64.b64encode(bytes(raw)).decode(), lines[-1]]) + "\n"
    refused_or_kept(BACKUPS, VALID["sftp"] | {"private_key": key, "secret_key": ""})


@LIGHT
@given(st.sampled_from([VAULT, BACKUPS]), texts)
def test_any_name(surface: str, name: str) -> None:
    try:
        assert storage_rules.check_name(surface, name) == name
    except InvalidRequest:
        return
    assert 1 <= len(name) <= 255
    assert name.isprintable()
    name.encode()
    assert surface == BACKUPS or re.fullmatch("[A-Za-z0-9._-]+", name)


def _with_rounds(rounds: int) -> str:
    """A private key of OpenSSH's form whose passphrase is to be hashed so often."""
    lines = KEYS[1].strip().splitlines()
    raw = bytearray(base64.b64decode("".join(lines[1:-1])))
    at = raw.index(b"bcrypt") + 6 + 4  # after the length of the options
    at += 4 + int.from_bytes(raw[at : at + 4], "big")
    raw[at : at + 4] = rounds.to_bytes(4, "big")
    return "\n".join([lines[0], base64.b64encode(bytes(raw)).decode(), lines[-1]]) + "\n"


def test_a_private_key_cannot_have_us_calculate_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def kdf(*_: Any, rounds: int, **__: Any) -> bytes:
        asked.append(rounds)
        raise ValueError

    monkeypatch.setattr(bcrypt, "kdf", kdf)
    refused_or_kept(BACKUPS, VALID["sftp"] | {"private_key": _with_rounds(0xFFFFFFFF), "secret_key": "wrong"})
    assert all(rounds <= 1000 for rounds in asked)
