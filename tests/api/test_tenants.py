"""Tenants, their keys and tokens over HTTP; and that no token that was tampered with is ever anything but 401."""

import base64
import json
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from chalicelib import seam
from chalicelib.access import keysets
from chalicelib.access.cache import forget_everything
from chalicelib.access.credentials import authenticate
from chalicelib.access.principals import Permission, Role
from chalicelib.core import buckets, jobs, tenants
from chalicelib.tables.jobs import Job
from chalicelib.tables.table import Transaction
from chalicelib.tables.tenants import ApiKey
from chalicelib.tables.tenants import Tenant as TenantRow
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Tenant, run_job
from tests.issuer import Web, base64url, ec_key, jwk, rsa_key

UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
LIST = ("GET", "/storage/buckets")
KEY_FIELDS = {"id", "role", "name", "permissions", "created_at"}


@pytest.fixture
def admin(tenant: Tenant) -> Client:
    """A client under a key of the platform."""
    return tenant.nobody.using(tenants.create_admin_key())


def path(tenant: Tenant, more: str = "") -> str:
    return f"/admin/tenants/{tenant.tenant_id}{more}"


def made(answer: Answer, status: int = 200) -> Any:
    assert answer.status == status, answer.body
    return answer.json()


# ---- tenants ---------------------------------------------------------------------------------------------------
def test_a_tenant_is_made_with_its_key_set_and_audience(admin: Client) -> None:
    wanted = {"name": "acme", "jwks_url": "https://login.example.com/jwks.json", "jwt_audience": "files"}
    created = made(admin("POST", "/admin/tenants", wanted), 201)
    assert created.keys() == {"tenant_id", "service_key", "anon_key", "jwt_secret"}
    shown = made(admin("GET", f"/admin/tenants/{created['tenant_id']}"))
    assert shown == wanted | {"tenant_id": created["tenant_id"], "created_at": shown["created_at"]}
    assert shown in made(admin("GET", "/admin/tenants"))
    assert made(admin.using(created["service_key"])(*LIST)) == []


def test_a_tenant_has_no_key_set_and_the_usual_audience(admin: Client) -> None:
    created = made(admin("POST", "/admin/tenants", {"name": "plain"}), 201)
    shown = made(admin("GET", f"/admin/tenants/{created['tenant_id']}"))
    assert (shown["jwks_url"], shown["jwt_audience"]) == (None, "authenticated")


def test_a_tenant_is_changed_field_by_field(admin: Client, tenant: Tenant) -> None:
    url = "https://login.example.com/jwks.json"
    for change, name, jwks_url, audience in (
        ({"name": "other"}, "other", None, "authenticated"),
        ({"jwks_url": url}, "other", url, "authenticated"),
        ({"jwt_audience": "files"}, "other", url, "files"),
        ({}, "other", url, "files"),
        ({"name": None}, "other", url, "files"),
        ({"jwks_url": None}, "other", None, "files"),
        ({"name": "third", "jwt_audience": None}, "third", None, "authenticated"),
    ):
        changed = made(admin("PATCH", path(tenant), change))
        assert (changed["name"], changed["jwks_url"], changed["jwt_audience"]) == (name, jwks_url, audience)
        assert made(admin("GET", path(tenant))) == changed


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": "n" * 101}, {"name": 5}, {"name": "a\nb"}, {"jwt_audience": ""},
        {"jwt_audience": "a" * 256}, {"jwt_audience": 5},
        {"jwks_url": ""}, {"jwks_url": 5}, {"jwks_url": "http://login.example.com/"}, {"jwks_url": "https://user:p@login.example.com/"},
        {"jwks_url": "https://169.254.169.254/"}, {"jwks_url": "https://0x7f.1/"}, {"jwks_url": "https://[::1]/"}, {"jwks_url": "ftp://a.b/"},
        {"jwks_url": "https://a.example/" + "x" * 2048},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_what_cannot_be_is_refused_when_it_is_set(admin: Client, tenant: Tenant, change: dict[str, Any], calls: list[Call]) -> None:
    before = made(admin("GET", path(tenant)))
    calls.clear()
    for answer in (admin("PATCH", path(tenant), change), admin("POST", "/admin/tenants", {"name": "new"} | change)):
        assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert calls == []
    assert made(admin("GET", path(tenant))) == before


def test_a_tenant_that_is_not_there_is_not_found(admin: Client) -> None:
    for tenant_id in (UNKNOWN, UNKNOWN.upper(), "x"):
        base = f"/admin/tenants/{tenant_id}"
        asked = [
            *(admin(method, base) for method in ("GET", "DELETE")),
            admin("PATCH", base, {"name": "n"}),
            admin("GET", base + "/keys"),
            admin("POST", base + "/keys", {"role": "anon"}),
            admin("DELETE", f"{base}/keys/{UNKNOWN}"),
        ]
        assert {(answer.status, answer.code) for answer in asked} == {(404, "TenantNotFound")}


# ---- keys ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wanted", "prefix", "status"),
    [
        ({"role": "service", "name": "CI"}, "sk_", 200),
        ({"role": "anon"}, "pk_", 403),
        ({"role": "custom", "name": "reader", "permissions": ["org.storage.list", "project.backups.create"]}, "ck_", 403),
        ({"role": "custom"}, "ck_", 403),
        ({"role": "custom", "permissions": []}, "ck_", 403),
    ],
    ids=str,
)
def test_a_key_is_made_shown_once_and_works(admin: Client, tenant: Tenant, wanted: dict[str, Any], prefix: str, status: int) -> None:
    created = made(admin("POST", path(tenant, "/keys"), wanted), 201)
    assert created.keys() == KEY_FIELDS | {"key"}
    assert created["key"].startswith(prefix)
    permissions = wanted.get("permissions", []) if wanted["role"] == "custom" else None
    assert (created["role"], created["name"], created["permissions"]) == (wanted["role"], wanted.get("name"), permissions)
    assert tenant.nobody.using(created["key"])(*LIST).status == status
    listed = admin("GET", path(tenant, "/keys"))
    assert {name: value for name, value in created.items() if name != "key"} in made(listed)
    assert created["key"].encode() not in listed.body


def test_a_custom_key_is_a_principal_with_permissions_and_otherwise_anon(admin: Client, tenant: Tenant) -> None:
    wanted = [permission.value for permission in Permission]
    key = made(admin("POST", path(tenant, "/keys"), {"role": "custom", "permissions": wanted}), 201)["key"]
    principal = authenticate({"apikey": key})
    assert (principal.role, principal.tenant_id, principal.permissions) == (Role.CUSTOM, tenant.tenant_id, frozenset(wanted))
    assert (principal.auth_role, principal.uid, principal.email, principal.is_service) == ("anon", None, None, False)
    tenant.service.bucket("open", public=True)
    tenant.service.bucket("shut")
    for bucket in ("open", "shut"):
        assert tenant.service.put(bucket, "a", b"x").status == 201
    client = tenant.nobody.using(key)
    assert client.get("open", "a").body == b"x"
    assert client.get("shut", "a").status == 404
    assert client.put("open", "b", b"x").status == 403


def test_the_keys_of_a_tenant_are_listed_oldest_first_and_no_others(admin: Client, tenant: Tenant, new_tenant: Any) -> None:
    new_tenant()
    first = made(admin("POST", path(tenant, "/keys"), {"role": "anon", "name": "1"}), 201)
    second = made(admin("POST", path(tenant, "/keys"), {"role": "anon", "name": "2"}), 201)
    listed = made(admin("GET", path(tenant, "/keys")))
    assert all(each.keys() == KEY_FIELDS for each in listed)
    assert sorted(each["role"] for each in listed[:2]) == ["anon", "service"]
    assert [each["id"] for each in listed[2:]] == [first["id"], second["id"]]
    assert [each["created_at"] for each in listed] == sorted(each["created_at"] for each in listed)


@pytest.mark.parametrize(
    "wanted",
    [
        {}, {"role": "admin"}, {"role": "nobody"}, {"role": "user"}, {"role": 5}, {"role": "service", "permissions": ["org.storage.list"]},
        {"role": "anon", "permissions": []}, {"role": "custom", "permissions": ["org.storage.*"]},
        {"role": "custom", "permissions": "org.storage.list"},
        {"role": "custom", "permissions": [5]}, {"role": "custom", "permissions": [None]}, {"role": "custom", "name": ""},
        {"role": "custom", "name": "n" * 101}, {"role": "custom", "permissions": ["org.storage.list"] * 101},
    ],
    ids=lambda wanted: str(wanted)[:60],
)  # fmt: skip
def test_a_key_that_cannot_be_is_refused(admin: Client, tenant: Tenant, wanted: dict[str, Any]) -> None:
    before = made(admin("GET", path(tenant, "/keys")))
    answer = admin("POST", path(tenant, "/keys"), wanted)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert made(admin("GET", path(tenant, "/keys"))) == before


def test_a_revoked_key_ends_within_a_minute_and_the_others_stay(admin: Client, tenant: Tenant, clock: Clock) -> None:
    created = made(admin("POST", path(tenant, "/keys"), {"role": "service"}), 201)
    client = tenant.nobody.using(created["key"])
    assert client(*LIST).status == 200
    assert made(admin("DELETE", path(tenant, f"/keys/{created['id']}"))) == {}
    assert created["id"] not in [each["id"] for each in made(admin("GET", path(tenant, "/keys")))]
    clock.advance(60.1)
    assert client(*LIST).status == 401
    assert tenant.service(*LIST).status == 200
    again = admin("DELETE", path(tenant, f"/keys/{created['id']}"))
    assert (again.status, again.code) == (404, "KeyNotFound")


def test_a_key_of_another_tenant_cannot_be_revoked(admin: Client, tenant: Tenant, new_tenant: Any, clock: Clock) -> None:
    other = new_tenant()
    theirs = made(admin("GET", path(other, "/keys")))
    for each in theirs:
        answer = admin("DELETE", path(tenant, f"/keys/{each['id']}"))
        assert (answer.status, answer.code) == (404, "KeyNotFound")
    clock.advance(61)
    assert other.service(*LIST).status == 200


# ---- tokens ----------------------------------------------------------------------------------------------------
def test_the_service_key_signs_tokens_of_users(tenant: Tenant, clock: Clock) -> None:
    wanted = {"sub": "me", "role": "editor", "email": "a@b.c", "permissions": ["org.storage.list", "mine"], "ttl_seconds": 600}
    answer = made(tenant.service("POST", "/auth/token", wanted))
    assert answer.keys() == {"token", "expires_at"}
    assert seam.moment(answer["expires_at"]).timestamp() == pytest.approx(seam.timestamp() + 600, abs=2)
    assert len(answer["expires_at"]) == 27
    claims = jwt.decode(answer["token"], tenant.jwt_secret, algorithms=["HS256"], audience="authenticated")
    assert claims["exp"] - claims["iat"] == wanted.pop("ttl_seconds")
    assert claims == wanted | {"tenant_id": tenant.tenant_id, "aud": "authenticated", "iat": claims["iat"], "exp": claims["exp"]}
    client = tenant.nobody.using(answer["token"])
    assert client(*LIST).status == 403
    clock.advance(661)
    assert client(*LIST).status == 401


def test_a_token_needs_a_subject_alone_and_lives_for_an_hour(tenant: Tenant) -> None:
    answer = made(tenant.service("POST", "/auth/token", {"sub": "me"}))
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert claims.keys() == {"sub", "tenant_id", "aud", "iat", "exp"}
    assert claims["exp"] - claims["iat"] == 3600


def test_a_token_carries_the_tenants_audience(admin: Client, tenant: Tenant) -> None:
    made(admin("PATCH", path(tenant), {"jwt_audience": "files"}))
    forget_everything()
    token = made(tenant.service("POST", "/auth/token", {"sub": "me"}))["token"]
    assert jwt.decode(token, options={"verify_signature": False})["aud"] == "files"
    assert tenant.nobody.using(token)(*LIST).status == 403
    assert tenant.user()(*LIST).status == 401, "the usual audience is another one now"


@pytest.mark.parametrize(
    "changed",
    [
        {"sub": None}, {"sub": ""}, {"sub": 5}, {"sub": "s" * 256}, {"role": "service"}, {"role": ""},
        {"role": "r" * 101}, {"role": ["editor"]},
        {"email": 5}, {"email": "e" * 321}, {"permissions": "a b"}, {"permissions": [5]}, {"permissions": ["p"] * 101},
        {"permissions": ["p" * 101]}, {"permissions": ["p" * 100] * 100}, {"ttl_seconds": 0}, {"ttl_seconds": -1}, {"ttl_seconds": 604_801},
        {"ttl_seconds": "600"}, {"ttl_seconds": 1.5}, {"ttl_seconds": True},
    ],
    ids=lambda changed: str(changed)[:30],
)  # fmt: skip
def test_a_token_that_cannot_be_is_refused(tenant: Tenant, changed: dict[str, Any]) -> None:
    answer = tenant.service("POST", "/auth/token", {"sub": "me"} | changed)
    assert (answer.status, answer.code) == (400, "InvalidRequest")


@pytest.mark.parametrize("ttl", [1, 604_800])
def test_a_token_lives_for_a_second_to_a_week(tenant: Tenant, ttl: int) -> None:
    answer = made(tenant.service("POST", "/auth/token", {"sub": "me", "ttl_seconds": ttl}))
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == ttl


def test_only_the_service_key_signs_tokens(admin: Client, tenant: Tenant) -> None:
    for client, status in ((tenant.anon, 403), (tenant.user(role="service"), 403), (admin, 403), (tenant.nobody, 401)):
        assert client("POST", "/auth/token", {"sub": "me"}).status == status


# ---- key sets, end to end --------------------------------------------------------------------------------------
@pytest.fixture
def issued(admin: Client, tenant: Tenant, web: Web) -> Tenant:
    """A tenant whose identity provider publishes an RSA key `r` and a P-256 key `e`."""
    web.publish(jwk(rsa_key(), "r"), jwk(ec_key(), "e"))
    made(admin("PATCH", path(tenant), {"jwks_url": web.url}))
    forget_everything()
    return tenant


def by_key(tenant: Tenant, key: Any, kid: str) -> str:
    claims = {"tenant_id": tenant.tenant_id, "aud": "authenticated", "sub": "someone", "exp": int(seam.timestamp()) + 3600}
    return jwt.encode(claims, key, algorithm={"r": "RS256", "e": "ES256"}[kid[0]], headers={"kid": kid})


def test_users_of_the_identity_provider_are_let_in(issued: Tenant, web: Web) -> None:
    for token in (by_key(issued, rsa_key(), "r"), by_key(issued, ec_key(), "e"), issued.token()):
        for _ in range(3):
            assert issued.nobody.using(token)(*LIST).status == 403
    assert len(web.asked) == 1


def test_the_provider_being_down_is_503_until_it_is_back(issued: Tenant, web: Web, clock: Clock) -> None:
    web.status = 503
    client = issued.nobody.using(by_key(issued, rsa_key(), "r"))
    answer = client(*LIST)
    assert (answer.status, answer.code) == (503, "Unavailable")
    assert "retry-after" in answer.headers
    assert b"127.0.0.1" not in answer.body
    web.status = 200
    clock.advance(31)
    assert client(*LIST).status == 403


def test_taking_the_key_set_away_ends_its_tokens_within_a_minute(admin: Client, issued: Tenant, clock: Clock) -> None:
    client = issued.nobody.using(by_key(issued, rsa_key(), "r"))
    assert client(*LIST).status == 403
    made(admin("PATCH", path(issued), {"jwks_url": None}))
    clock.advance(60.1)
    assert client(*LIST).status == 401
    assert issued.user()(*LIST).status == 403


# ---- deleting a tenant -----------------------------------------------------------------------------------------
def finish(job_id: str, clock: Clock) -> None:
    """Run a job and those that it starts until all have ended, as the queue would."""
    for _ in range(4):
        for each in [job_id, *started()]:
            run_job(each)
        clock.advance(130)


def started() -> list[str]:
    return [item["job_id"]["S"] for page in Job.pages(
        IndexName="pending", KeyConditionExpression="pending = :p", ExpressionAttributeValues={":p": {"S": jobs.PENDING}}
    ) for item in page]  # fmt: skip


@pytest.fixture
def full(tenant: Tenant) -> Tenant:
    """A tenant with two buckets, of which one is public."""
    for name, visibility in (("a", "public"), ("b", "private")):
        tenant.service.bucket(name, visibility=visibility)
        assert tenant.service.put(name, "x", b"bytes").status == 201
    return tenant


def credentials(tenant: Tenant, admin: Client) -> list[Client]:
    keys = [made(admin("POST", path(tenant, "/keys"), {"role": role}), 201)["key"] for role in ("service", "anon", "custom")]
    return [tenant.service, tenant.anon, tenant.user(), *(tenant.nobody.using(key) for key in keys)]


def test_a_deleted_tenant_has_no_credential_after_a_minute_and_no_bucket(
    admin: Client, full: Tenant, new_tenant: Any, clock: Clock
) -> None:
    other = new_tenant()
    other.service.bucket("a")
    clients = credentials(full, admin)
    assert all(client(*LIST).status in (200, 403) for client in clients)
    answer = made(admin("DELETE", path(full)))
    assert answer.keys() == {"job_id"}
    assert admin("GET", path(full)).status == 404
    assert full.tenant_id not in [each["tenant_id"] for each in made(admin("GET", "/admin/tenants"))]
    clock.advance(60.1)
    assert {client(*LIST).status for client in clients} == {401}
    finish(answer["job_id"], clock)
    job = made(admin("GET", f"/jobs/{answer['job_id']}"))
    assert job == {"id": answer["job_id"], "kind": "tenant.delete", "status": "done", "done": 3, "total": 3, "error": None}
    assert buckets.all_of(full.tenant_id) == []
    assert full.nobody("GET", f"/storage/public/{full.tenant_id}/a/x").status == 404
    assert made(other.service(*LIST))[0]["name"] == "a"
    assert admin("DELETE", path(full)).status == 404


def test_the_job_waits_for_requests_of_credentials_that_are_still_remembered(admin: Client, full: Tenant, clock: Clock) -> None:
    """A bucket that such a request makes goes too."""
    assert full.service(*LIST).status == 200
    job_id = made(admin("DELETE", path(full)))["job_id"]
    run_job(job_id)
    assert buckets.all_of(full.tenant_id) == []
    clock.advance(59)
    run_job(job_id)
    full.service.bucket("late")
    clock.advance(60)
    run_job(job_id)
    assert made(admin("GET", f"/jobs/{job_id}"))["status"] == "queued"
    clock.advance(2)
    run_job(job_id)
    job = made(admin("GET", f"/jobs/{job_id}"))
    assert (job["status"], job["done"]) == ("done", 4), "two of its own, that of its files, and the late one"
    assert buckets.all_of(full.tenant_id) == []


class Killed(BaseException):
    """The process dies."""


@pytest.mark.parametrize("dies", ["_remove_keys", "wake"])
def test_killed_after_the_row_went_the_job_does_the_rest(
    admin: Client, full: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(tenants if dies == "_remove_keys" else jobs, dies, die)
        with pytest.raises(Killed):
            admin("DELETE", path(full))
    (job_id,) = [each for each in started() if (row := Job.read(each)) and row.task.get("tenant_id") == full.tenant_id]
    finish(job_id, clock)
    assert made(admin("GET", f"/jobs/{job_id}"))["status"] == "done"
    assert tenants._keys(full.tenant_id) == []
    assert buckets.all_of(full.tenant_id) == []


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_killed_at_any_write_of_a_step_the_job_is_repeated(
    admin: Client, full: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    job_id = made(admin("DELETE", path(full)))["job_id"]
    left, commit, store = [writes], Transaction._commit, jobs._store

    def count(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return real(*arguments)

        return wrapped

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "_commit", count(commit))
        patched.setattr(jobs, "_store", count(store))
        with pytest.raises(Killed):
            run_job(job_id)
    clock.advance(jobs.LEASE + 1)
    finish(job_id, clock)
    assert made(admin("GET", f"/jobs/{job_id}"))["status"] == "done"
    assert buckets.all_of(full.tenant_id) == []


def test_a_key_cannot_slip_in_while_the_tenant_goes(admin: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tenants.get_tenant

    def deleted_right_after(tenant_id: str) -> TenantRow:
        found = real(tenant_id)
        monkeypatch.setattr(tenants, "get_tenant", real)
        made(admin("DELETE", path(tenant)))
        return found

    monkeypatch.setattr(tenants, "get_tenant", deleted_right_after)
    answer = admin("POST", path(tenant, "/keys"), {"role": "service"})
    assert (answer.status, answer.code) == (404, "TenantNotFound")
    assert tenants._keys(tenant.tenant_id) == []


def test_a_change_does_not_bring_a_deleted_tenant_back(admin: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tenants.get_tenant

    def deleted_right_after(tenant_id: str) -> TenantRow:
        found = real(tenant_id)
        monkeypatch.setattr(tenants, "get_tenant", real)
        made(admin("DELETE", path(tenant)))
        return found

    monkeypatch.setattr(tenants, "get_tenant", deleted_right_after)
    assert admin("PATCH", path(tenant), {"name": "back"}).status == 404
    assert TenantRow.read(tenant.tenant_id) is None


def test_two_who_delete_at_once_start_one_job(admin: Client, tenant: Tenant) -> None:
    answers: list[Answer] = []
    both = [threading.Thread(target=lambda: answers.append(admin("DELETE", path(tenant)))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sorted(answer.status for answer in answers) == [200, 404]


def test_an_admin_sees_the_jobs_of_the_platform_alone(admin: Client, tenant: Tenant, new_tenant: Any) -> None:
    tenant.service.bucket("a")
    theirs = made(tenant.service("DELETE", "/storage/buckets/a"))["job_id"]
    assert admin("GET", f"/jobs/{theirs}").status == 404
    other = new_tenant()
    assert other.service(*LIST).status == 200
    platform = made(admin("DELETE", path(other)))["job_id"]
    assert made(admin("GET", f"/jobs/{platform}"))["kind"] == "tenant.delete"
    for client in (tenant.service, tenant.anon, tenant.user(), other.service):
        assert client("GET", f"/jobs/{platform}").status == 404


def test_another_admin_key_sees_it_too(admin: Client, tenant: Tenant) -> None:
    job_id = made(admin("DELETE", path(tenant)))["job_id"]
    assert tenant.nobody.using(tenants.create_admin_key())("GET", f"/jobs/{job_id}").status == 200


def test_every_key_of_a_tenant_goes_however_many(admin: Client, tenant: Tenant) -> None:
    for _ in range(30):  # more than one batch
        tenants.create_key(tenant.tenant_id, Role.ANON, None, None)
    rows = tenants._keys(tenant.tenant_id)
    assert len(rows) == 32
    made(admin("DELETE", path(tenant)))
    assert [row.key_id for row in rows if ApiKey.read(row.key_hash)] == []


# ---- ten thousand tokens that were tampered with ---------------------------------------------------------------
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ALGORITHMS = ["none", "None", "HS256", "HS384", "HS512", "RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", "", None, 5, ["HS256"], {}]
KIDS = ["r", "e", "x", "", "../../etc/passwd", "' OR 1=1", "\x00", None, 5, ["r"], {"r": 1}, "k" * 500]
VALUES = [None, True, False, 0, -1, 10**400, 1e308, "", "x", "service", "9999999999", [], ["x"], {}, {"a": {"b": []}}, "\ud800", "é" * 50]
CLAIMS = ["tenant_id", "organization_id", "sub", "exp", "nbf", "iat", "aud", "iss", "role", "email", "permissions", "jti"]


class Tampering:
    """Ways to change a token, drawn from a seeded source; each gives a text that is not the token."""

    def __init__(self, seed: int, tokens: list[str], others: list[str]) -> None:
        self._random = random.Random(seed)
        self._tokens = tokens
        self._others = others
        self._ways = [
            self.bit, self.byte, self.cut, self.insert, self.repeat, self.character, self.swap_parts, self.other_part, self.header,
            self.claim, self.padding, self.stray_bits, self.twice, self.number, self.signature, self.nesting, self.raw, self.split,
        ]  # fmt: skip

    def __iter__(self) -> Iterator[str]:
        while True:
            token = self._random.choice(self._tokens)
            changed = self._random.choice(self._ways)(token)
            if self._random.random() < 0.1:
                changed = self._random.choice(self._ways)(changed) if changed.count(".") == 2 else changed
            # Space around a credential belongs to the header (RFC 9110 §5.5), and a header holds no line ends.
            if changed.strip() not in (*self._tokens, "") and not set(changed) & set("\r\n"):
                yield changed

    def _place(self, text: str) -> int:
        return self._random.randrange(len(text)) if text else 0

    def bit(self, token: str) -> str:
        place = self._place(token)
        return token[:place] + chr(ord(token[place]) ^ 1 << self._random.randrange(7)) + token[place + 1 :]

    def byte(self, token: str) -> str:
        part = self._random.randrange(3)
        decoded = bytearray(self._decoded(token.split(".")[part]) or b"\0")
        decoded[self._place(str(decoded, "latin-1"))] ^= self._random.randrange(1, 256)
        return self._with(token, part, base64url(bytes(decoded)))

    def cut(self, token: str) -> str:
        start = self._place(token)
        return token[:start] + token[start + self._random.choice([1, 2, 3, 4, 50, 1000]) :]

    def insert(self, token: str) -> str:
        place = self._place(token)
        return token[:place] + self._random.choice([*ALPHABET, ".", "=", "%", " ", "+", "/", "é", "\x00", "A" * 40]) + token[place:]

    def repeat(self, token: str) -> str:
        return self._random.choice([token + token, token + ".", "." + token, token + "." + token, token.upper(), token[::-1]])

    def character(self, token: str) -> str:
        place = self._place(token)
        return token[:place] + self._random.choice(ALPHABET) + token[place + 1 :]

    def swap_parts(self, token: str) -> str:
        parts = token.split(".")
        self._random.shuffle(parts)
        return ".".join(parts)

    def other_part(self, token: str) -> str:
        part = self._random.randrange(3)
        return self._with(token, part, self._random.choice(self._tokens + self._others).split(".")[part])

    def header(self, token: str) -> str:
        header = self._document(token, 0)
        name, values = self._random.choice(
            [("alg", ALGORITHMS), ("kid", KIDS), ("crit", [["exp"], [], 5]), ("typ", VALUES), ("b64", [False])]
        )
        header[name] = self._random.choice(values)  # type: ignore[index]  # one of the lists above
        if self._random.random() < 0.3:
            header.pop(self._random.choice(list(header)))
        return self._with(token, 0, base64url(json.dumps(header).encode()))

    def claim(self, token: str) -> str:
        claims = self._document(token, 1)
        claims[self._random.choice(CLAIMS)] = self._random.choice(VALUES)
        if self._random.random() < 0.3:
            claims.pop(self._random.choice(list(claims)))
        return self._with(token, 1, base64url(json.dumps(claims).encode()))

    def padding(self, token: str) -> str:
        part = self._random.randrange(3)
        return self._with(token, part, token.split(".")[part] + "=" * self._random.randrange(1, 5))

    def stray_bits(self, token: str) -> str:
        part = self._random.randrange(3)
        text = token.split(".")[part]
        last = ALPHABET.find(text[-1:]) ^ self._random.choice([1, 2, 3])
        return self._with(token, part, text[:-1] + ALPHABET[last % 64])

    def twice(self, token: str) -> str:
        part = self._random.randrange(2)
        text = self._decoded(token.split(".")[part]) or b"{}"
        again = self._random.choice([b'"alg":"HS256"', b'"alg":"none"', b'"sub":"root"', b'"exp":9999999999', b'"role":"service"'])
        joined = again + b"," + text[1:] if self._random.random() < 0.5 else text[1:-1] + b"," + again + b"}"
        return self._with(token, part, base64url(b"{" + joined))

    def number(self, token: str) -> str:
        number = self._random.choice(["9" * 5000, "1e999", "-1e999", "NaN", "Infinity", "-0", "1" + "0" * 300, "1.5", "0x10"])
        claims = json.dumps(self._document(token, 1))[:-1] + f', "{self._random.choice(CLAIMS)}": {number}}}'
        return self._with(token, 1, base64url(claims.encode()))

    def signature(self, token: str) -> str:
        size = len(self._decoded(token.split(".")[2]) or b"")
        forged = [
            b"",
            b"\0" * size,
            b"\xff" * size,
            b"\0" * 64,
            self._random.randbytes(size),
            self._random.randbytes(64),
            b"0" + b"\0" * 69,
        ]
        return self._with(token, 2, base64url(self._random.choice(forged)))

    def nesting(self, token: str) -> str:
        depth = self._random.choice([10, 900, 2500])
        opened = self._random.choice(["[", '{"a":'])
        return self._with(token, self._random.randrange(2), base64url((opened * depth)[:5000].encode()))

    def raw(self, token: str) -> str:
        text = self._random.choice([b"null", b"[]", b"1", b'""', b"\xff\xfe", b"\xef\xbb\xbf{}", b"{", b'{"alg"', b"\0", b" " * 50])
        return self._with(token, self._random.randrange(2), base64url(text))

    def split(self, token: str) -> str:
        place = self._place(token)
        return self._random.choice([token[:place] + "." + token[place:], token.replace(".", "", 1), token.replace(".", ""), token[:place]])

    def _with(self, token: str, part: int, text: str) -> str:
        parts = token.split(".")
        parts[part] = text
        return ".".join(parts)

    def _document(self, token: str, part: int) -> dict[str, Any]:
        try:
            document = json.loads(self._decoded(token.split(".")[part]) or b"{}")
        except (ValueError, RecursionError):
            return {"alg": "HS256"}
        return document if isinstance(document, dict) and document else {"alg": "HS256"}

    def _decoded(self, part: str) -> bytes:
        try:
            return base64.urlsafe_b64decode(part + "==")
        except ValueError:
            return b""


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_thousand_tokens_that_were_tampered_with_are_refused(
    issued: Tenant, new_tenant: Any, web: Web, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The clock stands still, so that the fetches of the key set can be counted whatever time this takes."""
    now = seam.timestamp()
    monkeypatch.setattr(seam, "timestamp", lambda: now)
    stranger = new_tenant()
    valid = [issued.token(), issued.token(sub="other", role="editor"), by_key(issued, rsa_key(), "r"), by_key(issued, ec_key(), "e")]
    others = [stranger.token(), by_key(issued, rsa_key("other"), "r"), by_key(stranger, ec_key(), "e")]
    tried: set[str] = set()
    for token in Tampering(seed, valid, others):
        if token in tried:
            continue
        tried.add(token)
        answer = issued.nobody(*LIST, headers={"authorization": f"Bearer {token}"})
        assert answer.status == 401, token
        if len(tried) == 5_000:
            break
    for token in valid:
        assert issued.nobody.using(token)(*LIST).status == 403, "the tokens themselves are let in all the while"
    assert web.asked == ["/jwks.json"]
    assert len(keysets._known) == 1
