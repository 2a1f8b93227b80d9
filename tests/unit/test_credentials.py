"""From the credentials of a request to its principal."""

from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib import settings
from chalicelib.access import credentials
from chalicelib.access.credentials import authenticate
from chalicelib.access.principals import Principal, Role
from chalicelib.core import tenants
from chalicelib.errors import Unauthorized
from chalicelib.tables.tenants import ApiKey
from tests.conftest import Call, Tenant


@pytest.fixture
def anon_key(tenant: Tenant) -> str:
    return str(tenant.anon._credential)


@pytest.fixture
def default_tenant(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("STOWAGE_DEFAULT_TENANT", "the-default")
    settings.settings.cache_clear()
    yield "the-default"
    monkeypatch.undo()
    settings.settings.cache_clear()


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  ", " Bearer "])
def test_a_service_key_comes_as_bearer(tenant: Tenant, scheme: str) -> None:
    assert authenticate({"authorization": f"{scheme}{tenant.service_key}"}) == Principal(Role.SERVICE, tenant.tenant_id)


def test_a_key_comes_as_apikey(tenant: Tenant, anon_key: str) -> None:
    assert authenticate({"apikey": f" {anon_key} "}) == Principal(Role.ANON, tenant.tenant_id)


def test_a_token_comes_either_way(tenant: Tenant) -> None:
    for headers in ({"authorization": f"Bearer {tenant.token()}"}, {"apikey": tenant.token()}):
        assert authenticate(headers).role is Role.USER


def test_an_admin_key_belongs_to_no_tenant(embedded: Any) -> None:
    assert authenticate({"apikey": tenants.create_admin_key()}) == Principal(Role.ADMIN, "")


@pytest.mark.parametrize(
    "value",
    ["Basic YTpi", "Bearer", "Bearer ", "Bearer  ", "sk_something", "Token x", "Bearer unknown", "Bearer a.b.c", "Bearer " + "k" * 257],
)
def test_what_is_no_credential_is_refused(embedded: Any, default_tenant: str, value: str) -> None:
    """Also where nobody at all would be let in: who shows a credential means it."""
    with pytest.raises(Unauthorized):
        authenticate({"authorization": value})


def test_an_overlong_key_is_refused_without_a_look(tenant: Tenant, calls: list[Call]) -> None:
    calls.clear()
    with pytest.raises(Unauthorized):
        authenticate({"apikey": "k" * 10_000})
    assert calls == []


def test_key_and_token_of_one_tenant_are_the_user(tenant: Tenant, anon_key: str) -> None:
    principal = authenticate({"apikey": anon_key, "authorization": f"Bearer {tenant.token(sub='me')}"})
    assert (principal.role, principal.tenant_id, principal.claims["sub"]) == (Role.USER, tenant.tenant_id, "me")


def test_key_and_token_of_two_tenants_are_refused(new_tenant: Any) -> None:
    first, second = new_tenant(), new_tenant()
    with pytest.raises(Unauthorized, match="different tenants"):
        authenticate({"apikey": first.service_key, "authorization": f"Bearer {second.token()}"})


@pytest.mark.parametrize("broken", ["apikey", "authorization"])
def test_of_two_credentials_both_must_be_valid(tenant: Tenant, broken: str) -> None:
    headers = {"apikey": tenant.service_key, "authorization": f"Bearer {tenant.service_key}"}
    with pytest.raises(Unauthorized):
        authenticate(headers | {broken: "Bearer unknown"})


def test_nobody_falls_to_the_default_tenant(default_tenant: str) -> None:
    assert authenticate({}) == Principal(Role.NOBODY, default_tenant)
    assert authenticate({"authorization": " ", "apikey": " "}) == Principal(Role.NOBODY, default_tenant)


def test_nobody_is_refused_where_there_is_no_default_tenant() -> None:
    with pytest.raises(Unauthorized, match="Bearer"):
        authenticate({})


def test_a_key_is_looked_up_once_a_minute_and_revoked_within_it(tenant: Tenant, clock: Any, calls: list[Call]) -> None:
    headers = {"apikey": tenant.service_key}
    authenticate(headers)
    row = ApiKey.read(credentials.key_hash(tenant.service_key))
    assert row is not None
    row.remove(ApiKey.key_hash.exists())
    calls.clear()
    assert authenticate(headers).is_service
    assert calls == []
    clock.advance(60.1)
    with pytest.raises(Unauthorized):
        authenticate(headers)


def test_a_key_that_was_just_made_works_although_it_was_tried_before(embedded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "_new_key", lambda role: f"{role}_fixed-key")
    with pytest.raises(Unauthorized):
        authenticate({"apikey": "admin_fixed-key"})
    tenants.create_admin_key()
    assert authenticate({"apikey": "admin_fixed-key"}).role is Role.ADMIN


def test_only_the_sha256_of_a_key_is_stored(tenant: Tenant) -> None:
    import hashlib

    digest = hashlib.sha256(tenant.service_key.encode()).hexdigest()
    row = ApiKey.read(digest)
    assert row is not None
    assert tenant.service_key not in str(row.serialize())
    assert row.serialize()["role"] == {"S": "service"}


def test_a_refusal_does_not_repeat_the_key(embedded: Any) -> None:
    with pytest.raises(Unauthorized) as refused:
        authenticate({"apikey": "sk_almost-right"})
    assert "almost-right" not in refused.value.message


def test_keys_tell_their_kind_and_cannot_be_guessed(tenant: Tenant, anon_key: str) -> None:
    assert tenant.service_key.startswith("sk_")
    assert anon_key.startswith("pk_")
    assert len(tenant.service_key) >= 43
