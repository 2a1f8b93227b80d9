"""User tokens: what is accepted, what is refused, and what a token can never become."""

import base64
import hmac
import json
import uuid
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from chalicelib import seam
from chalicelib.access import keysets, tokens
from chalicelib.access.cache import forget_everything
from chalicelib.access.principals import Principal, Role
from chalicelib.core import tenants
from chalicelib.errors import InvalidRequest, Unauthorized, Unavailable
from chalicelib.tables.tenants import Tenant as TenantRow
from tests.conftest import Tenant
from tests.issuer import Web, ec_key, jwk, key_set, rsa_key


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
    forget_everything()
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


# ---- key sets ------------------------------------------------------------------------------------------------------
@pytest.fixture
def issued(new_tenant: Any, web: Web) -> Tenant:
    """A tenant whose identity provider publishes an RSA key `r` and a P-256 key `e`."""
    web.publish(jwk(rsa_key(), "r"), jwk(ec_key(), "e"))
    tenant: Tenant = new_tenant()
    tenants.change_tenant(tenant.tenant_id, {"jwks_url": web.url})
    forget_everything()
    return tenant


def by_key(tenant: Tenant, key: Any, kid: str | None = None, algorithm: str = "", **changed: Any) -> str:
    usual = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    return jwt.encode(claims(tenant, **changed), key, algorithm=algorithm or usual, headers=None if kid is None else {"kid": kid})


def refused(token: str) -> None:
    with pytest.raises(Unauthorized):
        tokens.principal_of(token)


def test_tokens_by_both_kinds_of_key_and_by_the_secret_are_accepted(issued: Tenant) -> None:
    for token in (by_key(issued, rsa_key(), "r"), by_key(issued, ec_key(), "e"), signed(issued), issued.token()):
        assert tokens.principal_of(token).tenant_id == issued.tenant_id


def test_a_kid_may_be_left_out_where_one_key_fits(issued: Tenant, web: Web, clock: Any) -> None:
    assert tokens.principal_of(by_key(issued, rsa_key()))
    web.publish(jwk(rsa_key(), "r"), jwk(rsa_key("other"), "r2"))
    clock.advance(301)
    refused(by_key(issued, rsa_key()))
    assert tokens.principal_of(by_key(issued, rsa_key(), "r"))


def test_another_key_is_refused_whatever_kid_it_claims(issued: Tenant) -> None:
    for kid in ("r", "e", "x", "", None):
        refused(by_key(issued, rsa_key("other"), kid))
        refused(by_key(issued, ec_key("other"), kid))


def test_a_key_verifies_its_own_algorithm_alone(issued: Tenant) -> None:
    for algorithm in ("RS384", "RS512", "PS256"):
        refused(by_key(issued, rsa_key(), "r", algorithm))
    refused(by_key(issued, rsa_key(), "e"))
    refused(by_key(issued, ec_key(), "r"))


def test_a_published_key_is_no_secret(issued: Tenant) -> None:
    """The classic confusion of algorithms: HS256 under what everybody can read."""
    public = rsa_key().public_key()
    spki, pkcs1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
    formats = [(encoding, form) for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER) for form in (spki, pkcs1)]
    secrets = [public.public_bytes(*each) for each in formats]
    secrets += [json.dumps(jwk(rsa_key(), "r")).encode(), jwk(rsa_key())["n"].encode(), b"", b"r"]
    for kid in ("r", "e", None):
        header = encoded(json.dumps({"alg": "HS256"} | ({"kid": kid} if kid else {})).encode())
        content = f"{header}.{encoded(json.dumps(claims(issued)).encode())}"
        for secret in secrets:
            refused(f"{content}.{encoded(hmac.digest(secret, content.encode(), 'sha256'))}")


def test_the_secret_is_no_published_key(issued: Tenant) -> None:
    for algorithm in ("RS256", "ES256", "none", "HS256 "):
        for kid in ("r", "e"):
            header = encoded(json.dumps({"alg": algorithm, "kid": kid}).encode())
            content = f"{header}.{encoded(json.dumps(claims(issued)).encode())}"
            refused(f"{content}.{encoded(hmac.digest(issued.jwt_secret.encode(), content.encode(), 'sha256'))}")


def test_a_tenant_without_a_key_set_takes_the_secret_alone(tenant: Tenant, web: Web) -> None:
    web.publish(jwk(rsa_key(), "r"))
    refused(by_key(tenant, rsa_key(), "r"))
    assert web.asked == []


def test_a_key_brought_along_is_not_looked_at(issued: Tenant, web: Web) -> None:
    other = rsa_key("other")
    for header in ({"jwk": jwk(other, "r")}, {"jku": web.url + "?mine", "kid": "r"}, {"x5u": web.url, "x5c": ["AA"]}):
        refused(jwt.encode(claims(issued), other, algorithm="RS256", headers=header))
    assert set(web.asked) <= {"/jwks.json"}


@pytest.mark.parametrize("kid", [5, ["r"], {"r": 1}, True])
def test_a_kid_is_a_text(issued: Tenant, kid: Any) -> None:
    content = f"{encoded(json.dumps({'alg': 'RS256', 'kid': kid}).encode())}.{encoded(json.dumps(claims(issued)).encode())}"
    refused(f"{content}.{encoded(rsa_key().sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}")


def test_one_tenants_keys_are_not_another_ones(issued: Tenant, new_tenant: Any, web: Web) -> None:
    second = new_tenant()
    refused(by_key(second, rsa_key(), "r"))
    refused(by_key(issued, rsa_key(), "r", tenant_id=second.tenant_id))


def test_a_rotated_key_is_taken_up_and_the_old_one_dropped(issued: Tenant, web: Web, clock: Any) -> None:
    assert tokens.principal_of(by_key(issued, rsa_key(), "r"))
    web.publish(jwk(rsa_key("other"), "r2"))
    clock.advance(31)
    assert tokens.principal_of(by_key(issued, rsa_key("other"), "r2"))
    refused(by_key(issued, rsa_key(), "r"))


def test_while_no_set_is_known_tokens_by_a_key_are_503_and_those_by_the_secret_work(issued: Tenant, web: Web) -> None:
    web.status = 500
    with pytest.raises(Unavailable):
        tokens.principal_of(by_key(issued, rsa_key(), "r"))
    assert tokens.principal_of(signed(issued))


@pytest.mark.parametrize("algorithm", ["HS512", "none", "RS512", "ES384", "x"])
def test_an_algorithm_that_no_key_serves_asks_for_no_key_set(issued: Tenant, web: Web, algorithm: str) -> None:
    web.status = 500
    header = encoded(json.dumps({"alg": algorithm, "kid": "r"}).encode())
    refused(f"{header}.{encoded(json.dumps(claims(issued)).encode())}.AAAA")
    assert web.asked == []


def test_a_token_by_a_key_goes_by_the_same_rules(issued: Tenant) -> None:
    for changed in ({"exp": 1}, {"aud": "other"}, {"sub": ...}, {"nbf": 10**11}, {"role": 5}):
        refused(by_key(issued, rsa_key(), "r", **changed))
    assert tokens.principal_of(by_key(issued, ec_key(), "e", role="service")).role is Role.USER


# ---- one spelling --------------------------------------------------------------------------------------------------
def raw_token(tenant: Tenant, header: bytes, payload: bytes) -> str:
    """A token of exactly these documents with the right signature."""
    content = f"{encoded(header)}.{encoded(payload)}"
    return f"{content}.{encoded(hmac.digest(tenant.jwt_secret.encode(), content.encode(), 'sha256'))}"


HEADER = b'{"alg":"HS256"}'


def test_a_token_by_hand_is_accepted(tenant: Tenant) -> None:
    assert tokens.principal_of(raw_token(tenant, HEADER, json.dumps(claims(tenant)).encode()))


def test_another_spelling_of_the_same_bytes_is_refused(tenant: Tenant) -> None:
    token = signed(tenant)
    assert tokens.principal_of(token)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    stray = alphabet[alphabet.index(token[-1]) ^ 1]  # 32 bytes leave two bits of the last character unused
    for other in (token[:-1] + stray, token + "=", token + "==", token.replace(".", "=.", 1), token + "\n", " " + token, token + "A"):
        refused(other)


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"HS256","alg":"HS256"}', b'{"alg":"none","alg":"HS256"}', b'{"alg":"HS256","crit":[]}', b'{"alg":"HS256","crit":["exp"]}',
        b'{"alg":"HS256","b64":false,"crit":["b64"]}', b'["HS256"]', b'"HS256"', b"null", b"{}", b'{"alg":["HS256"]}', b'{"alg":"hs256"}',
        b'{"alg":"HS256","a":NaN}', b'{"alg":"HS256","kid":"\\ud800"}', b'\xef\xbb\xbf{"alg":"HS256"}', b'{"alg":"HS256"}x', b"[" * 3000,
        b'{"alg":"HS256","a":' + b"9" * 5000 + b"}",
    ],
    ids=lambda header: header[:40],
)  # fmt: skip
def test_an_odd_header_is_refused_although_it_is_signed(tenant: Tenant, header: bytes) -> None:
    refused(raw_token(tenant, header, json.dumps(claims(tenant)).encode()))


@pytest.mark.parametrize(
    "addition",
    [
        b'"sub":"other"',
        b'"a":Infinity',
        b'"a":"\\ud800"',
        b'"a":' + b"[" * 2000 + b"]" * 2000,
        b'"a":' + b"9" * 4500,
        b'"a":1,"a":1',
        b'"a"',
    ],
    ids=lambda addition: addition[:12],
)
def test_odd_claims_are_refused_although_they_are_signed(tenant: Tenant, addition: bytes) -> None:
    payload = json.dumps(claims(tenant)).encode()
    assert tokens.principal_of(raw_token(tenant, HEADER, payload[:-1] + b',"a":[1e999]}'))
    refused(raw_token(tenant, HEADER, payload[:-1] + b"," + addition + b"}"))


# ---- RFC 7515, appendix A ------------------------------------------------------------------------------------------
PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
A1 = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
A1_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
A2 = (
    f"eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}."
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4"
    "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv"
    "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
A2_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRP"
    "EwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5Zw"
    "Kh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e": "AQAB",
}
A3 = f"eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


def vector_key(source: Any) -> Any:
    if isinstance(source, str):
        return base64.urlsafe_b64decode(source + "==")
    (key,) = keysets.parse(key_set(source))
    return key.public_key


VECTORS = [("HS256", A1, A1_KEY), ("RS256", A2, A2_KEY), ("ES256", A3, A3_KEY)]


@pytest.mark.parametrize(("algorithm", "token", "source"), VECTORS, ids=["A.1", "A.2", "A.3"])
def test_the_vectors_of_rfc_7515_verify(algorithm: str, token: str, source: Any) -> None:
    payload = tokens.verify(token, vector_key(source), algorithm)
    assert payload == b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'


@pytest.mark.parametrize(("algorithm", "token", "source"), VECTORS, ids=["A.1", "A.2", "A.3"])
def test_the_vectors_verify_by_nothing_else(algorithm: str, token: str, source: Any) -> None:
    for other, _, other_source in VECTORS:
        for tried in {algorithm, other}:
            if (tried, other) != (algorithm, algorithm):
                with pytest.raises(Unauthorized):
                    tokens.verify(token, vector_key(other_source), tried)


@pytest.mark.parametrize(("algorithm", "token", "source"), VECTORS, ids=["A.1", "A.2", "A.3"])
def test_a_vector_with_any_character_changed_is_refused(algorithm: str, token: str, source: Any) -> None:
    key = vector_key(source)
    for place, character in enumerate(token):
        with pytest.raises(Unauthorized):
            tokens.verify(token[:place] + ("A" if character != "A" else "B") + token[place + 1 :], key, algorithm)


# ---- claims --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "changed",
    [
        {"role": 5}, {"role": ["editor"]}, {"role": {}}, {"role": True}, {"role": "r" * 101},
        {"email": 5}, {"email": ["a@b.c"]}, {"email": False}, {"email": "e" * 321},
        {"permissions": 5}, {"permissions": {}}, {"permissions": {"a": 1}}, {"permissions": True}, {"permissions": ["a", 5]},
        {"permissions": [None]}, {"permissions": [["a"]]}, {"permissions": ["p"] * 101}, {"permissions": "p " * 101},
    ],
    ids=lambda changed: str(changed)[:30],
)  # fmt: skip
def test_a_claim_of_a_wrong_type_or_length_is_refused(tenant: Tenant, changed: dict[str, Any]) -> None:
    refused(signed(tenant, **changed))


@pytest.mark.parametrize(
    ("given", "role", "email", "permissions"),
    [
        ({}, "authenticated", None, []),
        ({"role": None, "email": None, "permissions": None}, "authenticated", None, []),
        ({"role": "editor", "email": "a@b.c", "permissions": ["p", "q", "p"]}, "editor", "a@b.c", ["p", "q"]),
        ({"role": "service"}, "authenticated", None, []),
        ({"role": ""}, "authenticated", None, []),
        ({"role": "admin"}, "admin", None, []),
        ({"role": "anon"}, "anon", None, []),
        (
            {"role": "r" * 100, "email": "e" * 320, "permissions": [str(n) for n in range(100)]},
            "r" * 100,
            "e" * 320,
            sorted(map(str, range(100))),
        ),
        ({"permissions": " p  q "}, "authenticated", None, ["p", "q"]),
        ({"permissions": ""}, "authenticated", None, []),
    ],
    ids=lambda value: str(value)[:30],
)
def test_claims_are_those_of_the_principal(tenant: Tenant, given: Any, role: str, email: str | None, permissions: list[str]) -> None:
    principal = tokens.principal_of(signed(tenant, **given))
    assert (principal.auth_role, principal.email, sorted(principal.permissions)) == (role, email, permissions)


@pytest.mark.parametrize(
    ("role", "told"), [(role, "service" if role is Role.SERVICE else "anon") for role in Role if role is not Role.USER]
)
def test_only_users_have_roles_of_their_own(role: Role, told: str) -> None:
    assert Principal(role, "t", {"role": "editor"}).auth_role == told
    assert (Principal(role, "t").email, Principal(role, "t").permissions) == (None, frozenset())


# ---- issuing -------------------------------------------------------------------------------------------------------
def test_an_issued_token_is_valid_until_it_expires(tenant: Tenant, clock: Any) -> None:
    token, expires_at = tokens.issue(tenant.tenant_id, {"sub": "me", "role": "editor", "tenant_id": "other", "exp": 1, "aud": "x"}, 100)
    assert expires_at == pytest.approx(seam.timestamp() + 100, abs=2)
    principal = tokens.principal_of(token)
    assert (principal.tenant_id, principal.claims["sub"], principal.auth_role) == (tenant.tenant_id, "me", "editor")
    assert principal.claims["iat"] + 100 == principal.claims["exp"] == expires_at
    clock.advance(161)
    refused(token)


def test_no_token_is_issued_that_would_be_refused(tenant: Tenant) -> None:
    with pytest.raises(InvalidRequest):
        tokens.issue(tenant.tenant_id, {"sub": "me", "permissions": ["p" * 100] * 100}, 100)
