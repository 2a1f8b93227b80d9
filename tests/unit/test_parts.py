"""What becomes of chunks: how large a part is, that the numbers of parts suffice, and what lies where."""

import hashlib
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib import providers
from chalicelib.core import hashing, parts
from chalicelib.core.parts import MAX_CHUNKED, RESERVED_PARTS
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers.filesystem import Filesystem
from chalicelib.providers.s3 import S3
from chalicelib.tables.uploads import UploadSession

UPLOAD_ID = "01JD3ZXQ2M8V9K4T6W7Y0ABCDE"
KEY = f"objects/00000000-0000-4000-8000-000000000000-b/a~{UPLOAD_ID}"
MIB = 1 << 20


def session_of(total: int | None, **fields: Any) -> UploadSession:
    """A session that lies in no table."""
    return UploadSession(UPLOAD_ID, total=total, physical_key=KEY, content_type="text/plain", **fields)


class Limits:
    """What a storage says of its parts."""

    def __init__(self, min_part_bytes: int, max_parts: int) -> None:
        self.min_part_bytes, self.max_parts = min_part_bytes, max_parts


S3_LIMITS = Limits(S3.min_part_bytes, S3.max_parts)


@pytest.fixture
def unlimited(choose: Callable[[str, str], None]) -> None:
    """The largest uploads in chunks that there are."""
    choose("STOWAGE_MAX_UPLOAD_SIZE", str(MAX_CHUNKED))


# ---- numbers -------------------------------------------------------------------------------------------
def part_sizes(limits: Limits, total: int, told: bool, beyond: list[int], lost: set[int]) -> tuple[list[int], int]:
    """The parts that an upload of `total` bytes is stored in, and the last number that is used, without any storage.

    A part ends with the chunk that makes it large enough, and so `beyond` that by less than the chunk: nothing where a
    byte comes at a time. Before the parts in `lost` a writer dies and its number with it.
    """
    session, sizes, number = session_of(total if told else None, offset=0, tail_size=0, next_part=1), [], 0
    while session.offset < total:
        session.next_part += len(sizes) in lost
        number = session.next_part
        wanted = parts._part_bytes(session, limits)  # type: ignore[arg-type]
        size = min(total - int(session.offset), wanted + beyond[len(sizes) % len(beyond)])
        assert size > 0
        sizes.append(size)
        session.offset += size
        session.next_part = number + 1
    return sizes, number


@pytest.mark.usefixtures("unlimited")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    total=st.integers(1, MAX_CHUNKED) | st.integers(MAX_CHUNKED - 10_000, MAX_CHUNKED),
    told=st.booleans(),
    beyond=st.lists(st.integers(0, 10 * MIB) | st.just(0), min_size=1, max_size=5),
    lost=st.sets(st.integers(0, 9999), max_size=RESERVED_PARTS),
)
@example(total=MAX_CHUNKED, told=True, beyond=[0], lost=set())
@example(total=MAX_CHUNKED, told=False, beyond=[0], lost=set())
@example(total=MAX_CHUNKED, told=True, beyond=[0], lost=set(range(RESERVED_PARTS)))
@example(total=MAX_CHUNKED, told=True, beyond=[0], lost=set(range(9800, 9800 + RESERVED_PARTS)))
def test_the_numbers_of_parts_never_run_out(total: int, told: bool, beyond: list[int], lost: set[int]) -> None:
    sizes, last = part_sizes(S3_LIMITS, total, told, beyond, lost)
    assert sum(sizes) == total
    assert all(size >= S3.min_part_bytes for size in sizes[:-1])
    assert last <= S3.max_parts


@pytest.mark.usefixtures("unlimited")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, MAX_CHUNKED), st.booleans())
@example(MAX_CHUNKED, True)
@example(MAX_CHUNKED, False)
def test_as_long_as_no_writer_is_lost_s3_is_given_parts_of_the_least_size(total: int, told: bool) -> None:
    """Whatever is more than that is read and written again with each chunk, in a function of little memory."""
    sizes, _ = part_sizes(S3_LIMITS, total, told, [0], set())
    assert set(sizes[:-1]) <= {S3.min_part_bytes}


def test_a_folder_has_numbers_for_the_largest_upload_in_its_least_parts() -> None:
    assert MAX_CHUNKED // Filesystem.min_part_bytes <= Filesystem.max_parts - RESERVED_PARTS


@settings(max_examples=300, deadline=None)
@given(
    total=st.integers(1, 3000),
    beyond=st.lists(st.integers(0, 30) | st.just(0), min_size=1, max_size=6),
    lost=st.sets(st.integers(0, 200), max_size=RESERVED_PARTS),
    least=st.integers(1, 20),
    numbers=st.integers(2, 300),
)
@example(total=3000, beyond=[0], lost=set(), least=1, numbers=2)
@example(total=3000, beyond=[0], lost=set(range(RESERVED_PARTS)), least=1, numbers=2)
@example(total=300, beyond=[0], lost=set(), least=1, numbers=199)
@example(total=1, beyond=[0], lost=set(), least=20, numbers=2)
def test_the_numbers_suffice_where_there_are_few(total: int, beyond: list[int], lost: set[int], least: int, numbers: int) -> None:
    limits = Limits(least, RESERVED_PARTS + numbers)
    sizes, last = part_sizes(limits, total, True, beyond, lost)
    assert sum(sizes) == total
    assert last <= limits.max_parts


# ---- bytes ---------------------------------------------------------------------------------------------
class Small(Filesystem):
    """A folder that takes small parts, and few of them."""

    min_part_bytes = 4
    max_parts = RESERVED_PARTS + 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(str(tmp_path_factory.mktemp("parts")))


@pytest.fixture
def small(folder: Small, monkeypatch: pytest.MonkeyPatch) -> Small:
    """The internal storage."""
    monkeypatch.setattr(providers, "internal", lambda: folder)
    return folder


def store(session: UploadSession, chunk: bytes) -> dict[str, Any]:
    """One chunk; what the session becomes by it is all that a next request knows."""
    session.fence = (session.fence or 0) + 1
    changes = parts.store(session, chunk, session.offset + len(chunk) == session.total)
    session.attribute_values.update(changes)
    return changes


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40))
@example([1] * 60)
@example([3, 1, 4])
@example([4] * 12)
@example([30])
def test_chunks_of_any_size_come_to_one_object(small: Small, chunks: list[int]) -> None:
    body = bytes(number & 255 for number in range(sum(chunks)))
    session = session_of(len(body), offset=0, tail_size=0, next_part=1, recent_parts=[], part_pages=0)
    for end, size in zip(accumulate(chunks), chunks, strict=True):
        store(session, body[end - size : end])
        assert session.offset == end
        assert parts.checksum(session) == hashlib.sha256(body[:end]).hexdigest()
    if session.multipart_id is None:
        assert parts.whole(session, b"") == body
        return
    listed = small.list_parts(KEY, session.multipart_id)
    assert [(part.number, part.etag) for part in listed] == [(part.number, part.etag) for part in parts.all_of(session)]
    assert all(part.size >= small.min_part_bytes for part in listed[:-1])
    assert listed[-1].number <= small.max_parts
    assert (session.tail_key, session.tail_size) == (None, 0)
    small.complete_multipart(KEY, session.multipart_id, parts.all_of(session))
    assert small.read(KEY, 0, len(body)) == body
    small.delete([KEY])


def test_what_makes_no_part_yet_lies_under_the_fence_of_its_writer(small: Small) -> None:
    session = session_of(100, offset=0, tail_size=0, next_part=1, recent_parts=[], part_pages=0, fence=6)
    changes = store(session, b"abc")
    assert changes["tail_key"] == f"uploads/{UPLOAD_ID}/00000007"
    assert (changes["tail_size"], changes["offset"], changes["litter"]) == (3, 3, True)
    assert "multipart_id" not in changes
    assert small.read(changes["tail_key"], 0, 3) == b"abc"
    store(session, b"de")
    assert session.tail_key == f"uploads/{UPLOAD_ID}/00000008"
    assert parts.whole(session, b"f") == b"abcdef"


def test_the_last_chunk_of_an_upload_that_has_no_parts_makes_one_only_if_it_is_large_enough(small: Small) -> None:
    session = session_of(3, offset=0, tail_size=0, next_part=1, recent_parts=[], part_pages=0)
    store(session, b"ab")
    changes = store(session, b"c")
    assert "multipart_id" not in changes
    assert parts.whole(session, b"") == b"abc"


def test_a_chunk_of_nothing_in_the_middle_changes_nothing_but_the_hash(small: Small) -> None:
    session = session_of(100, offset=0, tail_size=0, next_part=1, recent_parts=[], part_pages=0)
    store(session, b"ab")
    changes = store(session, b"")
    assert changes.keys() == {"offset", "hash_state"}
    assert changes["offset"] == 2


def test_a_tail_that_is_lost_is_told_and_not_taken_for_nothing(small: Small) -> None:
    session = session_of(100, offset=0, tail_size=0, next_part=1, recent_parts=[], part_pages=0)
    store(session, b"ab")
    small.delete([session.tail_key])
    with pytest.raises(BytesMissing):
        store(session, b"c")


# ---- the hash ------------------------------------------------------------------------------------------
def test_nothing_has_the_hash_of_nothing() -> None:
    assert parts.checksum(session_of(0, offset=0)) == hashlib.sha256().hexdigest()


def test_a_hash_that_is_not_known_stays_unknown() -> None:
    session = session_of(10, offset=5, hash_state=None)
    assert parts.hashed(session, b"abc") is None
    assert parts.checksum(session) is None


def test_a_hash_is_put_down_and_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(10, offset=0, hash_state=None)
    session.hash_state, session.offset = parts.hashed(session, b"ab"), 2
    assert parts.checksum(session) == hashlib.sha256(b"ab").hexdigest()
    session.hash_state, session.offset = parts.hashed(session, b"c"), 3
    assert parts.checksum(session) == hashlib.sha256(b"abc").hexdigest()
    with monkeypatch.context() as patched:
        patched.setattr(hashing, "_library", lambda: None)
        assert parts.checksum(session) is None
        assert parts.hashed(session, b"c") is None


# ---- the storage ---------------------------------------------------------------------------------------
def test_a_storage_that_assembles_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "internal", object)
    with pytest.raises(StorageUnavailable):
        parts.multipart(UploadSession("u"))


@pytest.mark.parametrize(("chosen", "largest"), [(10, 10), (MAX_CHUNKED, MAX_CHUNKED), (MAX_CHUNKED + 1, MAX_CHUNKED)])
def test_the_largest_upload_is_the_installations_and_of_48_gib_at_most(
    choose: Callable[[str, str], None], chosen: int, largest: int
) -> None:
    choose("STOWAGE_MAX_UPLOAD_SIZE", str(chosen))
    assert parts.largest() == largest
