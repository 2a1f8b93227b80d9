"""SHA-256 that can be put down and taken up again: an upload is hashed as it comes, each chunk in another process.

`hashlib` does not give out the state of a hash. OpenSSL's SHA256_* functions keep it in a plain structure, and
they are at hand in the very library that `hashlib` itself runs on, at its speed. What is stored is not that
structure but the state of FIPS 180-4 §6.2: bytes so far (8), the eight words of the hash (32), and the bytes of the
block that is not full yet (fewer than 64), all big-endian, so any machine can go on with it.

Where no libcrypto works, or one does not pass the self-test, `begin` gives None: the object is hashed once, by a job,
when it is complete (`core/checksums.py`).
"""

import hashlib
import logging
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes

BLOCK = 64
_HEAD = struct.Struct(">Q8I")
# SHA256_CTX (openssl/sha.h): h[8], Nl, Nh (the length in bits), the block as 16 words, num (bytes in it), md_len.
_CONTEXT = struct.Struct("=8I2I64s2I")
_DIGEST_BYTES = 32


class RunningSha256:
    """One hash under way."""

    def __init__(self, library: "ctypes.CDLL", context: Any) -> None:
        self._library = library
        self._context = context

    def update(self, data: bytes) -> None:
        """Take in more bytes."""
        self._library.SHA256_Update(self._context, data, len(data))

    def state(self) -> bytes:
        """What `resume` goes on from: 40 to 103 bytes."""
        *words, low, high, block, filled, _ = _CONTEXT.unpack(self._context.raw)
        return _HEAD.pack((high << 32 | low) >> 3, *words) + bytes(block[:filled])

    def hexdigest(self) -> str:
        """The hash of what came so far; more may follow."""
        import ctypes

        digest, copy = ctypes.create_string_buffer(_DIGEST_BYTES), ctypes.create_string_buffer(self._context.raw, _CONTEXT.size)
        self._library.SHA256_Final(digest, copy)
        return digest.raw.hex()


def begin() -> RunningSha256 | None:
    """A hash of nothing yet; None where hashes cannot be put down here."""
    library = _library()
    return None if library is None else _begin(library)


def resume(state: bytes) -> RunningSha256 | None:
    """The hash that gave `state`, where hashes can be put down."""
    library = _library()
    return None if library is None else _resume(library, state)


def _begin(library: "ctypes.CDLL") -> RunningSha256:
    import ctypes

    context = ctypes.create_string_buffer(_CONTEXT.size)
    library.SHA256_Init(context)
    return RunningSha256(library, context)


def _resume(library: "ctypes.CDLL", state: bytes) -> RunningSha256:
    import ctypes

    length, *words = _HEAD.unpack(state[: _HEAD.size])
    block, bits = state[_HEAD.size :], length << 3
    context = _CONTEXT.pack(*words, bits & 0xFFFFFFFF, bits >> 32, block.ljust(BLOCK, b"\0"), len(block), _DIGEST_BYTES)
    return RunningSha256(library, ctypes.create_string_buffer(context, _CONTEXT.size))


@lru_cache(maxsize=1)
def _library() -> "ctypes.CDLL | None":
    """The libcrypto of this interpreter, if it passes."""
    import ctypes

    for source in _sources():
        try:
            library = ctypes.CDLL(source)
            library.SHA256_Update.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
            if _passes(library):
                return library
        except (OSError, AttributeError):  # not there, or without these functions
            continue
    logging.getLogger("stowage").warning("no libcrypto whose SHA-256 can be put down: uploads are hashed once they are complete")
    return None


def _sources() -> list[str | None]:
    """`_hashlib` is linked to the libcrypto in use, or holds it; None is this process; never a search of the disk."""
    import _hashlib

    return [getattr(_hashlib, "__file__", None), None, "libcrypto.so.3"]


def _passes(library: "ctypes.CDLL") -> bool:
    """Whether hashes put down at all kinds of places come out as they must."""
    data = bytes(range(256)) * 2
    for cut in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK):
        hashed = _begin(library)
        hashed.update(data[:cut])
        taken_up = _resume(library, hashed.state())
        taken_up.update(data[cut:])
        if taken_up.hexdigest() != hashlib.sha256(data).hexdigest():
            return False
    return True
