"""What becomes of a chunk: full parts of the storage's multipart upload as soon as they exist, and a tail until then.

A storage takes parts of at least a few megabytes (5 MiB on S3) and a limited number of them; a request carries less,
and as little as a byte. So what does not make a part yet is kept beside it, as tusd does:

    uploads/{upload_id}/{fence}    the tail, written anew with each chunk and read with the next
    uploads/{upload_id}/whole      a large upload that is to be joined with others

A chunk of a fence goes to a part number and a key that no other writer ever uses, and counts only once the session
names it (`core/sessions.py`). A process that dies here leaves bytes that nothing names: the session's cleanup looks for them (`litter`).
"""

import base64
from typing import Any

from chalicelib.core import content, hashing, keeping, names, sessions
from chalicelib.errors import BytesMissing, StorageUnavailable, TooLarge
from chalicelib.providers import Multipart, Part
from chalicelib.settings import settings
from chalicelib.tables.uploads import UploadSession

# S3's 10,000 parts of 5 MiB make 48 GiB. Numbers that are lost with their writers come out of this reserve.
MAX_CHUNKED = 48 << 30
RESERVED_PARTS = 100
# A tail is held in memory with the chunk that follows it. An upload whose numbers were lost by thousands would want more.
MAX_PART = 64 << 20


def multipart(session: UploadSession) -> Multipart:
    """The storage of an upload, as one that assembles objects."""
    provider = keeping.holding(session)
    if not isinstance(provider, Multipart):
        raise StorageUnavailable("this storage takes no uploads in chunks; upload the object in one request")
    return provider


def largest() -> int:
    """Bytes of the largest upload in chunks."""
    return min(settings().max_upload_size, MAX_CHUNKED)


def too_large() -> TooLarge:
    """What to raise for an upload beyond that."""
    return TooLarge(
        f"an upload in chunks has at most {largest()} bytes; upload more directly (POST /storage/upload/direct)", limit=largest()
    )


def whole(session: UploadSession, chunk: bytes) -> bytes:
    """The tail and what follows it."""
    if not session.tail_key:
        return chunk
    return keeping.holding(session).read(session.tail_key, 0, int(session.tail_size)) + chunk


def store(session: UploadSession, chunk: bytes, last: bool) -> dict[str, Any]:
    """Store the next bytes of an upload; gives what of the session changes by it. `last`: the upload ends here."""
    changes = {"offset": int(session.offset) + len(chunk), "hash_state": hashed(session, chunk)}
    if not chunk and not last:
        return changes
    provider, data = multipart(session), whole(session, chunk)
    if data and (len(data) >= _part_bytes(session, provider) or (last and session.multipart_id)):
        multipart_id = session.multipart_id or provider.create_multipart(session.physical_key, session.content_type)
        part = provider.upload_part(session.physical_key, multipart_id, int(session.next_part), data)
        changes |= {"multipart_id": multipart_id, "next_part": part.number + 1, "tail_key": None, "tail_size": 0}
        return changes | {"recent_parts": [*session.recent_parts, f"{part.number}:{part.etag}"]}
    if chunk:
        key = f"{names.staging_prefix(session.upload_id)}{int(session.fence):08d}"
        keeping.holding(session).put(key, data, content.UNKNOWN)
        changes |= {"tail_key": key, "tail_size": len(data), "litter": True}  # the tail before it is named no more
    return changes


def _part_bytes(session: UploadSession, provider: Multipart) -> int:
    """From how many bytes on a part is stored: the numbers that are left must suffice for the rest.

    Raises BytesMissing when they cannot: so many were lost to failures that the upload is as good as lost with them.
    """
    end = largest() if session.total is None else int(session.total)
    left = max(1, provider.max_parts - RESERVED_PARTS - int(session.next_part))
    stored = int(session.offset) - int(session.tail_size)
    wanted = max(provider.min_part_bytes, -(-(end - stored) // left))
    if session.next_part > provider.max_parts or (session.next_part > RESERVED_PARTS and wanted > MAX_PART):
        raise BytesMissing("the numbers of an upload's parts are used up")
    return wanted


def all_of(session: UploadSession) -> list[Part]:
    """Every part that counts, in order."""
    pages = sessions.pages(session)
    if len(pages) != session.part_pages:  # the storage would make an object of the rest without a word
        raise BytesMissing("the record of an upload's parts is not whole")
    texts = [text for page in pages for text in page.parts] + session.recent_parts
    numbered = (text.partition(":") for text in texts)
    return [Part(int(number), etag) for number, _, etag in numbered]


# ---- the hash ------------------------------------------------------------------------------------------
def hashed(session: UploadSession, chunk: bytes) -> str | None:
    """The hash of all bytes up to the chunk's end, put down; None where it is not known."""
    running = _taken_up(session)
    if running is None:
        return None
    running.update(chunk)
    return base64.b64encode(running.state()).decode()


def checksum(session: UploadSession) -> str | None:
    """SHA-256 in hex of all bytes so far, if it is known."""
    running = _taken_up(session)
    return running.hexdigest() if running else None


def _taken_up(session: UploadSession) -> hashing.RunningSha256 | None:
    if session.hash_state:
        return hashing.resume(base64.b64decode(session.hash_state))
    return None if session.offset else hashing.begin()
