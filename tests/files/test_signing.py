"""Signed URLs of files: what a token says, what it opens, and what ends it (seed 003 "Signed URLs", FEATURES F10.5-F10.13)."""

import base64
import hashlib
import hmac
import json
import re
import string
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib import seam
from chalicelib.access import sealing
from chalicelib.access.cache import forget_everything
from chalicelib.access.principals import Principal, Role
from chalicelib.core import tenants
from tests.client import Answer, Client
from tests.conftest import MASTER_KEY, Call, Clock, Tenant
from tests.files.conftest import Choose, allow, examples, get, listed, patch, put, refused, row_of, stored
from tests.images import pictures

UseKeys = Callable[[str], None]

ALPHABET = string.ascii_letters + string.digits + "-_"
BODY = b"0123456789"
KEY = "uploads/private.pdf"
SECRET = "a secret of these tests, long enough"
OLD, NEW = MASTER_KEY, base64.b64encode(b"n" * 32).decode()
BELOW, BEHIND = "/api/storage/_sign/{key}", "/api/storage/{key}/sign"
DEEP = ["/".join(f"part{number}" for number in range(depth)) for depth in range(1, 9)]
NAMED_LIKE_THE_ROUTE = ["sign", "a/sign", "sign/sign", "a/b/c/sign", "a/sign/b", "x_sign/a", "a/_sign/b"]
ODD = [
    "a b.txt",
    "a+b.txt",
    "100%.txt",
    "a%20b",
    "a%2Fb",
    "a%252Fb",
    "ü/日本 🎈.txt",
    "q=1&token=2;x",
    'it\'s "so"',
    "(a),[b]!$*:@~",
    "folder/",
]
LONGEST = "/".join(['"' * 174] * 4)


# ---- short ways ----------------------------------------------------------------------------------------
def ask(client: Client, key: str = KEY, body: Any = None, way: str = BELOW) -> Answer:
    """A request for a signed URL; `way` is one of the two routes."""
    return client("POST", way.format(key=quote(key)), body)


def signed(client: Client, key: str = KEY, **body: Any) -> dict[str, Any]:
    answer = ask(client, key, body)
    assert answer.status == 200, answer.body
    document: dict[str, Any] = answer.json()
    return document


def token_in(url: str) -> str:
    (token,) = parse_qs(urlsplit(url).query, strict_parsing=True)["token"]
    return token


def sign(client: Client, key: str = KEY, **body: Any) -> str:
    """A token."""
    return token_in(signed(client, key, **body)["path"])


def opened(client: Client, token: str, key: str = KEY, more: str = "", method: str = "GET", **headers: str) -> Answer:
    return get(client, key, f"?token={quote(token, safe='')}{more}", method, **headers)


def is_refused(answer: Answer, reason: str = "InvalidSignature") -> bool:
    """Whether a token was not taken: 401, said so, and a credential asked for."""
    error = refused(answer, 401, "UNAUTHORIZED")
    return bool(error["details"]["reason"] == reason and answer.headers["www-authenticate"].startswith("Bearer"))


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def payload_of(token: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(decoded(token.partition(".")[0]))
    return payload


def made_by_hand(tenant: Tenant, payload: bytes, key: str = KEY) -> str:
    """A token under SECRET as an independent implementation makes it."""
    row, text = row_of(tenant, key), encoded(payload)
    assert row is not None
    secret = hashlib.sha256(b"stowage-file-tokens:" + SECRET.encode()).digest()
    return f"{text}.{encoded(hmac.new(secret, f'{text}.{row.tokens_not_before}'.encode(), 'sha256').digest())}"


def compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def move(client: Client, source: str, target: str) -> None:
    """Give a file another key, whatever has that."""
    answer = client("POST", "/storage/object/move", {"bucket": ".files", "from": source, "to": target}, {"x-upsert": "true"})
    assert answer.status == 200, answer.body


@pytest.fixture
def nobody(tenant: Tenant) -> Client:
    """A client without any credential."""
    return tenant.nobody


@pytest.fixture
def owner(ada: Client) -> Client:
    """Ada's client, with her private file KEY of ten bytes."""
    stored(ada, KEY, BODY)
    return ada


@pytest.fixture
def use_keys(choose: Choose) -> Iterator[UseKeys]:
    """Replaces the installation's master keys, as a restart of every process does."""

    def use(text: str) -> None:
        choose("STOWAGE_MASTER_KEY", text)
        sealing.forget_master_keys()
        forget_everything()

    yield use
    sealing.forget_master_keys()
    forget_everything()


# ---- asking for one ------------------------------------------------------------------------------------
def test_the_request_of_the_seed_gives_a_url_and_when_it_ends(owner: Client, nobody: Client) -> None:
    """F10.5: the suffix `/sign` on a key of two parts, 600 seconds."""
    before = int(seam.timestamp())
    answer = owner("POST", "/api/storage/uploads/private.pdf/sign", {"ttlSeconds": 600})
    document = answer.json()
    assert (answer.status, document.keys()) == (200, {"url", "path", "expiresAt"})
    assert re.fullmatch(r"/api/storage/uploads/private\.pdf\?token=[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}", document["path"])
    assert urlsplit(document["url"]).netloc == "api.test"
    assert document["url"] == urlsplit(document["url"]).scheme + "://api.test" + document["path"]
    expires = seam.moment(document["expiresAt"]).timestamp()
    assert before + 600 <= expires <= seam.timestamp() + 600
    assert payload_of(token_in(document["url"]))["exp"] == expires
    assert nobody("GET", document["path"]).body == BODY


@pytest.mark.parametrize("way", [BELOW, BEHIND])
@pytest.mark.parametrize("key", [*DEEP, *NAMED_LIKE_THE_ROUTE, *ODD, LONGEST])
def test_a_file_of_any_key_is_signed_by_both_routes(ada: Client, nobody: Client, key: str, way: str) -> None:
    """F10.5: the suffix form alone fails at keys that end so themselves, so there are two."""
    stored(ada, key, key.encode())
    answer = ask(ada, key, way=way)
    assert answer.status == 200, answer.body
    for url in (answer.json()["path"], answer.json()["url"].partition("://api.test")[2]):
        assert nobody("GET", url).body == key.encode()
    assert payload_of(token_in(answer.json()["path"]))["k"].endswith(f"/{key}")


def test_the_suffix_signs_the_key_before_it_and_not_the_one_that_ends_so(ada: Client) -> None:
    """F10.5"""
    stored(ada, "a/sign", b"the longer key")
    refused(ada("POST", "/api/storage/a/sign"), 404, "NOT_FOUND")
    assert ada("POST", "/api/storage/a/sign/sign").json()["path"].startswith("/api/storage/a/sign?token=")
    assert ada("POST", "/api/storage/_sign/a/sign").json()["path"].startswith("/api/storage/a/sign?token=")


@pytest.mark.parametrize("key", ["a", "sign", "a/signs", "a/sign/b", "a/SIGN", "asign"])
def test_a_post_to_a_key_without_the_suffix_signs_nothing(ada: Client, key: str) -> None:
    """F10.5"""
    stored(ada, key)
    answer = ada("POST", f"/api/storage/{key}")
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert {"GET", "HEAD", "PUT", "PATCH", "DELETE"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("way", [BELOW, BEHIND])
@pytest.mark.parametrize(
    ("given", "lifetime"), [({}, 3600), ({"ttlSeconds": 60}, 60), ({"ttlSeconds": 86400}, 86400), ({"other": 1}, 3600)]
)
def test_a_url_lives_as_long_as_was_asked_for(owner: Client, nobody: Client, given: Any, lifetime: int, way: str) -> None:
    """F10.5: 60 to 86,400 seconds, an hour by default."""
    before = int(seam.timestamp())
    document = ask(owner, body=given, way=way).json()
    expires = payload_of(token_in(document["path"]))["exp"]
    assert before + lifetime <= expires <= seam.timestamp() + lifetime
    assert seam.moment(document["expiresAt"]).timestamp() == expires
    assert nobody("GET", document["path"]).status == 200


@pytest.mark.parametrize("way", [BELOW, BEHIND])
@pytest.mark.parametrize("body", [None, b"", b"{}", b" {} \n"])
def test_the_body_may_be_left_out(owner: Client, body: Any, way: str) -> None:
    """F10.5"""
    before = int(seam.timestamp())
    answer = ask(owner, body=body, way=way)
    assert answer.status == 200, answer.body
    assert before + 3600 <= payload_of(token_in(answer.json()["path"]))["exp"] <= seam.timestamp() + 3600


WRONG_LIFETIMES = [59, 0, -1, 86401, 10**30, "x", "600", "", 1.5, 600.5, 1e300, True, False, None, [], [600], {}]


@pytest.mark.parametrize("way", [BELOW, BEHIND])
@pytest.mark.parametrize("lifetime", WRONG_LIFETIMES)
def test_a_lifetime_that_cannot_be_is_refused_and_not_bent(owner: Client, lifetime: Any, way: str) -> None:
    """F10.5: the seed's source clamps where its schema refuses; here nothing is clamped."""
    error = refused(ask(owner, body={"ttlSeconds": lifetime}, way=way), 422, "VALIDATION")
    assert "ttlSeconds" in error["message"]


@pytest.mark.parametrize("body", [b"[]", b"null", b"3600", b'"x"', b"{", b"\xff", b'{"ttlSeconds":NaN}', b"[" * 20_000, b'{"a":' * 5_000])
def test_a_body_that_is_no_object_is_refused(owner: Client, body: bytes) -> None:
    """F10.5"""
    refused(ask(owner, body=body), 422, "VALIDATION")


def test_the_absolute_url_is_the_installations_own(owner: Client, choose: Choose) -> None:
    """F10.5"""
    choose("STOWAGE_PUBLIC_URL", "https://files.example.com/v1/")
    document = signed(owner)
    assert document["url"] == "https://files.example.com/v1" + document["path"]
    assert document["path"].startswith("/api/storage/")


# ---- who may ask ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", [BELOW, BEHIND])
def test_who_may_not_read_a_file_signs_no_url_of_it(tenant: Tenant, owner: Client, bob: Client, way: str) -> None:
    """F10.10: another's file is not there, and without a permission, or a credential, there is nothing to ask."""
    assert ask(owner, way=way).status == ask(tenant.service, way=way).status == 200
    theirs, absent = (refused(ask(bob, key, way=way), 404, "NOT_FOUND") for key in (KEY, "absent"))
    assert theirs["message"].replace(KEY, "absent") == absent["message"]
    refused(ask(tenant.anon, way=way), 403, "FORBIDDEN")
    refused(ask(tenant.nobody, way=way), 401, "UNAUTHORIZED")


def test_nobody_signs_even_where_requests_without_a_credential_have_a_tenant(tenant: Tenant, owner: Client, choose: Choose) -> None:
    """F10.10"""
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    refused(ask(tenant.nobody), 401, "UNAUTHORIZED")


def test_a_public_file_is_signed_by_nobody_but_who_may_read_it(tenant: Tenant, ada: Client, bob: Client, choose: Choose) -> None:
    """F10.10: `public` opens transforms, and no original."""
    choose("STOWAGE_PUBLIC_BASE_URL", "https://img.example.com")
    stored(ada, KEY, BODY, "?acl=public")
    refused(ask(bob), 404, "NOT_FOUND")
    refused(ask(tenant.anon), 403, "FORBIDDEN")


def test_a_policys_condition_decides_row_by_row_what_is_signed(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F10.10: a role with a scope cannot sign a sibling of what it may read."""
    for key in ("team/a", "team/b"):
        stored(ada, key, key.encode())
    allow(tenant.service, "SELECT", "name = 'team/a'")
    forget_everything()
    assert opened(tenant.nobody, sign(bob, "team/a"), "team/a").body == b"team/a"
    refused(ask(bob, "team/b"), 404, "NOT_FOUND")


def test_a_file_of_another_tenant_is_not_there_to_be_signed(owner: Client, new_tenant: Any) -> None:
    """F10.10"""
    refused(ask(new_tenant().service), 404, "NOT_FOUND")


@pytest.mark.parametrize("key", ["tenants/x", "_sign/x", "folder-counts", "from-url", "a/../b", "a//..", "a\\b", "x" * 701])
def test_a_key_that_no_file_can_have_is_not_signed(service: Client, key: str) -> None:
    """F10.5"""
    refused(ask(service, key), 422, "VALIDATION")
    if not key.startswith("_sign/"):  # that is the other route, for the key behind it
        refused(ask(service, key, way=BEHIND), 422, "VALIDATION")


# ---- what it says --------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", [KEY, *ODD, LONGEST])
def test_the_payload_is_the_physical_key_the_tenant_and_the_end(tenant: Tenant, ada: Client, choose: Choose, key: str) -> None:
    """F10.6: `k`, `t` and `exp`, base64url without padding, under a key made of the secret by SHA-256."""
    choose("STOWAGE_AUTH_SECRET", SECRET)
    stored(ada, key)
    token = sign(ada, key)
    payload = payload_of(token)
    assert list(payload) == ["k", "t", "exp"]
    assert (payload["k"], payload["t"], type(payload["exp"])) == (f"tenants/{tenant.tenant_id}/{key}", tenant.tenant_id, int)
    assert decoded(token.partition(".")[0]) == compact(payload)
    assert set(token) <= set(ALPHABET + ".")
    assert token == made_by_hand(tenant, compact(payload), key)


def test_a_token_says_nothing_of_who_signed_it(tenant: Tenant, owner: Client) -> None:
    """F10.6"""
    for client in (owner, tenant.service):
        assert payload_of(sign(client)).keys() == {"k", "t", "exp"}


# ---- what it opens -------------------------------------------------------------------------------------
def test_a_token_opens_its_file_without_any_credential(owner: Client, nobody: Client) -> None:
    """F10.5: GET and HEAD, with all that a download has."""
    token = sign(owner)
    got, head = opened(nobody, token), opened(nobody, token, method="HEAD")
    assert (got.status, got.body, got.headers["content-type"]) == (200, BODY, "text/plain")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")
    for name in ("content-type", "etag", "last-modified", "cache-control", "x-object-size", "accept-ranges"):
        assert head.headers[name] == got.headers[name]
    part = opened(nobody, token, range="bytes=2-4")
    assert (part.status, part.body) == (206, b"234")
    assert opened(nobody, token, if_none_match=got.headers["etag"]).status == 304
    assert "report.txt" in opened(nobody, token, more="&download=report.txt").headers["content-disposition"]


def test_a_token_opens_its_file_whoever_holds_it(tenant: Tenant, owner: Client, bob: Client) -> None:
    """F10.5"""
    token = sign(owner)
    for client in (bob, tenant.anon, tenant.service):
        assert opened(client, token).body == BODY
    for headers in ({"authorization": "Bearer sk_none"}, {"apikey": "pk_none"}, {"cookie": "stowage_session=has-ended"}):
        assert opened(tenant.nobody, token, **headers).body == BODY


def test_a_token_is_for_its_key_alone(owner: Client, nobody: Client) -> None:
    """F10.7"""
    for other in ("uploads/private.pdf2", "uploads/private", "private.pdf", "uploads/private.pdf/", "uploads/PRIVATE.PDF", "absent"):
        if other != "absent":
            stored(owner, other, b"other")
        assert is_refused(opened(nobody, sign(owner), other))
        assert is_refused(opened(owner, sign(owner), other))


def test_a_token_is_for_its_tenant_alone(owner: Client, new_tenant: Any, tenant: Tenant) -> None:
    """F10.7: neither of the two names of the tenant can be exchanged."""
    other = new_tenant()
    stored(other.service, KEY, b"of another")
    token, theirs = sign(owner), sign(other.service, ttlSeconds=60)
    assert opened(tenant.nobody, token).body == BODY
    assert opened(tenant.nobody, theirs).body == b"of another"
    payload, signature = payload_of(token), token.partition(".")[2]
    to_other = {"k": f"tenants/{other.tenant_id}/{KEY}", "t": other.tenant_id}
    for changes in (to_other, {"t": to_other["t"]}, {"k": to_other["k"]}):
        for of in (signature, theirs.partition(".")[2]):
            assert is_refused(opened(tenant.nobody, f"{encoded(compact(payload | changes))}.{of}"))


def test_a_token_of_a_tenant_that_is_gone_opens_nothing(tenant: Tenant, owner: Client) -> None:
    """F10.7"""
    token = sign(owner)
    tenants.delete_tenant(Principal(Role.ADMIN, ""), tenant.tenant_id)
    forget_everything()
    assert is_refused(opened(tenant.nobody, token))


# ---- what is not one -----------------------------------------------------------------------------------
def test_a_token_with_any_one_character_changed_is_refused(ada: Client, nobody: Client) -> None:
    """F10.7: each character of the payload, of the signature, and the dot."""
    stored(ada, "k", BODY)
    token = sign(ada, "k")
    for position, character in enumerate(token):
        for other in (ALPHABET[(ALPHABET.find(character) + 1) % 64], "." if character != "." else "-"):
            changed = token[:position] + other + token[position + 1 :]
            assert is_refused(opened(nobody, changed, "k")), changed
    assert opened(nobody, token, "k").body == BODY


def test_the_last_character_has_one_spelling(owner: Client, nobody: Client) -> None:
    """F10.7: its two unused bits would let four spellings of a signature pass."""
    token = sign(owner)
    assert [last for last in ALPHABET if opened(nobody, token[:-1] + last).status == 200] == [token[-1]]


def test_a_token_in_another_alphabet_with_padding_or_white_space_is_refused(owner: Client, nobody: Client) -> None:
    """F10.6"""
    token = next(made for ttl in range(60, 200) if set(made := sign(owner, ttlSeconds=ttl)) & set("-_"))
    payload, _, signature = token.partition(".")
    spellings = [token.replace("-", "+").replace("_", "/"), f"{token}=", f"{payload}=.{signature}", f"{payload}==.{signature}="]
    spellings += [f"{space}{token}" for space in " \t\n\r\x00\ufeff"] + [f"{token}{space}" for space in " \t\n\r\x00\u200b"]
    spellings += [f"{payload} .{signature}", f"{payload}. {signature}", f"{payload}\n.{signature}", token[:20] + "\n" + token[20:]]
    spellings += [f"{token}.", f".{token}", f"{payload}..{signature}", f"{token}.{signature}", f'"{token}"', f"Bearer {token}", token * 2]
    for spelling in spellings:
        assert is_refused(opened(nobody, spelling)), spelling
    assert opened(nobody, token).status == 200


def test_a_part_of_a_token_is_refused(owner: Client, nobody: Client) -> None:
    """F10.7"""
    token = sign(owner)
    payload, _, signature = token.partition(".")
    for part in ("", ".", payload, f"{payload}.", f".{signature}", signature, token[:-1], token[1:], f"{payload}.{signature[:20]}"):
        assert is_refused(opened(nobody, part)), part


BOMBS = [
    b"[" * 3000,
    b'{"k":' * 600,
    b'{"t":' + b"[" * 2900,
    b'{"exp":' + b"9" * 2900 + b"}",
    b'{"exp":1e999999}',
    b'{"exp":NaN}',
    b'{"t":"\\ud800","k":"\\ud800"}',
    b'{"t":["x"],"k":{"a":1}}',
    b'{"t":null,"k":null,"exp":null}',
    b'{"t":1}{"t":2}',
    b"\xff\xfe\x00{",
    b"null",
    b"[]",
    b"1",
    b'"tenants"',
    b"",
]


@pytest.mark.parametrize("payload", BOMBS, ids=range(len(BOMBS)))
@pytest.mark.parametrize("signature", ["", "A" * 43])
def test_a_payload_that_is_none_is_refused(owner: Client, nobody: Client, payload: bytes, signature: str) -> None:
    """F10.7: nested without end, numbers without end, no JSON, no object."""
    assert is_refused(opened(nobody, f"{encoded(payload)}.{signature}"))


@pytest.mark.parametrize("length", [4097, 300_000])
@pytest.mark.parametrize("piece", ["A", ".", "日"])
def test_a_very_long_token_is_refused(owner: Client, nobody: Client, piece: str, length: int) -> None:
    """F10.7"""
    token = sign(owner)
    assert is_refused(opened(nobody, piece * length))
    assert is_refused(opened(nobody, token + piece * length))
    assert is_refused(opened(nobody, encoded(b'{"k":"' + b"k" * length + b'"}') + "." + "A" * 43))


def test_a_token_that_is_no_text_or_two_is_no_request(owner: Client, nobody: Client) -> None:
    """F10.7"""
    path, token = f"/api/storage/{KEY}", sign(owner)
    refused(nobody("GET", f"{path}?token=%ff%fe"), 422, "VALIDATION")
    refused(nobody("GET", f"{path}?token={token}&token={sign(owner, ttlSeconds=60)}"), 422, "VALIDATION")


# U+FFFD is what text that is no UTF-8 has become, and is refused as such.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=200)


@examples(150)
@given(TEXT | st.builds("{}.{}".format, TEXT, TEXT) | st.builds("{}.{}".format, st.binary(max_size=200).map(encoded), st.text(ALPHABET)))
@example("\x00")
def test_nothing_that_was_not_signed_opens_a_file(owner: Client, nobody: Client, token: str) -> None:
    """F10.7"""
    assert is_refused(opened(nobody, token))


@examples(150)
@given(st.data())
def test_a_token_that_was_tampered_with_opens_nothing(owner: Client, nobody: Client, data: st.DataObject) -> None:
    """F10.7"""
    token = sign(owner)
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(token))] * 2)))
    tampered = token[:first] + data.draw(st.text(ALPHABET + ".=+/ ", max_size=5)) + token[last:]
    assert opened(nobody, token).status == 200
    assert tampered == token or is_refused(opened(nobody, tampered))


@pytest.mark.parametrize("expires", [True, None, "9999999999", 9999999999.0, 1e300, [9999999999], {}])
def test_an_end_that_is_no_whole_number_is_refused_although_it_is_signed(
    tenant: Tenant, owner: Client, choose: Choose, expires: Any
) -> None:
    """F10.6: other programs may know the secret, and make mistakes."""
    choose("STOWAGE_AUTH_SECRET", SECRET)
    payload = payload_of(sign(owner))
    assert opened(tenant.nobody, made_by_hand(tenant, compact(payload))).body == BODY
    assert is_refused(opened(tenant.nobody, made_by_hand(tenant, compact(payload | {"exp": expires}))))


@pytest.mark.parametrize("left_out", ["k", "t", "exp"])
def test_nothing_may_be_left_out_although_it_is_signed(tenant: Tenant, owner: Client, choose: Choose, left_out: str) -> None:
    """F10.6"""
    choose("STOWAGE_AUTH_SECRET", SECRET)
    payload = {name: value for name, value in payload_of(sign(owner)).items() if name != left_out}
    assert is_refused(opened(tenant.nobody, made_by_hand(tenant, compact(payload))))


def test_a_physical_key_that_is_not_the_files_is_refused_although_it_is_signed(tenant: Tenant, owner: Client, choose: Choose) -> None:
    """F10.7"""
    choose("STOWAGE_AUTH_SECRET", SECRET)
    payload = payload_of(sign(owner))
    for physical in (KEY, f"/{payload['k']}", f"{payload['k']}/", payload["k"].upper(), f"tenants/{tenant.tenant_id}/other", ""):
        assert is_refused(opened(tenant.nobody, made_by_hand(tenant, compact(payload | {"k": physical}))))


# ---- what ends it --------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_token_expires(owner: Client, nobody: Client, clock: Clock, method: str) -> None:
    """F10.6"""
    token = sign(owner, ttlSeconds=60)
    clock.advance(30)
    assert opened(nobody, token, method=method).status == 200
    clock.advance(30)
    answer = opened(nobody, token, method=method)
    assert (answer.status, answer.headers["www-authenticate"].split()[0]) == (401, "Bearer")
    assert is_refused(opened(nobody, token), "ExpiredToken")


def test_whether_it_has_expired_is_not_told_of_a_token_that_was_not_signed(owner: Client, nobody: Client, clock: Clock) -> None:
    """F10.6"""
    token = sign(owner, ttlSeconds=60)
    clock.advance(61)
    assert is_refused(opened(nobody, token[:-1] + ("A" if token[-1] != "A" else "Q")))


def test_another_secret_ends_every_token(owner: Client, nobody: Client, choose: Choose) -> None:
    """F10.8"""
    choose("STOWAGE_AUTH_SECRET", SECRET)
    token = sign(owner)
    assert opened(nobody, token).body == BODY
    choose("STOWAGE_AUTH_SECRET", SECRET + "!")
    assert is_refused(opened(nobody, token))
    assert opened(nobody, sign(owner)).body == BODY
    choose("STOWAGE_AUTH_SECRET", SECRET)
    assert opened(nobody, token).body == BODY


def test_a_secret_that_is_set_or_taken_away_ends_every_token(owner: Client, nobody: Client, choose: Choose) -> None:
    """F10.8"""
    before = sign(owner)
    choose("STOWAGE_AUTH_SECRET", SECRET)
    assert is_refused(opened(nobody, before))
    between = sign(owner)
    choose("STOWAGE_AUTH_SECRET", "")
    assert is_refused(opened(nobody, between))
    assert opened(nobody, before).body == BODY


def test_without_a_secret_a_token_outlives_its_master_key_until_that_is_forgotten(
    tenant: Tenant, service: Client, use_keys: UseKeys
) -> None:
    """F10.8: master keys overlap, so that one can be replaced without ending what was signed under it."""
    stored(service, KEY, BODY)
    old = sign(service)
    use_keys(f"{NEW},{OLD}")
    new = sign(service)
    assert opened(tenant.nobody, old).body == opened(tenant.nobody, new).body == BODY
    assert new.partition(".")[2] != old.partition(".")[2]
    use_keys(NEW)
    assert is_refused(opened(tenant.nobody, old))
    assert opened(tenant.nobody, new).body == BODY


def test_with_a_secret_the_master_key_is_nothing_to_a_token(tenant: Tenant, service: Client, choose: Choose, use_keys: UseKeys) -> None:
    """F10.8"""
    choose("STOWAGE_AUTH_SECRET", SECRET)
    stored(service, KEY, BODY)
    token = sign(service)
    use_keys(NEW)
    assert opened(tenant.nobody, token).body == BODY


def test_a_token_opens_what_the_file_is_overwritten_with(owner: Client, nobody: Client) -> None:
    """F10.7: it is for the file, and not for a version of it."""
    token = sign(owner)
    stored(owner, KEY, b"new bytes", "?acl=public")
    patch(owner, KEY, metadata={"a": 1}, acl="private")
    assert opened(nobody, token).body == b"new bytes"


@pytest.mark.parametrize("after", ["owner", "bob", "service"])
def test_a_token_ends_with_its_file_and_never_opens_what_comes_after_it(
    tenant: Tenant, owner: Client, bob: Client, nobody: Client, after: str
) -> None:
    """F10.7: what another has stored under the key since is theirs."""
    token = sign(owner)
    assert owner("DELETE", f"/api/storage/{KEY}").status == 200
    assert is_refused(opened(nobody, token))
    client = {"owner": owner, "bob": bob, "service": tenant.service}[after]
    assert put(client, KEY, b"another file").status == 201
    assert is_refused(opened(nobody, token))
    assert opened(nobody, sign(client)).body == b"another file"


def test_a_token_ends_with_a_move_and_does_not_come_back_with_the_file(owner: Client, nobody: Client) -> None:
    """F10.7"""
    token = sign(owner)
    move(owner, KEY, "elsewhere")
    assert is_refused(opened(nobody, token))
    assert is_refused(opened(nobody, token, "elsewhere"))
    move(owner, "elsewhere", KEY)
    assert is_refused(opened(nobody, token))
    assert opened(nobody, sign(owner)).body == BODY


def test_a_token_does_not_open_what_is_moved_over_its_file(owner: Client, nobody: Client) -> None:
    """F10.7"""
    token = sign(owner)
    stored(owner, "draft", b"moved here")
    move(owner, "draft", KEY)
    assert is_refused(opened(nobody, token))
    assert opened(nobody, sign(owner)).body == b"moved here"


def test_a_revocation_ends_every_token_of_its_file_and_of_no_other(owner: Client, nobody: Client) -> None:
    """F10.7: also through an overwrite."""
    stored(owner, "other", b"other")
    tokens, other = [sign(owner, ttlSeconds=ttl) for ttl in (60, 3600)], sign(owner, "other")
    answer = owner("POST", "/storage/signed-url/revoke", {"bucket": ".files", "path": KEY})
    assert answer.status == 200, answer.body
    assert all(is_refused(opened(nobody, token)) for token in tokens)
    assert opened(nobody, other, "other").body == b"other"
    assert opened(nobody, sign(owner)).body == BODY
    stored(owner, KEY, b"again")
    assert all(is_refused(opened(nobody, token)) for token in tokens)


def test_only_who_may_change_a_file_revokes_its_tokens(tenant: Tenant, owner: Client, bob: Client) -> None:
    """F10.7"""
    token = sign(owner)
    for client, status in ((bob, 404), (tenant.anon, 404), (tenant.nobody, 401)):
        assert client("POST", "/storage/signed-url/revoke", {"bucket": ".files", "path": KEY}).status == status
    assert opened(tenant.nobody, token).body == BODY


# ---- what it is not ------------------------------------------------------------------------------------
@pytest.mark.parametrize("who", ["nobody", "anon"])
def test_a_token_is_no_credential_for_anything_else(tenant: Tenant, owner: Client, choose: Choose, clock: Clock, who: str) -> None:
    """F10.5, F9.22: it gives one file, and changes, deletes, signs, fetches and lists nothing."""
    client, token, before = {"nobody": tenant.nobody, "anon": tenant.anon}[who], sign(owner), listed(owner)
    status, code = {"nobody": (401, "UNAUTHORIZED"), "anon": (403, "FORBIDDEN")}[who]
    path = f"/api/storage/{KEY}"
    asked: list[tuple[str, str, Any]] = [("PUT", path, b"over"), ("PATCH", path, {"acl": "public"}), ("DELETE", path, None)]
    asked += [("POST", f"{path}/sign", None), ("POST", f"/api/storage/_sign/{KEY}", None), ("GET", "/api/storage", None)]
    asked += [("POST", "/api/storage/from-url", {"url": "https://example.com/a"})]
    asked += [("GET", "/api/storage/folder-counts", None), ("GET", "/api/folders", None), ("GET", "/api/uploads", None)]
    for default_tenant in ("", tenant.tenant_id):
        choose("STOWAGE_DEFAULT_TENANT", default_tenant)
        for method, url, body in asked:
            refused(client(method, f"{url}?token={token}", body), status, code)
    origin = signed(owner)["url"].partition("/api/")[0]
    for method, url, body in asked:
        for headers in ({"authorization": f"Bearer {token}"}, {"cookie": f"stowage_session={token}", "origin": origin}):
            refused(tenant.nobody(method, url, body, headers), 401, "UNAUTHORIZED")
    assert listed(owner) == before
    assert opened(tenant.nobody, token).body == BODY


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_bad_token_is_refused_whatever_credential_comes_beside_it(tenant: Tenant, owner: Client, clock: Clock, method: str) -> None:
    """F10.7: who sends one means it, and is told that it is none."""
    expired = sign(owner, ttlSeconds=60)
    clock.advance(60)
    for client in (owner, tenant.service):
        assert get(client, KEY).status == 200
        for token in ("", "x", f"{sign(owner)}A", expired):
            assert opened(client, token, method=method).status == 401
    assert is_refused(opened(owner, expired), "ExpiredToken")


def test_tokens_of_the_two_surfaces_do_not_open_each_others_urls(tenant: Tenant, owner: Client) -> None:
    """F10.6"""
    of_file = sign(owner)
    answer = owner("POST", "/storage/signed-url", {"bucket": ".files", "path": KEY})
    of_object = answer.json()["signed_url"].removeprefix("/storage/signed/")
    assert tenant.nobody("GET", f"/storage/signed/{of_object}").body == opened(tenant.nobody, of_file).body == BODY
    assert is_refused(opened(tenant.nobody, of_object))
    crossed = tenant.nobody("GET", f"/storage/signed/{of_file}")
    assert (crossed.status, crossed.code) == (401, "InvalidSignature")


def test_an_upload_token_of_the_storage_surface_reads_no_file(tenant: Tenant, owner: Client) -> None:
    """F10.6"""
    answer = owner("POST", "/storage/signed-upload-url", {"bucket": ".files", "path": KEY, "upsert": True})
    token = answer.json()["signed_url"].removeprefix("/storage/signed/")
    assert is_refused(opened(tenant.nobody, token))
    assert tenant.nobody("PUT", f"/storage/signed/{sign(owner)}", b"over").status == 401
    assert get(owner, KEY).body == BODY


def test_a_token_opens_no_public_route(tenant: Tenant, owner: Client, choose: Choose) -> None:
    """F10.7"""
    choose("STOWAGE_PUBLIC_BASE_URL", "https://img.example.com")
    for query in (f"?token={sign(owner)}", f"?token={sign(owner)}&width=20"):
        refused(tenant.nobody("GET", f"/api/public/{tenant.tenant_id}/{KEY}{query}"), 404, "NOT_FOUND")


# ---- with a transform, and for caches ------------------------------------------------------------------
PICTURE = pictures.saved(pictures.photograph(80, 40), "PNG")


@pytest.fixture
def photo(image_function: Any, ada: Client) -> Client:
    """Ada's client, with her private picture `photo.png` of 80 by 40 pixels."""
    stored(ada, "photo.png", PICTURE, content_type="image/png")
    return ada


def test_a_token_and_the_parameters_of_a_transform_combine(photo: Client, nobody: Client) -> None:
    """F10.9: as the seed has it, `url + "&width=400&format=webp"`; the signature says nothing of them."""
    path = signed(photo, "photo.png", ttlSeconds=300)["path"]
    answer = nobody("GET", f"{path}&width=40&format=webp")
    image = pictures.opened(answer.body)
    assert (image.size, image.format, answer.headers["content-type"]) == ((40, 20), "WEBP", "image/webp")
    own = get(photo, "photo.png", "?width=40&format=webp")
    assert (own.body, own.headers["etag"]) == (answer.body, answer.headers["etag"])
    assert nobody("GET", path).body == PICTURE
    head = nobody("HEAD", f"{path}&width=40&format=webp")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(answer.body)))
    assert nobody("GET", f"{path}&width=40&format=webp", headers={"if-none-match": answer.headers["etag"]}).status == 304


def test_with_a_token_too_what_cannot_be_made_is_refused(photo: Client, nobody: Client) -> None:
    """F10.9: and a bad token comes first, so that nothing is told of the file."""
    token = sign(photo, "photo.png")
    refused(opened(nobody, token, "photo.png", "&width=0"), 422, "VALIDATION")
    for query in ("&width=20", "&width=0"):
        assert is_refused(opened(nobody, token[:-2], "photo.png", query))
    stored(photo, "words.txt", BODY)
    refused(opened(nobody, sign(photo, "words.txt"), "words.txt", "&width=20"), 422, "VALIDATION")


def test_with_a_bad_token_nothing_is_made(photo: Client, nobody: Client, calls: list[Call]) -> None:
    """F10.9"""
    assert is_refused(opened(nobody, "x.y", "photo.png", "&width=33"))
    assert Call("lambda", "Invoke") not in calls


def age(answer: Answer) -> int:
    """For how long an answer may be kept, which nobody but its receiver may."""
    scope, *kept = answer.headers["cache-control"].split(", ")
    assert scope == "private"
    return int(kept[0].removeprefix("max-age=")) if kept != ["no-cache"] else 0


@pytest.mark.parametrize("acl", ["private", "public"])
@pytest.mark.parametrize("of", ["version", "transform"])
def test_what_a_token_gives_is_kept_no_longer_than_the_token_lives(photo: Client, nobody: Client, clock: Clock, acl: str, of: str) -> None:
    """F10.13: also of a public file, and in a 304."""
    patch(photo, "photo.png", acl=acl)
    version = get(photo, "photo.png").headers["etag"].strip('"')
    query = {"version": f"&version={version}", "transform": "&width=20"}[of]
    token = sign(photo, "photo.png", ttlSeconds=600)
    for left in (600, 310, 20):
        answer = opened(nobody, token, "photo.png", query)
        unchanged = opened(nobody, token, "photo.png", query, if_none_match=answer.headers["etag"])
        head = opened(nobody, token, "photo.png", query, "HEAD")
        assert [each.status for each in (answer, unchanged, head)] == [200, 304, 200]
        assert all(left - 20 <= age(each) <= left for each in (answer, unchanged, head))
        clock.advance(290)
    assert is_refused(opened(nobody, token, "photo.png", query), "ExpiredToken")


def test_an_original_by_token_is_asked_for_again_each_time(owner: Client, nobody: Client) -> None:
    """F10.13: the file may be overwritten meanwhile."""
    assert opened(nobody, sign(owner)).headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("query", ["", "&width=40"])
def test_where_a_large_answer_is_fetched_dies_with_the_token(
    photo: Client, nobody: Client, choose: Choose, clock: Clock, query: str
) -> None:
    """F10.13: what no answer can carry is fetched from the storage, and not for longer."""
    token = sign(photo, "photo.png", ttlSeconds=120)
    body = opened(nobody, token, "photo.png", query).body
    choose("STOWAGE_MAX_BODY", str(len(body) - 1))
    for left in (120, 60):
        answer = opened(nobody, token, "photo.png", query)
        assert (answer.status, answer.headers["cache-control"]) == (302, "no-store")
        assert left - 30 <= int(parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"][0]) <= left
        clock.advance(60)
    with urllib.request.urlopen(answer.headers["location"]) as fetched:
        assert fetched.read() == body
