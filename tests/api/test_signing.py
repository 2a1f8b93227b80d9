"""Signed URLs: what a token says, whom it lets in, and what ends it (CONTRACT "Storage surface", FEATURES F10)."""

import base64
import hashlib
import hmac
import json
import random
import re
import string
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chalicelib import seam
from chalicelib.access import sealing
from chalicelib.access.cache import forget_everything
from chalicelib.core import changes, copies, tenants
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.objects import StoredObject, UsedToken
from chalicelib.tables.policies import StoredPolicy
from tests.client import Answer, Client
from tests.conftest import MASTER_KEY, Call, Clock, Tenant, run_job

BODY = b"0123456789"
BATCH_GET, GET_OBJECT = Call("dynamodb", "BatchGetItem"), Call("s3", "GetObject")
ALPHABET = string.ascii_letters + string.digits + "-_"
OLD, NEW = MASTER_KEY, base64.b64encode(b"n" * 32).decode()
UseKeys = Callable[[str], None]


@pytest.fixture
def digits(service: Client) -> Client:
    """The service's client, with an object `d` of ten bytes in the private bucket `b`."""
    service.bucket("b")
    service.put("b", "d", BODY, "text/plain")
    return service


@pytest.fixture
def nobody(tenant: Tenant) -> Client:
    return tenant.nobody


@pytest.fixture
def use_keys(choose: Callable[[str, str], None]) -> Iterator[UseKeys]:
    """Replaces the installation's master keys, as a restart of every process does."""

    def use(text: str) -> None:
        choose("STOWAGE_MASTER_KEY", text)
        sealing.forget_master_keys()
        forget_everything()

    yield use
    sealing.forget_master_keys()
    forget_everything()


def asked(client: Client, path: str = "d", bucket: str = "b", **more: Any) -> Answer:
    return client("POST", "/storage/signed-url", {"bucket": bucket, "path": path, **more})


def token_of(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return str(answer.json()["signed_url"]).removeprefix("/storage/signed/")


def sign(client: Client, path: str = "d", **more: Any) -> str:
    return token_of(asked(client, path, **more))


def opened(client: Client, token: str, method: str = "GET", query: str = "", **headers: str) -> Answer:
    return client(method, f"/storage/signed/{token}{query}", headers={name.replace("_", "-"): value for name, value in headers.items()})


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code if answer.status >= 400 else ""


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def payload_of(token: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(decoded(token.partition(".")[0]))
    return payload


def made_by_hand(payload: Any, master_key: str = MASTER_KEY) -> str:
    """A token as an independent implementation makes it (RFC 5869, RFC 2104)."""
    key = HKDF(hashes.SHA256(), 32, None, b"atlas-storage-signed-urls").derive(base64.b64decode(master_key))
    text = encoded(json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode())
    return f"{text}.{encoded(hmac.new(key, text.encode(), 'sha256').digest())}"


def relocate(client: Client, kind: str, source: str, target: str, to_bucket: str = "b", **headers: str) -> Answer:
    body = {"bucket": "b", "from": source, "to": target, "to_bucket": to_bucket}
    return client("POST", f"/storage/object/{kind}", body, {name.replace("_", "-"): value for name, value in headers.items()})


def revoke(client: Client, path: str = "d") -> Answer:
    return client("POST", "/storage/signed-url/revoke", {"bucket": "b", "path": path})


REFUSED = (401, "InvalidSignature")


# ---- the token -----------------------------------------------------------------------------------------
def test_a_signed_url_is_told_relative_and_absolute_with_its_end(digits: Client) -> None:
    before = int(seam.timestamp())
    answer = asked(digits, expires_in=60).json()
    assert answer.keys() == {"signed_url", "url", "expires_at"}
    assert re.fullmatch(r"/storage/signed/[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}", answer["signed_url"])
    assert answer["url"].endswith(answer["signed_url"])
    assert urlsplit(answer["url"]).netloc == "api.test"
    expires = seam.moment(answer["expires_at"]).timestamp()
    assert before + 60 <= expires <= seam.timestamp() + 60
    assert payload_of(answer["signed_url"].rpartition("/")[2])["exp"] == expires


@pytest.mark.parametrize("name", ["d", "folder/ü 日本.txt", 'q"uote', "a+b%20"])
def test_a_token_is_compact_json_and_its_keyed_hash(tenant: Tenant, digits: Client, name: str) -> None:
    digits.put("b", name, BODY)
    token = sign(digits, name)
    raw, payload = decoded(token.partition(".")[0]), payload_of(token)
    assert "=" not in token
    assert list(payload) == ["b", "p", "pid", "exp", "iat", "kid"]
    assert raw == json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    assert [payload[key] for key in ("b", "p", "pid", "kid")] == ["b", name, tenant.tenant_id, sealing.master_keys()[0].key_id]
    assert type(payload["exp"]) is int
    assert payload["iat"] <= seam.timestamp() <= payload["iat"] + 60
    assert token == made_by_hand(payload)


def test_a_token_that_another_implementation_made_is_taken(tenant: Tenant, digits: Client) -> None:
    now = seam.timestamp()
    payload = {"b": "b", "p": "d", "pid": tenant.tenant_id, "exp": int(now) + 60, "iat": now, "kid": "x"}
    assert opened(tenant.nobody, made_by_hand(payload)).body == BODY


@pytest.mark.parametrize("value", [0, -1, 604_801, 10**30, 1.5, "60", True, None])
def test_a_lifetime_out_of_bounds_is_refused(digits: Client, value: Any) -> None:
    for path, more in (("signed-url", {"path": "d"}), ("signed-urls", {"paths": ["d"]}), ("signed-upload-url", {"path": "new"})):
        assert digits("POST", f"/storage/{path}", {"bucket": "b", "expires_in": value} | more).status == 400


@pytest.mark.parametrize(("chosen", "lifetime"), [({}, 3600), ({"expires_in": 1}, 1), ({"expires_in": 604_800}, 604_800)])
def test_a_token_lives_as_long_as_was_asked(digits: Client, nobody: Client, clock: Clock, chosen: dict[str, Any], lifetime: int) -> None:
    started = seam.timestamp()
    token = sign(digits, **chosen)
    assert int(started) + lifetime <= payload_of(token)["exp"] <= int(seam.timestamp()) + lifetime
    assert opened(nobody, token).status == 200 or lifetime == 1
    clock.advance(lifetime)
    answer = opened(nobody, token)
    assert told(answer) == (401, "ExpiredToken")
    assert "www-authenticate" in answer.headers
    assert opened(nobody, token, "HEAD").status == 401


# ---- what is no token ----------------------------------------------------------------------------------
def test_a_token_of_which_any_character_was_changed_is_refused(digits: Client, nobody: Client) -> None:
    token, chance = sign(digits), random.Random(1)
    assert opened(nobody, token).status == 200
    last = {token.index(".") - 1, len(token) - 1}
    for position, character in enumerate(token):
        others = [other for other in ALPHABET if other != character]
        for other in others if position in last else chance.sample(others, 1):
            changed = token[:position] + other + token[position + 1 :]
            assert told(opened(nobody, changed)) == REFUSED, (position, other)


def test_a_token_that_is_written_in_another_way_is_refused(digits: Client, nobody: Client) -> None:
    token = sign(digits)
    payload, _, signature = token.partition(".")
    ways = [
        f"{payload}.{signature}=",
        f"{payload}=.{signature}=",
        f"{payload}==.{signature}",
        token.upper(),
        token.lower(),
        f"{token}.",
        f"{token}.x",
        f"{token}.{signature}",
        f".{token}",
        f"{payload}..{signature}",
        f"{signature}.{payload}",
        payload,
        signature,
        f"{payload}.",
        f".{signature}",
        f"{payload}.{signature}%0A",
        f"%20{token}",
        f"{payload}%00.{signature}",
        f"{payload}.{signature}A",
        f"{payload}.{signature[:-1]}",
        f"{payload}%2B.{signature}",
        f"{payload}.{base64.b64encode(decoded(signature)).decode().replace('/', '%2F').replace('+', '%2B')}",
        f"{payload}.{decoded(signature).hex()}",
        "A" * 9000 + "." + "A" * 43,
        "x",
    ]
    for way in ways:
        assert told(opened(nobody, way)) == REFUSED, way
    assert opened(nobody, f"{payload}%2E{signature}").status == 200  # the same text, percent-encoded


def test_a_token_of_another_installation_is_refused(digits: Client, nobody: Client) -> None:
    payload = payload_of(sign(digits))
    assert opened(nobody, made_by_hand(payload)).status == 200
    assert told(opened(nobody, made_by_hand(payload, NEW))) == REFUSED
    for context in (b"", b"stowage-sealed-secrets"):
        key = HKDF(hashes.SHA256(), 32, None, context).derive(base64.b64decode(MASTER_KEY))
        text = encoded(json.dumps(payload, separators=(",", ":")).encode())
        assert told(opened(nobody, f"{text}.{encoded(hmac.new(key, text.encode(), 'sha256').digest())}")) == REFUSED


def _mutated(token: str, chance: random.Random) -> str:
    letters = ALPHABET + ".=+/% ~ü日\U0001f600"
    position, length = chance.randrange(len(token)), chance.randint(1, 12)
    piece = "".join(chance.choice(letters) for _ in range(length))
    payload, _, signature = token.partition(".")
    return chance.choice(
        [
            token[:position] + piece + token[position + length :],
            token[:position] + piece + token[position:],
            token[:position] + token[position + length :],
            token[: max(position, 4)],
            token[position:] + token[:position],
            token[::-1],
            token[:position] + token[position:].swapcase(),
            token.replace(token[position], piece[0]),
            f"{payload}.{encoded(chance.randbytes(chance.choice([0, 16, 31, 32, 33, 64])))}",
            f"{encoded(chance.randbytes(length * 9))}.{signature}",
            f"{encoded(json.dumps(payload_of(token) | {chance.choice(['b', 'p', 'pid', 'exp', 'kid', 's']): piece}).encode())}.{signature}",
            f"{encoded(decoded(payload).replace(b'd', piece.encode()) + b' ')}.{signature}",
            piece * 5,
        ]
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_token_that_was_tampered_with_lets_anyone_in(digits: Client, nobody: Client, seed: int) -> None:
    chance = random.Random(seed)
    tokens = [sign(digits), upload_token(digits, "new")]
    tried = 0
    while tried < 600:
        token = chance.choice(tokens)
        changed = _mutated(token, chance)
        if changed in tokens or len(changed) < 3 or not changed.strip("."):
            continue
        tried += 1
        answer = nobody(chance.choice(["GET", "PUT"]), f"/storage/signed/{quote(changed, safe='')}", b"x")
        assert told(answer) == REFUSED, changed
        assert BODY not in answer.body
    assert digits.names("b") == ["d"]


# ---- master keys ---------------------------------------------------------------------------------------
def test_a_new_master_key_signs_and_the_old_one_still_opens(tenant: Tenant, digits: Client, nobody: Client, use_keys: UseKeys) -> None:
    before = sign(digits)
    tenant.service("POST", "/storage/policies", {"bucket": "b", "name": "p", "operation": "SELECT", "definition": "auth_uid() IS NOT NULL"})
    user = tenant.user()
    use_keys(f"{NEW},{OLD}")
    after = sign(digits)
    assert payload_of(before)["kid"] != payload_of(after)["kid"]
    assert payload_of(after)["kid"] == sealing.master_keys()[0].key_id
    assert after == made_by_hand(payload_of(after), NEW)
    assert [opened(nobody, token).status for token in (before, after)] == [200, 200]
    assert user.get("b", "d").status == 200  # the tenant's secret is sealed under the old one
    use_keys(NEW)
    assert told(opened(nobody, before)) == REFUSED
    assert opened(nobody, after).status == 200


def test_the_key_id_in_a_token_chooses_nothing(digits: Client, nobody: Client, use_keys: UseKeys) -> None:
    use_keys(f"{NEW},{OLD}")
    payload = payload_of(sign(digits))
    for kid in ("", "unknown", payload["kid"]):
        assert opened(nobody, made_by_hand(payload | {"kid": kid}, OLD)).status == 200
        assert told(opened(nobody, made_by_hand(payload | {"kid": kid}, base64.b64encode(b"z" * 32).decode()))) == REFUSED


# ---- downloading ---------------------------------------------------------------------------------------
def test_a_token_opens_without_a_credential_and_whatever_credential_is_sent(digits: Client, tenant: Tenant, new_tenant: Any) -> None:
    token = sign(digits)
    for client in (tenant.nobody, tenant.anon, tenant.user(), new_tenant().service, tenant.nobody.using("sk_unknown")):
        answer = opened(client, token)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, BODY, "text/plain")
    assert digits.get("b", "d").headers["etag"] == answer.headers["etag"]


def test_a_signed_download_answers_like_any_other(digits: Client, nobody: Client) -> None:
    token = sign(digits)
    head = opened(nobody, token, "HEAD")
    assert (head.status, head.body, head.headers["x-object-size"]) == (200, b"", "10")
    part = opened(nobody, token, Range="bytes=2-4")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert opened(nobody, token, Range="bytes=10-").status == 416
    assert opened(nobody, token, If_None_Match=head.headers["etag"]).status == 304
    assert opened(nobody, token, If_Match='"other"').status == 412
    assert opened(nobody, token, query="?download=x.txt").headers["content-disposition"].startswith('attachment; filename="x.txt"')
    assert "content-disposition" not in head.headers


@pytest.mark.parametrize("public", [True, False])
def test_a_signed_download_is_kept_by_no_shared_cache(service: Client, nobody: Client, public: bool) -> None:
    service.bucket("b", public=public)
    service.put("b", "d", BODY)
    token = sign(service)
    etag = opened(nobody, token).headers["etag"]
    for answer in (opened(nobody, token), opened(nobody, token, "HEAD"), opened(nobody, token, If_None_Match=etag)):
        assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(("lifetime", "passed", "most"), [(60, 0, 60), (7200, 0, 3600), (7200, 7000, 200), (600, 595, 5)])
def test_a_redirect_lives_no_longer_than_its_token(
    digits: Client, nobody: Client, choose: Callable[[str, str], None], clock: Clock, lifetime: int, passed: int, most: int
) -> None:
    token = sign(digits, expires_in=lifetime)
    choose("STOWAGE_MAX_BODY", "5")
    clock.advance(passed)
    answer = opened(nobody, token)
    assert answer.status == 302
    seconds = int(parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"][0])
    assert most - 3 <= seconds <= most
    assert seconds <= payload_of(token)["exp"] - seam.timestamp() + 1
    assert answer.headers["cache-control"] == "no-store"


def test_a_signed_download_is_one_row_and_one_object(digits: Client, nobody: Client, calls: list[Call]) -> None:
    token = sign(digits)
    opened(nobody, token)  # by now this process knows that there is such a tenant
    calls.clear()
    assert opened(nobody, token).status == 200
    assert calls == [BATCH_GET, GET_OBJECT]
    for headers, method in (({"If_None_Match": "*"}, "GET"), ({}, "HEAD")):
        calls.clear()
        opened(nobody, token, method, **headers)
        assert calls == [BATCH_GET]
    calls.clear()
    opened(nobody, token[:-1])
    assert calls == []


# ---- signing -------------------------------------------------------------------------------------------
def test_who_may_not_read_may_not_sign(tenant: Tenant, digits: Client) -> None:
    for client in (tenant.anon, tenant.user()):
        assert told(asked(client)) == (404, "ObjectNotFound")
    digits("POST", "/storage/policies", {"bucket": "b", "name": "p", "operation": "SELECT", "definition": "auth_email() = 'a@b.c'"})
    assert opened(tenant.nobody, sign(tenant.user(email="a@b.c"))).body == BODY
    assert told(asked(tenant.user())) == (404, "ObjectNotFound")
    assert told(asked(tenant.nobody)) == (401, "Unauthorized")


def test_a_token_outlives_the_right_that_it_was_signed_under(tenant: Tenant, digits: Client) -> None:
    policy = {"bucket": "b", "name": "p", "operation": "SELECT", "definition": "true"}
    policy_id = digits("POST", "/storage/policies", policy).json()["id"]
    token = sign(tenant.user())
    digits("DELETE", f"/storage/policies/{policy_id}")
    assert told(asked(tenant.user())) == (404, "ObjectNotFound")
    assert opened(tenant.nobody, token).body == BODY


def test_what_is_not_there_is_not_signed(digits: Client) -> None:
    assert told(asked(digits, "absent")) == (404, "ObjectNotFound")
    assert told(asked(digits, bucket="absent")) == (404, "BucketNotFound")
    for path in ("", "a\\b", "x" * 701, None):
        assert asked(digits, path).status == 400  # type: ignore[arg-type]


# ---- what ends a token ---------------------------------------------------------------------------------
def test_a_deleted_object_is_not_found_and_what_takes_its_name_is_not_opened(digits: Client, nobody: Client) -> None:
    token = sign(digits)
    digits.delete("b", "d")
    assert told(opened(nobody, token)) == (404, "ObjectNotFound")
    digits.put("b", "d", b"another object")
    assert told(opened(nobody, token)) == REFUSED
    assert opened(nobody, sign(digits)).body == b"another object"


def test_an_overwritten_object_still_opens(digits: Client, nobody: Client) -> None:
    token = sign(digits)
    digits.put("b", "d", b"new bytes")
    digits("PATCH", "/storage/object-info/b/d", {"user_metadata": {"k": 1}})
    assert opened(nobody, token).body == b"new bytes"
    digits.put("b", "s", b"copied over")
    assert relocate(digits, "copy", "s", "d", x_upsert="true").status == 200
    assert opened(nobody, token).body == b"copied over"


def test_revoking_ends_the_tokens_until_now(digits: Client, nobody: Client) -> None:
    digits.put("b", "other", BODY)
    tokens, other = [sign(digits), sign(digits, expires_in=604_800)], sign(digits, "other")
    answer = revoke(digits)
    assert (answer.status, answer.json()) == (200, {})
    assert [told(opened(nobody, token)) for token in tokens] == [REFUSED, REFUSED]
    assert opened(nobody, sign(digits)).status == 200
    assert opened(nobody, other).status == 200
    assert digits.get("b", "d").body == BODY


def test_what_was_revoked_stays_so_after_an_overwrite_a_move_and_a_new_beginning(digits: Client, nobody: Client) -> None:
    token = sign(digits)
    revoke(digits)
    digits.put("b", "d", b"overwritten")
    assert told(opened(nobody, token)) == REFUSED
    digits("PATCH", "/storage/object-info/b/d", {"content_type": "text/csv"})
    assert told(opened(nobody, token)) == REFUSED
    relocate(digits, "move", "d", "away")
    assert told(opened(nobody, token)) == (404, "ObjectNotFound")
    relocate(digits, "move", "away", "d")
    assert told(opened(nobody, token)) == REFUSED
    digits.delete("b", "d")
    digits.put("b", "d", b"again")
    assert told(opened(nobody, token)) == REFUSED


def test_revoking_needs_update(tenant: Tenant, digits: Client) -> None:
    token = sign(digits)
    assert told(revoke(tenant.user())) == (404, "ObjectNotFound")
    digits("POST", "/storage/policies", {"bucket": "b", "name": "p", "operation": "SELECT", "definition": "true"})
    assert told(revoke(tenant.user())) == (403, "Forbidden")
    assert opened(tenant.nobody, token).status == 200
    digits("POST", "/storage/policies", {"bucket": "b", "name": "p", "operation": "UPDATE", "definition": "auth_uid() IS NOT NULL"})
    assert revoke(tenant.user()).status == 200
    assert told(opened(tenant.nobody, token)) == REFUSED
    assert told(revoke(digits, "absent")) == (404, "ObjectNotFound")


def test_revoking_needs_select_beside_update(tenant: Tenant, digits: Client) -> None:
    token = sign(digits)
    digits("POST", "/storage/policies", {"bucket": "b", "name": "p", "operation": "UPDATE", "definition": "true"})
    assert told(revoke(tenant.user())) == (404, "ObjectNotFound")
    assert opened(tenant.nobody, token).status == 200


def test_a_token_does_not_open_what_was_moved_to_its_name_later(digits: Client, nobody: Client) -> None:
    token = sign(digits)
    digits.put("b", "other", b"not for the token's holder")
    digits.delete("b", "d")
    relocate(digits, "move", "other", "d")
    assert told(opened(nobody, token)) == REFUSED
    again = sign(digits)
    digits.put("b", "third", b"nor this")
    relocate(digits, "move", "third", "d", x_upsert="true")
    assert told(opened(nobody, again)) == REFUSED


@pytest.mark.parametrize("kind", ["move", "copy"])
def test_a_token_does_not_open_what_a_job_brings_to_its_name_later(
    digits: Client, nobody: Client, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(copies, "LARGE", 9)
    digits.bucket("to")
    digits.put("to", "t", b"was here first")
    job_id = relocate(digits, kind, "d", "t", "to", x_upsert="true").json()["job_id"]
    token = sign(digits, "t", bucket="to")
    if kind == "copy":  # over what is there a copy is an overwrite, and keeps its tokens
        digits.delete("to", "t")
    run_job(job_id)
    assert digits.get("to", "t").body == BODY
    assert told(opened(nobody, token)) == REFUSED
    assert opened(nobody, sign(digits, "t", bucket="to")).body == BODY


def test_a_token_does_not_open_another_bucket_of_the_same_name(digits: Client, nobody: Client) -> None:
    token, upload = sign(digits), upload_token(digits, "new")
    digits("DELETE", "/storage/buckets/b")
    assert opened(nobody, token).status == 404
    assert put(nobody, upload).status == 404
    digits.bucket("b")
    assert opened(nobody, token).status in (401, 404)
    digits.put("b", "d", b"another bucket's")
    assert told(opened(nobody, token)) == REFUSED
    assert told(put(nobody, upload)) == REFUSED
    assert digits.names("b") == ["d"]


def test_a_new_token_works_though_another_process_has_a_faster_clock(digits: Client, nobody: Client, tenant: Tenant) -> None:
    bucket: Any = Bucket.read(tenant.tenant_id, "b")
    row: Any = StoredObject.read(bucket.partition, "d")
    row.tokens_not_before = seam.iso(seam.at(seam.timestamp() + 2))
    row.save()
    assert opened(nobody, sign(digits)).status == 200


def test_a_token_of_a_deleted_tenant_opens_nothing(digits: Client, tenant: Tenant) -> None:
    unknown = payload_of(sign(digits)) | {"pid": "00000000-0000-4000-8000-00000000abcd"}
    assert told(opened(tenant.nobody, made_by_hand(unknown)))[0] == 404


def test_what_a_tenant_made_public_or_signed_ends_with_it(digits: Client, tenant: Tenant, clock: Clock) -> None:
    digits.bucket("open", public=True)
    digits.put("open", "p", BODY)
    public = f"/storage/public/{tenant.tenant_id}/open/p"
    token, upload = sign(digits), upload_token(digits)
    nobody = tenant.nobody
    assert [nobody("GET", public).status, opened(nobody, token).status] == [200, 200]
    assert nobody.using(tenants.create_admin_key())("DELETE", f"/admin/tenants/{tenant.tenant_id}").status in (200, 202)
    clock.advance(60)
    answers = [nobody("GET", public), nobody("HEAD", public), opened(nobody, token), opened(nobody, token, "HEAD"), put(nobody, upload)]
    assert [answer.status for answer in answers] == [404] * 5
    assert BODY not in b"".join(answer.body for answer in answers)


def test_revoking_ends_the_tokens_though_another_process_has_a_faster_clock(digits: Client, nobody: Client, tenant: Tenant) -> None:
    bucket: Any = Bucket.read(tenant.tenant_id, "b")
    row: Any = StoredObject.read(bucket.partition, "d")
    row.tokens_not_before = ahead = seam.iso(seam.at(seam.timestamp() + 2))
    row.save()
    token = sign(digits)
    assert opened(nobody, token).status == 200
    assert revoke(digits).status == 200
    assert told(opened(nobody, token)) == REFUSED
    later: Any = StoredObject.read(bucket.partition, "d")
    assert later.tokens_not_before > ahead
    assert opened(nobody, sign(digits)).status == 200


# ---- batches -------------------------------------------------------------------------------------------
def test_each_path_of_a_batch_has_its_url_or_its_error_in_order(digits: Client, nobody: Client) -> None:
    digits.put("b", "ü b", b"second")
    paths = ["ü b", "absent", "d", "a\\b", "", "d"]
    rows = digits("POST", "/storage/signed-urls", {"bucket": "b", "paths": paths, "expires_in": 60}).json()
    assert [row["path"] for row in rows] == paths
    assert [row["error"] and row["error"]["code"] for row in rows] == [None, "ObjectNotFound", None, "InvalidName", "InvalidName", None]
    for row, body in ((rows[0], b"second"), (rows[2], BODY), (rows[5], BODY)):
        assert row.keys() == {"path", "signed_url", "url", "error"}
        assert row["url"].endswith(row["signed_url"])
        assert nobody("GET", row["signed_url"]).body == body
        assert payload_of(row["signed_url"].rpartition("/")[2])["exp"] <= seam.timestamp() + 60
    assert [(row["signed_url"], row["url"]) for row in rows if row["error"]] == [(None, None)] * 3


def test_a_thousand_paths_are_read_a_hundred_at_a_time(digits: Client, calls: list[Call]) -> None:
    paths = ["d", *(f"absent {number}" for number in range(999))]
    calls.clear()
    answer = digits("POST", "/storage/signed-urls", {"bucket": "b", "paths": paths})
    assert answer.status == 200
    assert [row["path"] for row in answer.json()] == paths
    assert [call.operation for call in calls].count("BatchGetItem") == 10
    assert len(calls) <= 11


def test_more_than_a_thousand_paths_are_refused_and_none_are_none(digits: Client) -> None:
    assert digits("POST", "/storage/signed-urls", {"bucket": "b", "paths": ["d"] * 1001}).status == 400
    assert digits("POST", "/storage/signed-urls", {"bucket": "b", "paths": []}).json() == []
    assert told(digits("POST", "/storage/signed-urls", {"bucket": "absent", "paths": ["d"]})) == (404, "BucketNotFound")


def test_nobody_signs_many_where_nobody_signs_one(tenant: Tenant, digits: Client, choose: Callable[[str, str], None]) -> None:
    digits("PUT", "/storage/buckets/b", {"public": True})
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    one, many = asked(tenant.nobody), tenant.nobody("POST", "/storage/signed-urls", {"bucket": "b", "paths": ["d"]})
    assert one.status == many.status


# ---- uploading -----------------------------------------------------------------------------------------
def ask_upload(client: Client, path: str = "new", **more: Any) -> Answer:
    return client("POST", "/storage/signed-upload-url", {"bucket": "b", "path": path, **more})


def upload_token(client: Client, path: str = "new", **more: Any) -> str:
    return token_of(ask_upload(client, path, **more))


def put(client: Client, token: str, body: bytes = BODY, content_type: str = "", **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()} | ({"Content-Type": content_type} if content_type else {})
    return client("PUT", f"/storage/signed/{token}", body, sent)


def test_an_upload_token_uploads_once(digits: Client, nobody: Client) -> None:
    token = upload_token(digits, "folder/new ü")
    answer = put(nobody, token, BODY, "text/plain", x_metadata=base64.b64encode(b'{"k": 1}').decode())
    assert (answer.status, answer.json()["name"]) == (201, "folder/new ü")
    assert answer.json().keys() == {"id", "name", "size", "content_type", "checksum", "checksum_state", "version"}
    assert digits.get("b", "folder/new ü").body == BODY
    shown = digits("GET", f"/storage/object-info/b/{quote('folder/new ü')}").json()
    assert (shown["user_metadata"], shown["owner_id"], shown["content_type"]) == ({"k": 1}, None, "text/plain")
    assert put(nobody, token, b"again").status == 409
    digits.delete("b", "folder/new ü")
    assert told(put(nobody, token, b"again")) == (409, "TokenUsed")
    assert digits.names("b") == ["d"]


def test_an_upload_token_that_may_overwrite_does_so_once(digits: Client, nobody: Client) -> None:
    token = upload_token(digits, "d", upsert=True)
    assert put(nobody, token, b"first").status == 200
    assert told(put(nobody, token, b"second")) == (409, "TokenUsed")
    assert digits.get("b", "d").body == b"first"
    another = upload_token(digits, "d", upsert=True)
    assert put(nobody, another, b"third").status == 200


def test_a_used_token_says_so_though_its_object_is_there(digits: Client, nobody: Client) -> None:
    token = upload_token(digits)
    assert put(nobody, token).status == 201
    assert told(put(nobody, token)) == (409, "TokenUsed")


def test_an_upload_token_that_may_not_overwrite_does_not(digits: Client, nobody: Client) -> None:
    assert told(put(nobody, upload_token(digits, "d"))) == (409, "ObjectExists")
    token = upload_token(digits)
    digits.put("b", "new", b"came first")
    assert told(put(nobody, token)) == (409, "ObjectExists")
    assert put(nobody, token, x_upsert="true").status == 409
    assert digits.get("b", "new").body == b"came first"
    digits.delete("b", "new")
    assert put(nobody, token).status == 201  # what was refused did not use it up


def test_neither_kind_of_token_opens_the_other(digits: Client, nobody: Client) -> None:
    download, upload = sign(digits), upload_token(digits, "d", upsert=True)
    assert told(put(nobody, download, b"over")) == REFUSED
    assert told(opened(nobody, upload)) == REFUSED
    assert opened(nobody, upload, "HEAD").status == 401
    assert digits.get("b", "d").body == BODY
    for scope in ("", "down", None, 0, ["up"]):
        assert told(put(nobody, made_by_hand(payload_of(upload) | {"s": scope}), b"over")) == REFUSED
    assert list(payload_of(upload))[:6] == ["b", "p", "pid", "exp", "iat", "kid"]
    assert payload_of(upload)["s"] == "up"


def test_of_eight_at_once_exactly_one_uploads(digits: Client, nobody: Client) -> None:
    for upsert in (True, False):
        name = f"raced {upsert}"
        token = upload_token(digits, name, upsert=upsert)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number, token=token: put(nobody, token, b"%d" % number), range(8)))
        won = [number for number, answer in enumerate(answers) if answer.status == 201]
        assert sorted(answer.status for answer in answers) == [201] + [409] * 7
        assert digits.get("b", name).body == b"%d" % won[0]


def test_an_upload_token_expires(digits: Client, nobody: Client, clock: Clock) -> None:
    token = upload_token(digits, expires_in=60)
    clock.advance(60)
    assert told(put(nobody, token)) == (401, "ExpiredToken")
    assert digits.names("b") == ["d"]


def test_the_type_is_the_signers_if_they_name_one(digits: Client, nobody: Client) -> None:
    put(nobody, upload_token(digits, "fixed", content_type="text/csv"), b"a,b", "text/html")
    put(nobody, upload_token(digits, "free"), b"a,b", "text/html")
    put(nobody, upload_token(digits, "named.png"), b"")
    types = {row["name"]: row["content_type"] for row in digits("GET", "/storage/objects/b").json()}
    assert types == {"d": "text/plain", "fixed": "text/csv", "free": "text/html", "named.png": "image/png"}
    assert ask_upload(digits, content_type="no type").status == 400


def test_the_limits_of_the_bucket_hold_and_a_refused_upload_uses_nothing_up(digits: Client, nobody: Client) -> None:
    digits("PUT", "/storage/buckets/b", {"max_file_size": 4, "allowed_mimes": ["text/plain"]})
    assert told(ask_upload(digits, content_type="text/csv")) == (415, "UnsupportedType")
    token = upload_token(digits, content_type="text/plain")
    assert put(nobody, token, b"12345").status == 413
    assert put(nobody, token, b"\x89PNG\r\n\x1a\n"[:4]).status in (201, 415)
    free = upload_token(digits, "free.txt")
    assert put(nobody, free, b"1234", "text/csv").status == 415
    assert put(nobody, free, b"1234", "text/plain").status == 201


ADA, BOB = "6f1c9a52-7d0e-4b6a-9c3f-0a1b2c3d4e5f", "0b6e4c1d-2a3f-4e5d-8c7b-6a5948372615"


def allow(service: Client, operation: str, definition: str = "true") -> str:
    answer = service("POST", "/storage/policies", {"bucket": "b", "name": "p", "operation": operation, "definition": definition})
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def metadata(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_who_could_upload_nothing_at_all_signs_no_upload(tenant: Tenant, digits: Client, choose: Callable[[str, str], None]) -> None:
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    user = tenant.user(sub=ADA)
    for operation in ("SELECT", "DELETE"):
        allow(digits, operation)
    assert told(ask_upload(user)) == told(ask_upload(tenant.anon)) == (403, "Forbidden")
    assert told(ask_upload(tenant.nobody)) == (401, "Unauthorized")
    assert told(ask_upload(user, bucket="absent")) == (403, "Forbidden")
    assert told(ask_upload(tenant.nobody, bucket="absent")) == (401, "Unauthorized")
    assert told(ask_upload(digits, bucket="absent")) == (404, "BucketNotFound")
    for operation in ("INSERT", "UPDATE"):
        policy_id = allow(digits, operation, "false")  # which holds for nobody, whatever the row
        assert (ask_upload(user).status, ask_upload(tenant.nobody).status) == (403, 401)
        digits("DELETE", f"/storage/policies/{policy_id}")
        policy_id = allow(digits, operation, "size < 0")  # only the row will tell
        assert ask_upload(user).status == ask_upload(tenant.nobody).status == 200
        assert told(put(tenant.nobody, upload_token(user))) == (403, "Forbidden")
        assert told(put(tenant.nobody, upload_token(tenant.nobody))) == (401, "Unauthorized")
        for path in ("", "a\\b", "x" * 701):
            assert ask_upload(user, path).status == 400
        digits("DELETE", f"/storage/policies/{policy_id}")
    assert digits.names("b") == ["d"]


def test_an_upload_token_carries_who_signed_it(tenant: Tenant, digits: Client) -> None:
    allow(digits, "INSERT")
    user = tenant.user(sub=ADA, email="ada@example.com", role="editor", permissions=["org.storage.list"], session="s")
    expected: list[tuple[Client, str, dict[str, str]]] = [
        (user, "user", {"sub": ADA, "role": "editor", "email": "ada@example.com"}),
        (tenant.anon, "anon", {}),
        (digits, "service", {}),
    ]
    for client, role, claims in expected:
        payload = payload_of(upload_token(client))
        assert (payload["r"], payload["c"]) == (role, claims)


def test_who_signed_is_the_owner_and_their_policies_are_asked_when_it_is_used(tenant: Tenant, digits: Client) -> None:
    claims = "auth_uid() = owner_id::text AND auth_email() = 'ada@example.com' AND auth_role() = 'editor'"
    allow(digits, "INSERT", f"{claims} AND name LIKE 'mine/%'")
    user = tenant.user(sub=ADA, email="ada@example.com", role="editor")
    assert put(tenant.nobody, upload_token(user, "mine/a")).status == 201
    assert digits("GET", "/storage/object-info/b/mine/a").json()["owner_id"] == ADA
    for client in (tenant.user(sub=ADA), tenant.anon):
        assert told(ask_upload(client, "mine/b")) == (403, "Forbidden")  # no row would make it hold
    allow(digits, "INSERT", "name LIKE 'open/%'")
    for client, name in ((user, "theirs/a"), (tenant.user(sub=ADA), "mine/b"), (tenant.anon, "mine/b"), (user, "d")):
        assert told(put(tenant.nobody, upload_token(client, name, upsert=True))) == (403, "Forbidden")
    assert put(tenant.user(sub=BOB), upload_token(user, "mine/c")).status == 201  # whoever sends it
    assert digits("GET", "/storage/object-info/b/mine/c").json()["owner_id"] == ADA


@pytest.mark.parametrize(
    ("body", "content_type", "user_metadata"),
    [(b"x" * 11, "image/png", {}), (BODY, "text/html", {}), (BODY, "image/png", {"admin": "yes"}), (b"other", "image/png", {})],
)
def test_an_upload_by_token_is_judged_by_the_row_that_would_be(
    tenant: Tenant, digits: Client, body: bytes, content_type: str, user_metadata: dict[str, str]
) -> None:
    checksum = hashlib.sha256(BODY).hexdigest()
    allow(
        digits,
        "INSERT",
        f"content_type = 'image/png' AND size <= 10 AND user_metadata ->> 'admin' IS NULL AND checksum = '{checksum}'",
    )
    token = upload_token(tenant.user(), "x.png")
    assert told(put(tenant.nobody, token, body, content_type, x_metadata=metadata(user_metadata))) == (403, "Forbidden")
    assert digits.names("b") == ["d"]
    assert put(tenant.nobody, token, BODY, "image/png").status == 201  # what was refused did not use it up


def test_signing_an_upload_does_not_tell_whether_something_is_there(tenant: Tenant, digits: Client) -> None:
    allow(digits, "INSERT", "auth_uid() IS NOT NULL")
    user = tenant.user(sub=ADA)
    for upsert in (False, True):
        tokens = [upload_token(user, name, upsert=upsert) for name in ("d", "absent")]
        shown = [payload_of(token) | {"p": "", "iat": 0, "exp": 0} for token in tokens]
        assert shown[0] == shown[1]
        assert told(put(tenant.nobody, tokens[0])) == (403, "Forbidden")  # and so is neither of these an oracle
    assert digits.get("b", "d").body == BODY


def test_a_token_overwrites_nothing_of_others_that_came_to_its_name_later(tenant: Tenant, digits: Client) -> None:
    allow(digits, "INSERT", "auth_uid() IS NOT NULL")
    for operation in ("UPDATE", "DELETE"):
        allow(digits, operation, "owner_id = auth_uid()::uuid")
    ada, bob = tenant.user(sub=ADA), tenant.user(sub=BOB)
    before = upload_token(ada, "report", upsert=True)
    assert ada.put("b", "report", b"ada's").status == 201
    mine = upload_token(ada, "report", upsert=True)
    assert ada.delete("b", "report").status == 200
    assert bob.put("b", "report", b"bob's").status == 201
    for token in (before, mine):
        assert told(put(tenant.nobody, token, b"over")) == (403, "Forbidden")
    assert digits.get("b", "report").body == b"bob's"


def test_an_overwrite_by_token_needs_update_and_keeps_its_owner(tenant: Tenant, digits: Client) -> None:
    user = tenant.user()
    allow(digits, "UPDATE", "name = 'd' AND size = 10")
    assert told(put(tenant.nobody, upload_token(user, "d"))) == (409, "ObjectExists")
    assert told(put(tenant.nobody, upload_token(user, "new", upsert=True))) == (403, "Forbidden")
    assert put(tenant.nobody, upload_token(user, "d", upsert=True), b"over").status == 200
    shown = digits("GET", "/storage/object-info/b/d").json()
    assert (shown["owner_id"], shown["size"]) == (None, 4)
    assert told(put(tenant.nobody, upload_token(user, "d", upsert=True), b"again")) == (403, "Forbidden")


def test_removing_the_policy_ends_the_upload_tokens_that_it_permitted(tenant: Tenant, digits: Client, clock: Clock) -> None:
    policy_id = allow(digits, "INSERT", "auth_uid() IS NOT NULL")
    user = tenant.user()
    token = upload_token(user)
    digits("DELETE", f"/storage/policies/{policy_id}")
    assert told(put(tenant.nobody, token)) == (403, "Forbidden")
    elsewhere_id = allow(digits, "INSERT", "auth_uid() IS NOT NULL")
    assert put(tenant.nobody, upload_token(user, "first")).status == 201
    StoredPolicy(elsewhere_id.partition(".")[0], elsewhere_id).delete()  # by another process
    clock.advance(60)
    assert told(put(tenant.nobody, token)) == (403, "Forbidden")
    assert digits.names("b") == ["d", "first"]


def test_a_revocation_is_for_downloads_and_leaves_what_was_uploaded_open_to_new_tokens(digits: Client, nobody: Client) -> None:
    assert put(nobody, upload_token(digits)).status == 201
    token = sign(digits, "new")
    revoke(digits, "new")
    assert told(opened(nobody, token)) == REFUSED
    assert opened(nobody, sign(digits, "new")).body == BODY


def marks(tenant: Tenant) -> list[UsedToken]:
    bucket: Any = Bucket.read(tenant.tenant_id, "b")
    return list(UsedToken.query(bucket.partition + UsedToken.SUFFIX))


def test_the_mark_of_a_used_token_goes_by_itself_and_is_not_listed(tenant: Tenant, digits: Client, calls: list[Call]) -> None:
    token = upload_token(digits, expires_in=60)
    assert marks(tenant) == []
    opened(tenant.nobody, sign(digits))  # by now this process knows that there is such a tenant
    calls.clear()
    assert put(tenant.nobody, token).status == 201
    assert calls == [BATCH_GET, Call("s3", "PutObject"), Call("dynamodb", "TransactWriteItems")]
    (mark,) = marks(tenant)
    assert token not in json.dumps(mark.attribute_values, default=str)
    assert mark.expires_at == payload_of(token)["exp"] + 86_400
    assert digits.names("b") == ["d", "new"]
    assert digits.names("b", "delimiter=/") == ["d", "new"]
    for name in ("d", "new"):
        digits.delete("b", name)
    assert digits("DELETE", "/storage/buckets/b?if_empty=true").status == 200


@pytest.mark.parametrize("images", [("NewImage",), ("OldImage",), ("OldImage", "NewImage")])
def test_the_stream_passes_the_mark_over(tenant: Tenant, digits: Client, calls: list[Call], images: tuple[str, ...]) -> None:
    put(tenant.nobody, upload_token(digits))
    (mark,) = marks(tenant)
    row = mark.serialize()
    keys = {name: row[name] for name in ("partition", "name")}
    calls.clear()
    changes.consume([{"dynamodb": {"Keys": keys, "ApproximateCreationDateTime": seam.timestamp()} | dict.fromkeys(images, row)}])
    assert calls == []
