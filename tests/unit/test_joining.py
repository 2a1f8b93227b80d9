"""Which bytes of which upload become which part of the object that joins them."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.core import joining, parts
from chalicelib.core.joining import PART_BYTES, REWRITTEN_BYTES, Piece, Range
from chalicelib.providers.filesystem import Filesystem
from chalicelib.providers.s3 import S3

MIB = 1 << 20
MINIMUM = S3.min_part_bytes
# Around everything at which a plan could change its mind.
TURNS = [1, 2, MINIMUM, 2 * MINIMUM, REWRITTEN_BYTES, REWRITTEN_BYTES + MINIMUM, PART_BYTES, PART_BYTES + MINIMUM, 2 * PART_BYTES]
SIZES = st.sampled_from(TURNS).flatmap(lambda turn: st.integers(max(1, turn - 2), turn + 2)) | st.integers(1, 3 * PART_BYTES)
MINIMA = st.sampled_from([1, 16, Filesystem.min_part_bytes, MINIMUM, REWRITTEN_BYTES, 2 * REWRITTEN_BYTES])
many = settings(max_examples=300, deadline=None)


def length(piece: Piece) -> int:
    return sum(each.length for each in piece)


def check(sizes: Sequence[int], minimum: int) -> list[Piece]:
    """The plan, if it is one."""
    pieces = joining.plan(sizes, minimum)
    ranges = [each for piece in pieces for each in piece]
    assert all(piece for piece in pieces)
    assert all(each.length > 0 for each in ranges)
    # Each byte once, in order: every range begins where the one before it ends.
    source, offset = 0, 0
    for each in ranges:
        assert (each.source, each.offset) == (source, offset)
        offset += each.length
        assert offset <= sizes[source]
        if offset == sizes[source]:
            source, offset = source + 1, 0
    assert (source, offset) == (len(sizes), 0)
    for piece in pieces[:-1]:
        assert length(piece) >= minimum
    for piece in pieces:
        if len(piece) == 1:
            assert length(piece) <= PART_BYTES or length(piece) <= minimum
        else:
            assert length(piece) <= max(minimum, REWRITTEN_BYTES), "it is held in memory whole"
    return pieces


@many
@given(st.lists(SIZES, max_size=12), MINIMA)
@example([], MINIMUM)
@example([1], MINIMUM)
@example([1, 1], MINIMUM)
@example([1, PART_BYTES], MINIMUM)
@example([PART_BYTES, 1], MINIMUM)
@example([PART_BYTES + 1], MINIMUM)
@example([MINIMUM - 1, 2 * MINIMUM - 1, MINIMUM - 1], MINIMUM)
@example([MINIMUM - 1, 2 * MINIMUM, 1], MINIMUM)
@example([REWRITTEN_BYTES - 1, 2 * MINIMUM - 1], MINIMUM)
@example([MINIMUM - 1, MINIMUM - 1, MINIMUM + 1, MINIMUM], MINIMUM)
def test_a_plan_has_every_byte_once_in_order_in_parts_that_the_storage_takes(sizes: list[int], minimum: int) -> None:
    check(sizes, minimum)


@many
@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 40))
def test_a_plan_holds_for_storages_of_any_minimum(sizes: list[int], minimum: int) -> None:
    check(sizes, minimum)


@many
@given(st.lists(st.integers(MINIMUM, 3 * PART_BYTES), max_size=10), st.integers(1, 3 * PART_BYTES))
def test_where_sizes_allow_it_everything_is_copied(sizes: list[int], last: int) -> None:
    pieces = check([*sizes, last], MINIMUM)
    assert all(len(piece) == 1 for piece in pieces)


@many
@given(st.lists(SIZES, min_size=1, max_size=12), st.data())
def test_of_a_source_of_two_parts_no_more_than_one_is_read_and_written(sizes: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(sizes) - 1))
    sizes[place] = data.draw(st.integers(2 * MINIMUM, 3 * PART_BYTES))
    pieces = check(sizes, MINIMUM)
    copied = sum(piece[0].length for piece in pieces if len(piece) == 1 and piece[0].source == place)
    assert copied >= sizes[place] - MINIMUM


@given(st.integers(1, 20 * PART_BYTES))
def test_a_large_source_is_cut_into_ranges(size: int) -> None:
    pieces = check([size], MINIMUM)
    assert all(len(piece) == 1 for piece in pieces)
    assert len(pieces) <= -(-size // PART_BYTES) + 1


@pytest.mark.parametrize("rest", [0, 1, MINIMUM - 1, MINIMUM, MINIMUM + 1])
def test_a_range_leaves_no_rest_below_the_minimum(rest: int) -> None:
    for after in ([], [1], [MINIMUM]):
        pieces = check([PART_BYTES + rest, *after], MINIMUM)
        of_first = [piece for piece in pieces if piece[0].source == 0]
        assert all(len(piece) == 1 for piece in of_first)
        assert all(length(piece) >= MINIMUM for piece in of_first)


@pytest.mark.parametrize("size", [1, 7, 1000, MINIMUM - 1])
def test_a_thousand_small_sources_are_gathered(size: int) -> None:
    sizes = [size] * joining.MAX_SOURCES
    pieces = check(sizes, MINIMUM)
    assert len(pieces) <= sum(sizes) // MINIMUM + 1
    assert all(length(piece) == REWRITTEN_BYTES for piece in pieces[:-1]), "as few as memory allows"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 100) | st.integers(1, 2 * MINIMUM), min_size=1000, max_size=1000))
def test_a_thousand_sources_end_in_a_plan(sizes: list[int]) -> None:
    check(sizes, MINIMUM)


@pytest.mark.parametrize("provider", [S3, Filesystem])
@pytest.mark.parametrize("pattern", [[1], [MINIMUM], [1, 100 * MIB], [MINIMUM - 1, MINIMUM], [MINIMUM - 1, 2 * MINIMUM - 1]])
def test_the_numbers_of_parts_suffice_for_the_largest_join(provider: type[S3] | type[Filesystem], pattern: list[int]) -> None:
    """A thousand sources, as large as an upload in chunks may be, the rest of it in the last."""
    sizes = (pattern * joining.MAX_SOURCES)[: joining.MAX_SOURCES - 1]
    while sum(sizes) >= parts.MAX_CHUNKED:
        sizes.pop()
    pieces = check([*sizes, parts.MAX_CHUNKED - sum(sizes)], provider.min_part_bytes)
    assert len(pieces) <= provider.max_parts
    assert all(length(piece) <= provider.max_part_bytes for piece in pieces)


def test_plans_read_as_they_are_meant() -> None:
    assert joining.plan([], 4) == []
    assert joining.plan([3], 4) == [(Range(0, 0, 3),)]
    assert joining.plan([4, 4, 1], 4) == [(Range(0, 0, 4),), (Range(1, 0, 4),), (Range(2, 0, 1),)]
    assert joining.plan([1, 1, 1], 4) == [(Range(0, 0, 1), Range(1, 0, 1), Range(2, 0, 1))]
    assert joining.plan([1, 8], 4) == [(Range(0, 0, 1), Range(1, 0, 3)), (Range(1, 3, 5),)]


@many
@given(st.lists(SIZES, max_size=12), MINIMA)
def test_the_same_sources_are_always_joined_alike(sizes: list[int], minimum: int) -> None:
    """A job plans anew with each step, and counts on it."""
    assert joining.plan(sizes, minimum) == joining.plan(list(sizes), minimum)
    starts = [(piece[0].source, piece[0].offset) for piece in joining.plan(sizes, minimum)]
    assert all(earlier < later for earlier, later in pairwise(starts))
