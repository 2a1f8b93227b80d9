"""Key sets: the public keys by which a tenant's own identity provider signs (JWK sets, RFC 7517).

A set is kept for five minutes and asked for again when a token names a key that it lacks, but never twice within
half a minute, whatever tokens come. While it cannot be had, the last good one holds for an hour. What a document
holds beside the two kinds of key that are used here is passed over.
"""

import base64
import json
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from chalicelib import outbound, seam
from chalicelib.access.cache import forgotten_with_the_rest
from chalicelib.errors import Unavailable
from chalicelib.observability import logger

# Seconds.
FRESH_FOR = 300
GOOD_FOR = 3600
BETWEEN_FETCHES = 30
MAX_BYTES = 65_536
MAX_KEYS = 100
# Below, RSA is no longer held to be safe (NIST SP 800-131A); above, verifying takes too long.
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
CAPACITY = 1000
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of `cryptography` and the one algorithm that it verifies."""

    kid: str | None
    algorithm: str
    public_key: Any


@dataclass(slots=True)
class _Known:
    """What is known of one URL; times in seconds since the Unix epoch."""

    keys: list[Key] = field(default_factory=list)
    fetched_at: float = 0.0
    tried_at: float = 0.0
    lock: Lock = field(default_factory=Lock)


_known: dict[str, _Known] = {}
forgotten_with_the_rest(_known)


def key(url: str, algorithm: str, kid: str | None) -> Any:
    """The public key for a token by `algorithm` that names `kid`, None when the set has none that is meant.

    Without a `kid` it must be the only one of its algorithm. Raises Unavailable when no set is known.
    """
    known = _entry(url)
    with known.lock:
        if seam.timestamp() - known.fetched_at >= FRESH_FOR:
            _refresh(url, known)
        found = _chosen(known.keys, algorithm, kid)
        if found is None and _refresh(url, known):
            found = _chosen(known.keys, algorithm, kid)
        if seam.timestamp() - known.fetched_at >= GOOD_FOR:
            raise Unavailable("the key set of the token's issuer cannot be had; try again shortly")
    return found


def _entry(url: str) -> _Known:
    if len(_known) >= CAPACITY and url not in _known:
        _known.clear()
    return _known.setdefault(url, _Known())


def _refresh(url: str, known: _Known) -> bool:
    """Ask for the set unless that was done just now; gives whether it was."""
    now = seam.timestamp()
    if now - known.tried_at < BETWEEN_FETCHES:
        return False
    known.tried_at = now
    try:
        known.keys = parse(outbound.fetch(url, MAX_BYTES))
    except (outbound.Refused, outbound.Unreachable, ValueError) as error:
        logger().warning("a key set could not be had", extra={"host": url.split("/")[2], "reason": str(error)})
        return False
    known.fetched_at = now
    return True


def _chosen(keys: list[Key], algorithm: str, kid: str | None) -> Any:
    fitting = [each.public_key for each in keys if each.algorithm == algorithm and kid in (None, each.kid)]
    return fitting[0] if len(fitting) == 1 else None


def parse(document: bytes) -> list[Key]:
    """The keys of a JWK set that can verify RS256 or ES256; raises ValueError when it is no set, or one of too many."""
    try:
        parsed = json.loads(document)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JWK set")
    if len(listed) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    found = [_key(each) for each in listed if isinstance(each, dict)]
    return [each for each in found if each is not None]


def _key(jwk: dict[str, Any]) -> Key | None:
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    algorithm = _ALGORITHMS.get(_text(jwk, "kty") or "")
    meant = jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    if algorithm is None or not meant or jwk.get("alg", algorithm) != algorithm or not (kid is None or isinstance(kid, str)):
        return None
    try:
        return Key(kid, algorithm, _rsa(jwk) if algorithm == "RS256" else _p256(jwk))
    except ValueError:  # another curve, a point off it, an even exponent, a number that is none
        return None


def _rsa(jwk: dict[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    modulus = _number(jwk, "n")
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise ValueError("the modulus is too short or too long")
    return RSAPublicNumbers(_number(jwk, "e"), modulus).public_key()


def _p256(jwk: dict[str, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers

    if _text(jwk, "crv") != "P-256":
        raise ValueError("ES256 is for P-256 alone")
    return EllipticCurvePublicNumbers(_number(jwk, "x"), _number(jwk, "y"), SECP256R1()).public_key()


def _number(jwk: dict[str, Any], name: str) -> int:
    """An unsigned number in base64url, big end first (RFC 7518 §2)."""
    text = _text(jwk, name)
    if not text:
        raise ValueError(f"{name} is missing")
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _text(jwk: dict[str, Any], name: str) -> str | None:
    value = jwk.get(name)
    return value if isinstance(value, str) else None
