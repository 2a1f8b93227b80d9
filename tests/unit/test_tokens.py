"""User tokens: what is accepted, what is refused, and what a token can never become."""

import base64
import json
import uuid
from typing import Any

import jwt
import pytest

from chalicelib import seam
from chalicelib.access import tokens
from chalicelib.access.principals import Role
from chalicelib.errors import Unauthorized
from chalicelib.tables.tenants import Tenant as TenantRow
from tests.conftest import Tenant


def claims(tenant: Tenant, **changed: Any) -> dict[str, Any]:
    now = int(seam.timestamp())
    whole = {"tenant_id": tenant.tenant_id, "aud": "authenticated", "sub": "someone", "exp": now + 3600} | changed
    return {name: value for name, value in whole.items() if value is not ...}


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(tenant: Tenant, algorithm: str = "HS256", secret: str = "", **changed: Any) -> str:
    return jwt.encode(claims(tenant, **changed), secret or tenant.jwt_secret, algorithm=algorithm)


def test_a_valid_token_is_a_user_of_its_tenant(tenant: Tenant) -> None:
    principal = tokens.principal_of(signed(tenant, email="a@b.c", role="editor", permissions=["x"]))
    assert (principal.role, principal.tenant_id) == (Role.USER, tenant.tenant_id)
    assert principal.claims["email"] == "a@b.c"
    assert principal.claims["permissions"] == ["x"]


def test_the_tenant_may_be_called_organization(tenant: Tenant) -> None:
    assert tokens.principal_of(signed(tenant, tenant_id=..., organization_id=tenant.tenant_id)).tenant_id == tenant.tenant_id


@pytest.mark.parametrize("role", ["service", "admin", "anon", "nobody", "service_role"])
def test_a_token_never_becomes_more_than_a_user(tenant: Tenant, role: str) -> None:
    principal = tokens.principal_of(signed(tenant, role=role))
    assert principal.role is Role.USER
    assert not principal.is_service


@pytest.mark.parametrize(
    "changed",
    [
        {"sub": ...}, {"sub": ""}, {"sub": "s" * 256}, {"sub": None},
        {"exp": ...}, {"exp": None}, {"exp": "9999999999"}, {"exp": True}, {"exp": [1]}, {"exp": 0}, {"exp": -1},
        {"exp": float("nan")}, {"exp": float("inf")},
        {"nbf": "1"}, {"nbf": True}, {"nbf": [1]}, {"nbf": float("nan")},
        {"aud": ...}, {"aud": "other"}, {"aud": ["other"]}, {"aud": []}, {"aud": None},
        {"tenant_id": ...}, {"tenant_id": ""}, {"tenant_id": None}, {"tenant_id": 5}, {"tenant_id": ["x"]}, {"tenant_id": "x" * 65},
        {"tenant_id": str(uuid.UUID(int=0))}, {"tenant_id": "not-a-tenant"},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_with_wrong_claims_is_refused(tenant: Tenant, changed: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        tokens.principal_of(signed(tenant, **changed))


@pytest.mark.parametrize("subject", [5, ["a"], {"a": 1}, True])
def test_a_subject_that_is_no_text_is_refused(tenant: Tenant, subject: Any) -> None:
    header, payload = encoded(b'{"alg":"HS256","typ":"JWT"}'), encoded(json.dumps(claims(tenant, sub=subject)).encode())
    import hashlib
    import hmac

    signature = hmac.new(tenant.jwt_secret.encode(), f"{header}.{payload}".encode(), hashlib.sha256).digest()
    with pytest.raises(Unauthorized):
        tokens.principal_of(f"{header}.{payload}.{encoded(signature)}")


def test_several_audiences_may_hold_the_right_one(tenant: Tenant) -> None:
    assert tokens.principal_of(signed(tenant, aud=["other", "authenticated"])).role is Role.USER


def test_a_subject_has_up_to_255_characters(tenant: Tenant) -> None:
    assert tokens.principal_of(signed(tenant, sub="s" * 255)).claims["sub"] == "s" * 255


# ---- time ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("seconds", "accepted"), [(0, True), (3600, True), (3655, True), (3665, False), (10**6, False)])
def test_a_token_expires_with_a_minute_of_leeway(tenant: Tenant, clock: Any, seconds: int, accepted: bool) -> None:
    token = signed(tenant)
    clock.advance(seconds)
    if accepted:
        assert tokens.principal_of(token)
    else:
        with pytest.raises(Unauthorized, match="expired"):
            tokens.principal_of(token)


@pytest.mark.parametrize(("ahead", "accepted"), [(-10, True), (0, True), (55, True), (65, False), (3600, False)])
def test_a_token_is_not_used_before_its_time(tenant: Tenant, ahead: int, accepted: bool) -> None:
    token = signed(tenant, nbf=int(seam.timestamp()) + ahead)
    if accepted:
        assert tokens.principal_of(token)
    else:
        with pytest.raises(Unauthorized, match="not valid yet"):
            tokens.principal_of(token)


# ---- signatures ----------------------------------------------------------------------------------------------------
def test_another_secret_is_refused(tenant: Tenant) -> None:
    with pytest.raises(Unauthorized):
        tokens.principal_of(signed(tenant, secret="s" * 64))


def test_another_tenants_secret_is_refused(new_tenant: Any) -> None:
    first, second = new_tenant(), new_tenant()
    with pytest.raises(Unauthorized):
        tokens.principal_of(signed(first, secret=second.jwt_secret))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_refused(tenant: Tenant, algorithm: str) -> None:
    with pytest.raises(Unauthorized):
        tokens.principal_of(signed(tenant, algorithm))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "RS256", "ES256"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_an_unsigned_token_is_refused(tenant: Tenant, algorithm: str, signature: str) -> None:
    header = encoded(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    with pytest.raises(Unauthorized):
        tokens.principal_of(f"{header}.{encoded(json.dumps(claims(tenant)).encode())}.{signature}")


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_part_is_refused(tenant: Tenant, part: int) -> None:
    parts = signed(tenant).split(".")
    parts[part] = parts[part][:-4] + ("AAAA" if parts[part][-4:] != "AAAA" else "BBBB")
    with pytest.raises(Unauthorized):
        tokens.principal_of(".".join(parts))


@pytest.mark.parametrize(
    "token",
    ["..", "a.b.c", "é.é.é", "a..c", "\ud800.a.b", ". . .", "e30.e30.", "e30.W10.AA", "e30.bnVsbA.AA", "e30." + encoded(b"\xff") + ".x"],
)
def test_what_is_no_token_is_refused(tenant: Tenant, token: str) -> None:
    with pytest.raises(Unauthorized):
        tokens.principal_of(token)


def test_a_token_has_at_most_8_kb(tenant: Tenant) -> None:
    assert tokens.principal_of(signed(tenant, note="n" * 5000))
    with pytest.raises(Unauthorized):
        tokens.principal_of(signed(tenant, note="n" * 8000))


def test_a_refusal_tells_nothing_of_the_cause(tenant: Tenant) -> None:
    messages = set()
    for token in (signed(tenant, secret="s" * 64), signed(tenant, tenant_id=str(uuid.UUID(int=0))), signed(tenant, aud="other"), "a.b.c"):
        with pytest.raises(Unauthorized) as refused:
            tokens.principal_of(token)
        messages.add(refused.value.message)
    assert len(messages) == 1


@pytest.mark.parametrize(("credential", "token"), [("a.b.c", True), ("sk_abc", False), ("a.b", False), ("a.b.c.d.e", False), ("", False)])
def test_a_token_has_three_parts(credential: str, token: bool) -> None:
    assert tokens.looks_like_token(credential) is token


def test_the_audience_is_the_tenants(tenant: Tenant) -> None:
    row = TenantRow.read(tenant.tenant_id)
    assert row is not None
    row.change([TenantRow.jwt_audience.set("my-app")], TenantRow.tenant_id.exists())
    tokens._tenants.clear()
    assert tokens.principal_of(signed(tenant, aud="my-app"))
    with pytest.raises(Unauthorized):
        tokens.principal_of(signed(tenant))


# ---- who that is ---------------------------------------------------------------------------------------------------
def test_a_uuid_subject_is_the_uid_in_its_usual_form(tenant: Tenant) -> None:
    subject = "A1B2C3D4-0000-4000-8000-00000000ABCD"
    assert tokens.principal_of(signed(tenant, sub=subject)).uid == subject.lower()


def test_another_subject_has_a_uid_of_its_own_in_each_tenant(new_tenant: Any) -> None:
    first, second = new_tenant(), new_tenant()
    uids = [tokens.principal_of(signed(each, sub="someone")).uid for each in (first, second, first)]
    assert uids[0] == uids[2] == str(uuid.uuid5(uuid.UUID(first.tenant_id), "someone"))
    assert uids[1] != uids[0]
