"""Secrets at rest: AES-256-GCM under a key derived from the master key, bound to the record they belong to.

A sealed secret is `{key id}.{base64url of nonce, ciphertext and tag}`. The key id is the start of a digest of
the master key: after a rotation it tells which one opens it. The record's name is associated data, so a
sealed secret that was copied to another tenant's row does not open there.
"""

import base64
import hashlib
import os
from functools import lru_cache
from typing import TYPE_CHECKING

from chalicelib import aws
from chalicelib.settings import SettingsError, settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CONTEXT = b"stowage-sealed-secrets"
NONCE_BYTES = 12


@lru_cache(maxsize=1)
def master_key() -> bytes:
    """The 32 bytes that every key of this installation is derived from; raises SettingsError."""
    chosen = settings()
    text = chosen.master_key or _stored_master_key(chosen.master_key_parameter)
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SettingsError("STOWAGE_MASTER_KEY is not base64") from error
    if len(key) != 32:
        raise SettingsError(f"STOWAGE_MASTER_KEY must be 32 bytes in base64, not {len(key)}")
    return key


def _stored_master_key(parameter: str) -> str:
    if not parameter:
        raise SettingsError("set STOWAGE_MASTER_KEY, or STOWAGE_MASTER_KEY_PARAMETER to the SSM parameter that holds it")
    answer = aws.client("ssm")._make_api_call("GetParameter", {"Name": parameter, "WithDecryption": True})
    return str(answer["Parameter"]["Value"])


def seal(secret: str, record: str) -> str:
    """`secret` sealed for `record` (for example `tenants/{tenant_id}/jwt_secret`)."""
    cipher, key_id = _cipher(master_key())
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + cipher.encrypt(nonce, secret.encode(), record.encode())
    return f"{key_id}.{base64.urlsafe_b64encode(sealed).decode()}"


def unseal(sealed: str, record: str) -> str:
    """The secret; raises SettingsError when it was sealed under another master key or for another record."""
    from cryptography.exceptions import InvalidTag

    cipher, key_id = _cipher(master_key())
    sealed_under, _, payload = sealed.partition(".")
    if sealed_under != key_id:
        raise SettingsError(f"a secret was sealed under master key {sealed_under}, and this is {key_id}")
    try:
        data = base64.urlsafe_b64decode(payload)
        return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], record.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise SettingsError(f"the secret of {record} was changed or moved") from error


@lru_cache(maxsize=2)
def _cipher(key: bytes) -> "tuple[AESGCM, str]":
    # Imported where it is needed: 100 ms of CPU that a request with an API key never pays.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=CONTEXT).derive(key)
    return AESGCM(derived), hashlib.sha256(b"key-id" + key).hexdigest()[:8]
