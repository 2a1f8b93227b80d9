"""Which part of a picture is shown, and how large: what holds for every source and every wish."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from chalicelib.images.geometry import Plan, Size, plan, stored_box, stored_size, upright_size
from chalicelib.images.options import CENTRE, MAX_SIDE, Options

from .pictures import ORIENTATION

ORIENTATIONS = range(1, 9)
# 50 megapixels are the most there are; these are the narrowest.
EXTREMES = [(1, 1), (1, 50_000_000), (50_000_000, 1), (7071, 7071), (1, 2), (3, 50_000)]

sides = st.integers(1, MAX_SIDE)
sources = st.sampled_from(EXTREMES) | st.tuples(st.integers(1, 7000), st.integers(1, 7000))
percents = st.integers(0, 10_000).map(lambda number: number / 100)
focals = st.tuples(percents, percents)
contains = st.builds(Options, width=st.none() | sides, height=st.none() | sides, enlarge=st.booleans())
covers = st.builds(Options, width=sides, height=sides, fit=st.just("cover"), focal=focals, enlarge=st.booleans())


def shape(of: Plan) -> tuple[float, float]:
    """Columns and rows of the source that are shown."""
    return of.box[2] - of.box[0], of.box[3] - of.box[1]


def is_rounded(size: Size, exact: tuple[float, float]) -> bool:
    """Whether one factor takes `exact` to `size` by rounding alone; a side that would round to nothing is one pixel."""
    slack = 0.5 + 1e-6
    least = max(0.0 if side == 1 else (side - slack) / whole for side, whole in zip(size, exact, strict=True))
    most = min((side + slack) / whole for side, whole in zip(size, exact, strict=True))
    return least <= most


# ---- sizes ---------------------------------------------------------------------------------------------------------
@given(sources, contains | covers)
@example((1, 50_000_000), Options(4096, 4096))
@example((50_000_000, 1), Options(4096, 1, enlarge=True))
@example((1, 1), Options(4096, 4096, "cover", enlarge=True))
def test_no_side_is_nothing_or_larger_than_asked(source: Size, options: Options) -> None:
    width, height = plan(source, options).size
    assert 1 <= width <= (options.width or max(source[0], MAX_SIDE))
    assert 1 <= height <= (options.height or max(source[1], MAX_SIDE))


@given(sources, contains | covers)
def test_nothing_grows_unless_it_may(source: Size, options: Options) -> None:
    assume(not options.enlarge)
    width, height = plan(source, options).size
    assert width <= source[0]
    assert height <= source[1]


@given(sources, contains | covers)
@example((100, 5000), Options(width=100))
def test_that_it_may_grow_makes_nothing_smaller(source: Size, options: Options) -> None:
    kept, grown = (plan(source, Options(options.width, options.height, options.fit, enlarge=enlarge)).size for enlarge in (False, True))
    assert kept[0] <= grown[0]
    assert kept[1] <= grown[1]


@given(sources, contains)
def test_containing_keeps_all_of_it_and_its_ratio(source: Size, options: Options) -> None:
    planned = plan(source, options)
    assert planned.box == (0, 0, *source)
    assert is_rounded(planned.size, source)


@given(sources, sides, sides)
def test_contained_and_enlarged_it_fills_one_side(source: Size, width: int, height: int) -> None:
    size = plan(source, Options(width, height, enlarge=True)).size
    assert size[0] == width or size[1] == height


@given(sources)
def test_without_a_size_it_stays_as_large_as_it_is(source: Size) -> None:
    assert plan(source, Options(format="webp")) == Plan((0, 0, *source), source)


@pytest.mark.parametrize(
    ("source", "options", "size"),
    [
        ((4000, 3000), Options(400), (400, 300)),
        ((4000, 3000), Options(height=30), (40, 30)),
        ((4000, 3000), Options(400, 400), (400, 300)),
        ((3000, 4000), Options(400, 400), (300, 400)),
        ((400, 300), Options(800), (400, 300)),
        ((400, 300), Options(800, enlarge=True), (800, 600)),
        ((400, 300), Options(800, 800, enlarge=True), (800, 600)),
        ((1, 50_000_000), Options(1), (1, 50_000_000)),
        ((1, 50_000_000), Options(height=100), (1, 100)),
        ((50_000_000, 1), Options(4096), (4096, 1)),
        ((1, 1), Options(4096, enlarge=True), (4096, 4096)),
        ((1, 1000), Options(10, enlarge=True), (4, 4096)),
        ((4000, 3000), Options(300, 300, "cover"), (300, 300)),
        ((4000, 3000), Options(4000, 300, "cover"), (4000, 300)),
        ((400, 300), Options(800, 400, "cover"), (400, 200)),
        ((400, 300), Options(800, 400, "cover", enlarge=True), (800, 400)),
    ],
)
def test_sizes(source: Size, options: Options, size: Size) -> None:
    assert plan(source, options).size == size


# ---- the part that covers ------------------------------------------------------------------------------------------
@given(sources, covers)
def test_a_cover_has_the_size_asked_where_there_is_enough(source: Size, options: Options) -> None:
    asked = (options.width, options.height)
    assume(options.enlarge or (source[0] >= asked[0] and source[1] >= asked[1]))
    assert plan(source, options).size == asked


@given(sources, covers)
def test_a_cover_has_the_ratio_asked_however_small_the_source(source: Size, options: Options) -> None:
    assert is_rounded(plan(source, options).size, (options.width or 0, options.height or 0))


@given(sources, covers)
@example((1, 50_000_000), Options(4096, 1, "cover", (50, 99.99)))
@example((50_000_000, 1), Options(1, 4096, "cover", (99.99, 50)))
def test_what_is_shown_lies_within_the_source(source: Size, options: Options) -> None:
    left, upper, right, lower = plan(source, options).box
    assert 0 <= left < right <= source[0]
    assert 0 <= upper < lower <= source[1]


@given(sources, covers)
def test_a_cover_shows_as_much_as_it_can_and_distorts_nothing(source: Size, options: Options) -> None:
    planned = plan(source, options)
    assert is_rounded(planned.size, shape(planned))
    assert any(part == pytest.approx(whole, rel=1e-9) for part, whole in zip(shape(planned), source, strict=True))


@given(sources, covers)
def test_a_cover_shows_the_focal_point_as_centred_as_the_edges_allow(source: Size, options: Options) -> None:
    box = plan(source, options).box
    for axis in (0, 1):
        start, end, whole = box[axis], box[axis + 2], source[axis]
        point, slack = whole * options.focal[axis] / 100, 1e-9 * whole
        assert start - slack <= point <= end + slack
        centre = (start + end) / 2
        assert centre <= point + slack or start == 0
        assert centre >= point - slack or end >= whole - slack


@given(sources, covers)
def test_the_default_focal_point_is_the_middle(source: Size, options: Options) -> None:
    left, upper, right, lower = plan(source, Options(options.width, options.height, "cover", CENTRE)).box
    assert left == pytest.approx(source[0] - right, abs=1e-9 * source[0])
    assert upper == pytest.approx(source[1] - lower, abs=1e-9 * source[1])


@given(sources, covers, focals)
def test_a_focal_point_further_right_shows_what_is_further_right(source: Size, options: Options, other: tuple[float, float]) -> None:
    boxes = [plan(source, Options(options.width, options.height, "cover", focal)).box for focal in (options.focal, other)]
    for axis in (0, 1):
        first, second = (0, 1) if options.focal[axis] <= other[axis] else (1, 0)
        assert boxes[first][axis] <= boxes[second][axis]


@pytest.mark.parametrize(
    ("focal", "box"),
    [
        ((50, 50), (1000, 0, 4000, 3000)),
        ((0, 0), (0, 0, 3000, 3000)),
        ((100, 0), (2000, 0, 5000, 3000)),
        ((40, 99), (500, 0, 3500, 3000)),
        ((29, 50), (0, 0, 3000, 3000)),
    ],
)
def test_parts(focal: tuple[float, float], box: tuple[int, int, int, int]) -> None:
    assert plan((5000, 3000), Options(300, 300, "cover", focal)).box == pytest.approx(box)


# ---- where it lies in the file -------------------------------------------------------------------------------------
def upright(image: Image.Image, orientation: int) -> Image.Image:
    image.getexif()[ORIENTATION] = orientation
    made = ImageOps.exif_transpose(image)
    assert made is not None
    return made


def numbered(width: int, height: int) -> Image.Image:
    """A picture no two pixels of which are alike."""
    image = Image.new("L", (width, height))
    image.putdata(range(width * height))
    return image


def boxes(size: Size) -> Any:
    for left, right in combinations(range(size[0] + 1), 2):
        for upper, lower in combinations(range(size[1] + 1), 2):
            yield left, upper, right, lower


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_part_lies_in_the_file_where_pillow_would_find_it(orientation: int) -> None:
    file = numbered(5, 3)
    picture = upright(file.copy(), orientation)
    assert upright_size(file.size, orientation) == picture.size
    assert stored_size(picture.size, orientation) == file.size
    for box in boxes(picture.size):
        part = file.crop(tuple(map(int, stored_box(box, file.size, orientation))))
        wanted = picture.crop(box)
        assert (upright(part, orientation).size, upright(part, orientation).tobytes()) == (wanted.size, wanted.tobytes()), box


@given(sources, covers, st.sampled_from(ORIENTATIONS))
def test_a_part_within_the_picture_lies_within_the_file(source: Size, options: Options, orientation: int) -> None:
    file = stored_size(source, orientation)
    left, upper, right, lower = stored_box(plan(source, options).box, file, orientation)
    assert 0 <= left < right <= file[0]
    assert 0 <= upper < lower <= file[1]
