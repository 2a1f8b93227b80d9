"""Secrets at rest: AES-256-GCM under a key derived from a master key, bound to the record they belong to.

A sealed secret is `{key id}.{base64url of nonce, ciphertext and tag}`. The key id is the start of a digest of
the master key and tells which one opens it: of several master keys the first seals, and all open, so that one
can be replaced while what the other sealed still opens. The record's name is associated data, so a sealed
secret that was copied to another tenant's row does not open there.
"""

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from chalicelib import aws
from chalicelib.settings import SettingsError, settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CONTEXT = b"stowage-sealed-secrets"
NONCE_BYTES = 12
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class MasterKey:
    """32 bytes that other keys are derived from; `key_id` names it and tells nothing about it."""

    key_id: str
    secret: bytes

    def derive(self, context: bytes) -> bytes:
        """The 32-byte key for one purpose: HKDF-SHA256 with an empty salt (RFC 5869)."""
        return hkdf(self.secret, b"", context)


def hkdf(secret: bytes, salt: bytes, context: bytes, length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869), at most 8,160 bytes. `cryptography` has it too, for 100 ms of CPU at a cold start."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    derived, block = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + context + bytes([number]), "sha256")
        derived += block
    return derived[:length]


@lru_cache(maxsize=1)
def master_keys() -> tuple[MasterKey, ...]:
    """The installation's master keys, the one in use first; raises SettingsError."""
    chosen = settings()
    text = chosen.master_key or _stored_master_keys(chosen.master_key_parameter)
    return tuple(_master_key(part.strip()) for part in text.split(","))


def _master_key(text: str) -> MasterKey:
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SettingsError("STOWAGE_MASTER_KEY is not base64") from error
    if len(secret) != KEY_BYTES:
        raise SettingsError(f"STOWAGE_MASTER_KEY must be {KEY_BYTES} bytes in base64, not {len(secret)}")
    return MasterKey(hashlib.sha256(b"key-id" + secret).hexdigest()[:8], secret)


def _stored_master_keys(parameter: str) -> str:
    if not parameter:
        raise SettingsError("set STOWAGE_MASTER_KEY, or STOWAGE_MASTER_KEY_PARAMETER to the SSM parameter that holds it")
    answer = aws.client("ssm")._make_api_call("GetParameter", {"Name": parameter, "WithDecryption": True})
    return str(answer["Parameter"]["Value"])


def seal(secret: str, record: str) -> str:
    """`secret` sealed for `record` (for example `tenants/{tenant_id}/jwt_secret`)."""
    key = master_keys()[0]
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + _cipher(key).encrypt(nonce, secret.encode(), record.encode())
    return f"{key.key_id}.{base64.urlsafe_b64encode(sealed).decode()}"


def unseal(sealed: str, record: str) -> str:
    """The secret; raises SettingsError when it was sealed under another master key or for another record."""
    from cryptography.exceptions import InvalidTag

    sealed_under, _, payload = sealed.partition(".")
    key = next((key for key in master_keys() if key.key_id == sealed_under), None)
    if key is None:
        known = ", ".join(key.key_id for key in master_keys())
        raise SettingsError(f"a secret was sealed under master key {sealed_under}, and this is {known}")
    try:
        data = base64.urlsafe_b64decode(payload)
        return _cipher(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], record.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise SettingsError(f"the secret of {record} was changed or moved") from error


@lru_cache(maxsize=4)
def _cipher(key: MasterKey) -> "AESGCM":
    # Imported where it is needed: 100 ms of CPU that a request with an API key never pays.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key.derive(CONTEXT))
