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
from pathlib import Path
from typing import TYPE_CHECKING

from chalicelib import aws, seam
from chalicelib.settings import SettingsError, settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CONTEXT = b"stowage-sealed-secrets"
NONCE_BYTES = 12
KEY_BYTES = 32
# Seconds. A key that was put into the parameter is known to every process after this long.
READ_EVERY = 300
# Seconds: what callers send has them read no more often.
LOOK_AGAIN_EVERY = 10
IN_FILE = "file:"


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


def master_keys() -> tuple[MasterKey, ...]:
    """The installation's master keys, the one in use first, as they stood at most five minutes ago; raises SettingsError."""
    return _read_master_keys(int(seam.timestamp() // READ_EVERY))


def forget_master_keys() -> None:
    """Have this process read them again now."""
    _read_master_keys.cache_clear()
    _look_again.cache_clear()


@lru_cache(maxsize=1)
def _look_again(_: int) -> None:
    """Have this process read the master keys again, once in each interval."""
    _read_master_keys.cache_clear()


@lru_cache(maxsize=1)
def _read_master_keys(_: int) -> tuple[MasterKey, ...]:
    chosen = settings()
    text = chosen.master_key or _stored_master_keys(chosen.master_key_parameter)
    return tuple(master_key_of(part.strip()) for part in text.split(","))


def master_key_of(text: str) -> MasterKey:
    """A master key from its base64; raises SettingsError."""
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SettingsError("STOWAGE_MASTER_KEY is not base64") from error
    if len(secret) != KEY_BYTES:
        raise SettingsError(f"STOWAGE_MASTER_KEY must be {KEY_BYTES} bytes in base64, not {len(secret)}")
    return MasterKey(hashlib.sha256(b"key-id" + secret).hexdigest()[:8], secret)


def _stored_master_keys(parameter: str) -> str:
    if not parameter:
        raise SettingsError("set STOWAGE_MASTER_KEY, or STOWAGE_MASTER_KEY_PARAMETER to the SSM parameter, or file:PATH, that holds it")
    if parameter.startswith(IN_FILE):
        try:
            return Path(parameter.removeprefix(IN_FILE)).read_text().strip()
        except OSError as error:
            raise SettingsError(f"STOWAGE_MASTER_KEY_PARAMETER: {error.strerror}: {error.filename}") from error
    answer = aws.client("ssm")._make_api_call("GetParameter", {"Name": parameter, "WithDecryption": True})
    return str(answer["Parameter"]["Value"])


def seal(secret: str, record: str) -> str:
    """`secret` sealed for `record` (for example `tenants/{tenant_id}/jwt_secret`)."""
    key = master_keys()[0]
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + _cipher(key).encrypt(nonce, secret.encode(), record.encode())
    return f"{key.key_id}.{base64.urlsafe_b64encode(sealed).decode()}"


def unseal(sealed: str, record: str, is_ours: bool = True) -> str:
    """The secret; raises SettingsError when it was sealed under another master key or for another record.

    Not `is_ours`: it comes from a caller, who may name any key as often as they like.
    """
    from cryptography.exceptions import InvalidTag

    sealed_under, _, payload = sealed.partition(".")
    key = _known(sealed_under)
    if key is None:  # sealed since this process has read the parameter
        if is_ours:
            forget_master_keys()
        else:
            _look_again(int(seam.timestamp() // LOOK_AGAIN_EVERY))
        key = _known(sealed_under)
    if key is None:
        known = ", ".join(key.key_id for key in master_keys())
        raise SettingsError(f"a secret was sealed under master key {sealed_under}, and this is {known}")
    try:
        data = base64.urlsafe_b64decode(payload)
        return _cipher(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], record.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise SettingsError(f"the secret of {record} was changed or moved") from error


def _known(key_id: str) -> MasterKey | None:
    return next((key for key in master_keys() if key.key_id == key_id), None)


def resealed(sealed: str, record: str) -> str | None:
    """The same secret under the master key in use; None where it is sealed under that already."""
    if sealed.partition(".")[0] == master_keys()[0].key_id:
        return None
    return seal(unseal(sealed, record), record)


@lru_cache(maxsize=4)
def _cipher(key: MasterKey) -> "AESGCM":
    # Imported where it is needed: 100 ms of CPU that a request with an API key never pays.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key.derive(CONTEXT))
