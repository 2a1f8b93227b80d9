"""Key sets: which keys count, for which algorithm, and how often anybody is asked for them."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from chalicelib.access import keysets
from chalicelib.access.cache import forget_everything
from chalicelib.errors import Unavailable
from tests.conftest import Clock
from tests.issuer import Web, base64url, ec_key, jwk, key_set, rsa_key


def fits(algorithm: str, *keys: dict[str, Any], kid: str | None = None) -> bool:
    return keysets._chosen(keysets.parse(key_set(*keys)), algorithm, kid) is not None


# ---- keys ------------------------------------------------------------------------------------------------------
def test_an_rsa_key_is_for_rs256_and_a_p256_key_for_es256() -> None:
    both = (jwk(rsa_key(), "r"), jwk(ec_key(), "e"))
    assert fits("RS256", *both, kid="r")
    assert fits("ES256", *both, kid="e")
    assert not fits("ES256", *both, kid="r")
    assert not fits("RS256", *both, kid="e")
    for algorithm in ("HS256", "RS384", "PS256", "ES384", "none", ""):
        assert not any(fits(algorithm, *both, kid=kid) for kid in ("r", "e", None))


def test_without_a_kid_the_only_key_of_the_algorithm_is_meant() -> None:
    one = (jwk(rsa_key(), "r"), jwk(ec_key(), "e"))
    assert fits("RS256", *one)
    assert fits("ES256", *one)
    assert not fits("RS256", *one, jwk(rsa_key("other"), "r2"))
    assert fits("RS256", *one, jwk(rsa_key("other"), "r2", use="enc")), "a key that is for encryption does not count"


def test_a_kid_names_exactly_one_key() -> None:
    assert fits("RS256", jwk(rsa_key(), "a"), jwk(ec_key(), "a"), kid="a"), "of each algorithm"
    assert not fits("RS256", jwk(rsa_key(), "a"), jwk(rsa_key("other"), "a"), kid="a")
    assert not fits("RS256", jwk(rsa_key()), kid="a")
    assert not fits("RS256", jwk(rsa_key(), "a"), kid="A")
    assert not fits("RS256", jwk(rsa_key(), "a"), kid="")


ODD: list[dict[str, Any]] = [
    {"use": "enc"}, {"use": None}, {"use": ["sig"]},
    {"alg": "RS384"}, {"alg": "PS256"}, {"alg": "HS256"}, {"alg": "ES256"}, {"alg": None}, {"alg": ["RS256"]},
    {"key_ops": []}, {"key_ops": ["sign"]}, {"key_ops": "verify"}, {"key_ops": None}, {"key_ops": {"verify": 1}},
    {"kty": "oct"}, {"kty": "EC"}, {"kty": "rsa"}, {"kty": ...}, {"kty": ["RSA"]},
    {"n": ...}, {"n": ""}, {"n": "AQAB"}, {"n": 5}, {"n": "é"}, {"e": ...}, {"e": "AQ"}, {"e": "AA"}, {"e": "Ag"}, {"e": "x"},
    {"kid": 5}, {"kid": ["a"]},
]  # fmt: skip


@pytest.mark.parametrize("changed", ODD, ids=str)
def test_a_key_that_is_meant_for_something_else_is_passed_over(changed: dict[str, Any]) -> None:
    assert not fits("RS256", jwk(rsa_key(), **changed))
    assert fits("RS256", jwk(rsa_key(), **changed), jwk(rsa_key("other"))), "and does not hide the right one"


@pytest.mark.parametrize(
    "changed", [{"use": "sig"}, {"alg": "RS256"}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}, {"x5t": 5}]
)
def test_a_key_that_says_what_it_is_for_is_taken(changed: dict[str, Any]) -> None:
    assert fits("RS256", jwk(rsa_key(), **changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"crv": ...},
        {"crv": None},
        {"x": "AQAB"},
        {"x": ...},
        {"y": base64url(bytes(32))},
        {"kty": "OKP"},
    ],
    ids=str,
)
def test_an_elliptic_key_of_another_curve_or_off_it_is_passed_over(changed: dict[str, Any]) -> None:
    assert fits("ES256", jwk(ec_key()))
    assert not fits("ES256", jwk(ec_key(), **changed))


def test_a_key_of_p384_is_passed_over() -> None:
    assert not fits("ES256", jwk(ec_key("384", ec.SECP384R1)))


@pytest.mark.parametrize(("bits", "taken"), [(1024, False), (2040, False), (2048, True), (3072, True)])
def test_rsa_has_at_least_2048_bits(bits: int, taken: bool) -> None:
    assert fits("RS256", jwk(rsa_key("sized", bits))) is taken


def test_a_symmetric_key_is_passed_over() -> None:
    shared = {"kty": "oct", "k": base64url(b"s" * 64), "kid": "s"}
    assert keysets.parse(key_set(shared, jwk(rsa_key()) | {"kty": "oct", "k": "c2VjcmV0"})) == []


def test_the_private_part_of_a_key_is_not_taken_along() -> None:
    import jwt

    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key()))
    assert "d" in private
    (key,) = keysets.parse(key_set(private | {"key_ops": ["sign", "verify"]}))
    assert not hasattr(key.public_key, "private_numbers")


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"null", b'"keys"', b"{}", b'{"keys": {}}', b'{"keys": null}', b"\xff", b"[" * 100_000, key_set(*[{}] * 101)],
    ids=lambda document: document[:12],
)
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError):
        keysets.parse(document)


def test_a_set_has_up_to_100_keys_and_odd_members() -> None:
    odd: list[Any] = [None, 5, "x", [], {}]
    assert len(keysets.parse(json.dumps({"keys": [*odd, *[jwk(ec_key(), str(n)) for n in range(95)]]}).encode())) == 95


# ---- fetching --------------------------------------------------------------------------------------------------
@pytest.fixture
def published(web: Web) -> Web:
    """A server that publishes key `a`."""
    web.publish(jwk(rsa_key(), "a"))
    forget_everything()
    return web


def test_a_set_is_fetched_once_in_five_minutes(published: Web, clock: Clock) -> None:
    for seconds, fetches in ((0, 1), (299, 1), (2, 2), (299, 2)):
        clock.advance(seconds)
        assert all(keysets.key(published.url, "RS256", "a") is not None for _ in range(3))
        assert len(published.asked) == fetches


def test_each_url_has_a_set_of_its_own(published: Web) -> None:
    assert keysets.key(published.url, "RS256", "a") is not None
    published.publish()
    assert keysets.key(published.url + "?other", "RS256", "a") is None


def test_an_unknown_kid_has_the_set_fetched_again(published: Web, clock: Clock) -> None:
    assert keysets.key(published.url, "RS256", "a") is not None
    published.publish(jwk(rsa_key("other"), "b"))
    clock.advance(31)
    assert keysets.key(published.url, "RS256", "b") is not None
    assert len(published.asked) == 2
    assert keysets.key(published.url, "RS256", "a") is None, "what is no longer published no longer counts"
    assert len(published.asked) == 2


def test_unknown_kids_cause_one_fetch_in_30_seconds(published: Web, clock: Clock) -> None:
    clock.moved -= clock.moved
    for number in range(500):
        assert keysets.key(published.url, "RS256", f"unknown {number}") is None
    assert len(published.asked) == 1
    clock.advance(30.1)
    for number in range(500):
        assert keysets.key(published.url, "ES256", f"unknown {number}") is None
    assert len(published.asked) == 2


def test_the_first_token_with_an_unknown_kid_causes_one_fetch(published: Web) -> None:
    assert keysets.key(published.url, "RS256", "z") is None
    assert len(published.asked) == 1


FAILURES: dict[str, dict[str, Any]] = {
    "an error": {"status": 500},
    "a redirect": {"status": 302, "headers": {"Location": "/elsewhere"}},
    "no set": {"body": b"<html>"},
    "too large": {"body": b'{"keys": []}' + b" " * 65_536},
    "too many": {"body": key_set(*[{}] * 101)},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))
def test_the_last_good_set_holds_for_an_hour(published: Web, clock: Clock, failure: dict[str, Any]) -> None:
    assert keysets.key(published.url, "RS256", "a") is not None
    for name, value in failure.items():
        setattr(published, name, value)
    for _ in range(11):
        clock.advance(310)
        assert keysets.key(published.url, "RS256", "a") is not None
        assert keysets.key(published.url, "RS256", "b") is None, "unknown stays unknown"
    assert len(published.asked) == 12
    clock.advance(310)
    with pytest.raises(Unavailable):
        keysets.key(published.url, "RS256", "a")
    published.status, published.headers = 200, {}
    published.publish(jwk(rsa_key(), "a"))
    clock.advance(31)
    assert keysets.key(published.url, "RS256", "a") is not None


@pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))
def test_without_any_set_it_is_unavailable_and_asked_for_twice_a_minute(published: Web, clock: Clock, failure: dict[str, Any]) -> None:
    for name, value in failure.items():
        setattr(published, name, value)
    for round_ in (1, 2, 3):
        for _ in range(50):
            with pytest.raises(Unavailable):
                keysets.key(published.url, "RS256", "a")
        assert len(published.asked) == round_
        clock.advance(31)


def test_a_private_address_is_not_asked_by_default(published: Web, choose: Any) -> None:
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "false")
    with pytest.raises(Unavailable):
        keysets.key(published.url, "RS256", "a")
    assert published.asked == []


def test_a_set_may_have_64_kb(published: Web) -> None:
    published.body = published.body.ljust(65_536)
    assert keysets.key(published.url, "RS256", "a") is not None


def test_what_is_remembered_has_a_bound(published: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keysets, "CAPACITY", 3)
    for number in range(10):
        keysets.key(f"{published.url}?{number}", "RS256", "a")
        assert len(keysets._known) <= 3
