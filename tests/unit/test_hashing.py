"""SHA-256 that is put down and taken up: against hashlib, FIPS 180-4, and a machine on which it cannot be done."""

import ctypes
import hashlib
import logging
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.core import checksums, hashing
from chalicelib.core.hashing import RunningSha256
from chalicelib.tables.jobs import Job
from chalicelib.tables.table import scan
from tests.client import Answer, Client
from tests.conftest import Tenant, run_job

# FIPS 180-4 and csrc.nist.gov "SHA256.pdf"; the last is FIPS 180-2 appendix B.3.
VECTORS = {
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}
LARGEST = 2**61 - 1  # bytes whose bits SHA-256 can count


def begun() -> RunningSha256:
    running = hashing.begin()
    assert running is not None, "this interpreter's libcrypto puts hashes down"
    return running


def put_down_and_taken_up(running: RunningSha256) -> RunningSha256:
    taken_up = hashing.resume(running.state())
    assert taken_up is not None
    return taken_up


# ---- the hash ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("message", VECTORS, ids=lambda message: f"{len(message)} bytes")
@pytest.mark.parametrize("piece", [1_000_000, 4096, 63, 64, 65, 7])
def test_it_is_sha256(message: bytes, piece: int) -> None:
    running = begun()
    for start in range(0, len(message), piece):
        running.update(message[start : start + piece])
    assert running.hexdigest() == VECTORS[message]


@settings(deadline=None)
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_a_hash_put_down_anywhere_goes_on_as_if_it_had_not_been(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    running = begun()
    for start, end in pairwise(places):
        running.update(data[start:end])
        running = put_down_and_taken_up(running)
        assert running.hexdigest() == hashlib.sha256(data[:end]).hexdigest()


@pytest.mark.parametrize("length", [0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 191, 192, 193])
@pytest.mark.parametrize("rest", [0, 1, 8, 63, 64, 65])
def test_every_place_around_a_block_is_a_place_to_put_it_down(length: int, rest: int) -> None:
    data = bytes(number * 7 & 255 for number in range(length + rest))
    running = begun()
    running.update(data[:length])
    running = put_down_and_taken_up(running)
    running.update(data[length:])
    assert running.hexdigest() == hashlib.sha256(data).hexdigest()


def test_reading_a_hash_or_putting_it_down_changes_nothing() -> None:
    running = begun()
    running.update(b"a" * 100)
    for _ in range(3):
        assert running.hexdigest() == hashlib.sha256(b"a" * 100).hexdigest()
        assert running.state() == running.state()
    running.update(b"b")
    assert running.hexdigest() == hashlib.sha256(b"a" * 100 + b"b").hexdigest()


def test_a_state_can_be_taken_up_many_times() -> None:
    running = begun()
    running.update(b"common ")
    state = running.state()
    for end in (b"one", b"two"):
        branch = hashing.resume(state)
        assert branch is not None
        branch.update(end)
        assert branch.hexdigest() == hashlib.sha256(b"common " + end).hexdigest()
    assert running.hexdigest() == hashlib.sha256(b"common ").hexdigest()


@given(st.integers(0, 1000))
def test_a_state_is_of_40_to_103_bytes(length: int) -> None:
    running = begun()
    running.update(bytes(length))
    assert len(running.state()) == 40 + length % 64


@given(st.binary(max_size=300))
def test_a_state_is_that_of_fips_180_4(data: bytes) -> None:
    """Any machine can go on with it: here, one that knows nothing but the standard."""
    running = begun()
    running.update(data)
    state = running.state()
    length, *words = struct.unpack(">Q8I", state[:40])
    assert length == len(data)
    assert state[40:] == data[len(data) - len(data) % 64 :]
    assert finished(words, length, state[40:]) == hashlib.sha256(data).hexdigest()


# ---- lengths -------------------------------------------------------------------------------------------
def test_more_than_512_mebibytes_are_counted() -> None:
    """There the number of bits no longer fits into 32."""
    piece, pieces, running, whole = bytes(range(256)) * (32 << 10), 65, begun(), hashlib.sha256()
    for _ in range(pieces):
        running.update(piece)
        whole.update(piece)
        running = put_down_and_taken_up(running)
    assert len(piece) * pieces > 512 << 20
    assert int.from_bytes(running.state()[:8]) == len(piece) * pieces
    assert running.hexdigest() == whole.hexdigest()


def _primes() -> Iterator[int]:
    number = 2
    while True:
        if all(number % smaller for smaller in range(2, number)):
            yield number
        number += 1


def _root(number: int, degree: int) -> int:
    """The whole part of a root."""
    low, high = 0, 1 << number.bit_length()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= number else (low, middle)
    return low


def _constants() -> tuple[list[int], list[int]]:
    """FIPS 180-4 §4.2.2 and §5.3.3: the first 32 bits behind the point of the roots of the first primes."""
    primes = [prime for prime, _ in zip(_primes(), range(64), strict=False)]
    return [_root(prime << 96, 3) & 0xFFFFFFFF for prime in primes], [_root(prime << 64, 2) & 0xFFFFFFFF for prime in primes[:8]]


ROUNDS, INITIAL = _constants()


def _turned(word: int, by: int) -> int:
    return (word >> by | word << (32 - by)) & 0xFFFFFFFF


def _next(words: list[int], block: bytes) -> list[int]:
    """FIPS 180-4 §6.2.2."""
    schedule = list(struct.unpack(">16I", block))
    for place in range(16, 64):
        early, late = schedule[place - 15], schedule[place - 2]
        small = _turned(early, 7) ^ _turned(early, 18) ^ early >> 3
        large = _turned(late, 17) ^ _turned(late, 19) ^ late >> 10
        schedule.append((large + schedule[place - 7] + small + schedule[place - 16]) & 0xFFFFFFFF)
    a, b, c, d, e, f, g, h = words
    for constant, word in zip(ROUNDS, schedule, strict=True):
        first = h + (_turned(e, 6) ^ _turned(e, 11) ^ _turned(e, 25)) + (e & f ^ ~e & g) + constant + word
        second = (_turned(a, 2) ^ _turned(a, 13) ^ _turned(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (first + second) & 0xFFFFFFFF, a, b, c, (d + first) & 0xFFFFFFFF, e, f, g
    return [(word + more) & 0xFFFFFFFF for word, more in zip(words, (a, b, c, d, e, f, g, h), strict=True)]


def finished(words: list[int], length: int, rest: bytes) -> str:
    """What the standard makes of a state after `length` bytes, of which `rest` fill no block."""
    padded = rest + b"\x80" + bytes(-(len(rest) + 9) % 64) + struct.pack(">Q", length * 8)
    for start in range(0, len(padded), 64):
        words = _next(words, padded[start : start + 64])
    return struct.pack(">8I", *words).hex()


def test_the_standard_is_written_down_rightly() -> None:
    assert finished(INITIAL, 3, b"abc") == VECTORS[b"abc"]


@given(
    length=st.integers(0, LARGEST)
    | st.sampled_from([2**29 - 1, 2**29, 2**29 + 1, 2**32 - 1, 2**32, 2**32 + 63, 5 * 10**12, 2**56, LARGEST - 200]),
    words=st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8),
    more=st.binary(max_size=130),
)
def test_any_length_is_counted(length: int, words: list[int], more: bytes) -> None:
    """States as they are after more bytes than a test can hash."""
    length = min(length, LARGEST - len(more))
    rest = bytes(length % 64)
    running = hashing.resume(struct.pack(">Q8I", length, *words) + rest)
    assert running is not None
    assert running.hexdigest() == finished(words, length, rest)
    running.update(more)
    state = running.state()
    reached, *after = struct.unpack(">Q8I", state[:40])
    assert reached == length + len(more)
    assert running.hexdigest() == put_down_and_taken_up(running).hexdigest() == finished(after, reached, state[40:])
    unhashed, expected = rest + more, words
    while len(unhashed) >= 64:
        expected, unhashed = _next(expected, unhashed[:64]), unhashed[64:]
    assert (after, state[40:]) == (expected, unhashed)


# ---- where it cannot be done ---------------------------------------------------------------------------
@pytest.fixture
def forgets_library() -> Iterator[None]:
    """The library is looked for again, in the test and after it."""
    hashing._library.cache_clear()
    yield
    hashing._library.cache_clear()


def _no_source(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hashing, "_sources", list)


def _no_such_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hashing, "_sources", lambda: ["/no/such/libcrypto.so", "/dev/null"])


def _no_such_function(patch: pytest.MonkeyPatch) -> None:
    import _struct

    patch.setattr(hashing, "_sources", lambda: [_struct.__file__])


class Misnamed:
    """A library whose SHA256_Init begins another hash."""

    def __init__(self, real: Any) -> None:
        self.SHA256_Init, self.SHA256_Update, self.SHA256_Final = real.SHA224_Init, real.SHA256_Update, real.SHA256_Final


class Forgetful:
    """A library that loses what is not a whole block."""

    def __init__(self, real: Any) -> None:
        def update(context: Any, data: bytes, length: int) -> int:
            return int(real.SHA256_Update(context, data, length - length % 64))

        self.SHA256_Init, self.SHA256_Update, self.SHA256_Final = real.SHA256_Init, update, real.SHA256_Final


def _failing(kind: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    def patched(patch: pytest.MonkeyPatch) -> None:
        real = ctypes.CDLL
        patch.setattr(ctypes, "CDLL", lambda source: kind(real(source)))

    return patched


LACKING = {
    "no library": _no_source,
    "no such file": _no_such_file,
    "no such function": _no_such_function,
    "another hash": _failing(Misnamed),
    "lost bytes": _failing(Forgetful),
}


@pytest.fixture(params=LACKING)
def lacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, forgets_library: None) -> None:
    """A machine on which no hash can be put down."""
    LACKING[request.param](monkeypatch)


@pytest.mark.usefixtures("lacking")
def test_where_no_library_passes_no_hash_is_begun_or_taken_up(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "stowage"):
        assert hashing.begin() is None
        assert hashing.resume(bytes(40)) is None
        assert hashing.begin() is None
    assert len([record for record in caplog.records if "libcrypto" in record.getMessage()]) == 1, "told once a process"


def test_a_library_that_fails_is_passed_over_for_one_that_works(monkeypatch: pytest.MonkeyPatch, forgets_library: None) -> None:
    import _struct

    working = hashing._sources()
    monkeypatch.setattr(hashing, "_sources", lambda: ["/no/such/libcrypto.so", _struct.__file__, *working])
    running = begun()
    running.update(b"abc")
    assert running.hexdigest() == VECTORS[b"abc"]


# ---- uploads on such a machine -------------------------------------------------------------------------
BODY = b"hello, resumable world"


def _append(client: Client, path: str, offset: int, chunk: bytes) -> Answer:
    return client("PATCH", path, chunk, {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"})


def _jobs_of(tenant: Tenant) -> list[Job]:
    rows = (Job.from_raw_data(item) for page in scan(Job) for item in page)
    return [row for row in rows if row.tenant_id == tenant.tenant_id and row.kind == checksums.JOB]


def _uploaded(client: Client, between: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """An object uploaded in three chunks, with something `between` each two."""
    client.bucket("b")
    upload_id = client("POST", "/storage/upload/resumable", {"bucket": "b", "path": "a", "size": len(BODY)}).json()["upload_id"]
    path = f"/storage/upload/{upload_id}"
    for start, end in ((0, 5), (5, 11), (11, len(BODY))):
        if start:
            between()
        assert _append(client, path, start, BODY[start:end]).status == 200
    answer = client("POST", f"{path}/complete")
    assert answer.status == 200, answer.body
    stored: dict[str, Any] = answer.json()
    return stored


def _info(client: Client) -> dict[str, Any]:
    row: dict[str, Any] = client("GET", "/storage/object-info/b/a").json()
    return row


def test_an_upload_in_chunks_is_hashed_as_it_comes(service: Client, tenant: Tenant) -> None:
    assert _uploaded(service)["checksum"] == hashlib.sha256(BODY).hexdigest()
    assert _jobs_of(tenant) == []


def test_where_hashes_cannot_be_put_down_an_upload_completes_and_a_job_hashes_it(
    service: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, forgets_library: None
) -> None:
    _no_source(monkeypatch)
    stored = _uploaded(service)
    assert (stored["checksum"], stored["checksum_state"]) == (None, "pending")
    assert service.get("b", "a").body == BODY
    [job] = _jobs_of(tenant)
    run_job(job.job_id)
    assert (_info(service)["checksum"], _info(service)["checksum_state"]) == (hashlib.sha256(BODY).hexdigest(), "known")


def test_a_hash_that_was_lost_on_the_way_is_not_taken_up_as_another(
    service: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, forgets_library: None
) -> None:
    """The second chunk comes to a machine without a library, the third to one that has it."""
    working = hashing._sources()
    sources = iter([[], working])

    def next_machine() -> None:
        chosen = next(sources)
        monkeypatch.setattr(hashing, "_sources", lambda: chosen)
        hashing._library.cache_clear()

    assert _uploaded(service, next_machine)["checksum_state"] == "pending"
    [job] = _jobs_of(tenant)
    run_job(job.job_id)
    assert _info(service)["checksum"] == hashlib.sha256(BODY).hexdigest()


def test_an_object_too_large_to_be_hashed_in_one_step_is_told(
    service: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, forgets_library: None
) -> None:
    _no_source(monkeypatch)
    monkeypatch.setattr(checksums, "MAX_AT_ONCE", len(BODY) - 1)
    _uploaded(service)
    [job] = _jobs_of(tenant)
    run_job(job.job_id)
    answer = service("GET", f"/jobs/{job.job_id}").json()
    assert answer["status"] == "failed"
    assert "hash" in answer["error"]
    assert _info(service)["checksum_state"] == "pending"
