"""What may be asked of an image, and that each transform has one name."""

import json
import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import InvalidRequest
from chalicelib.images.options import CENTRE, FORMATS, SMALLEST, SOURCE, Options, is_automatic, parse

# Of every kind; numbers whose digits could run into each other.
SIDES = (None, "1", "11", "4096")
FOCALS = (None, "0,0", "1,1", "1.1,1", "11,1", "1,11", "0.01,100", "50,50", "99.99,50")
hundredths = st.integers(0, 10_000).map(lambda number: str(number / 100))
queries = st.fixed_dictionaries(
    {},
    optional={
        "width": st.integers(1, 4096).map(str),
        "height": st.integers(1, 4096).map(str),
        "fit": st.sampled_from(["contain", "cover"]),
        "focal": st.tuples(hundredths, hundredths).map(",".join),
        "enlarge": st.sampled_from(["true", "false", "1", "0"]),
        "format": st.sampled_from([*FORMATS, "auto"]),
        "quality": st.integers(1, 100).map(str),
    },
)


def asked(accept: str = "", **query: str) -> Options:
    options = parse(query, accept)
    assert options is not None
    return options


# ---- each option ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("width", "1", 1),
        ("width", "4096", 4096),
        ("width", "0100", 100),
        ("height", "1", 1),
        ("height", "4096", 4096),
        ("quality", "1", 1),
        ("quality", "100", 100),
        *[("format", form, form) for form in ("webp", "jpeg", "png", "avif")],
        ("format", "auto", SOURCE),
    ],
)
def test_an_option_holds_what_was_asked(name: str, text: str, value: Any) -> None:
    assert getattr(asked(**{name: text}), name) == value


@pytest.mark.parametrize("name", ["width", "height", "quality"])
@pytest.mark.parametrize(
    "text",
    [
        "0",
        "4097",
        "101000",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.5",
        "1e3",
        "0x10",
        "1_0",
        "abc",
        "",
        "٣",
        "²",
        "１",
        "NaN",
        str(10**30),
        pytest.param("9" * 5000, id="digits"),
    ],
)
def test_what_is_no_number_in_range_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} is a whole number from 1 to"):
        asked(**{name: text})


def test_quality_ends_at_100() -> None:
    with pytest.raises(InvalidRequest):
        asked(quality="101")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fit", "fill"),
        ("fit", "Cover"),
        ("fit", ""),
        ("format", "gif"),
        ("format", "jpg"),
        ("format", "WebP"),
        ("format", "source"),
        ("format", "image/png"),
        ("format", ""),
        ("enlarge", "yes"),
        ("enlarge", "True"),
        ("enlarge", "2"),
        ("enlarge", ""),
    ],
)
def test_a_word_that_is_no_choice_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} is one of: "):
        asked(width="10", **{name: text})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0,0", (0, 0)),
        ("100,100", (100, 100)),
        ("50.5,0.25", (50.5, 0.25)),
        ("00.10,.5", (0.1, 0.5)),
        ("33.3333,66.6666", (33.33, 66.67)),
    ],
)
def test_a_focal_point_is_in_percent_to_a_hundredth(text: str, value: tuple[float, float]) -> None:
    assert asked(width="10", height="10", fit="cover", focal=text).focal == value


@pytest.mark.parametrize(
    "text",
    [
        "101,0", "0,100.01", "-1,0", "-0,0", "+1,2", "1", "1,", ",1", ",", ".,.", "", "1,2,3", "nan,1", "inf,1", "1e1,2", " 1,2", "1, 2",
        "1;2", "1_0,2", "1..2,3", "٣,1", "0x1,2", pytest.param("9" * 400 + ",1", id="digits"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fit", ["cover", "contain"])
def test_what_is_no_focal_point_is_refused_wherever_it_stands(text: str, fit: str) -> None:
    with pytest.raises(InvalidRequest, match="focal is 'x,y'"):
        asked(width="10", height="10", fit=fit, focal=text)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_enlarging_is_asked_for_in_two_spellings(text: str, value: bool) -> None:
    assert asked(width="10", enlarge=text).enlarge is value


@pytest.mark.parametrize("query", [{}, {"token": "x"}, {"Width": "10", "w": "10"}])
def test_where_no_option_is_given_there_is_no_transform(query: dict[str, str]) -> None:
    assert parse(query, "image/webp") is None


def test_a_refused_option_is_refused_among_good_ones() -> None:
    with pytest.raises(InvalidRequest, match="quality"):
        asked(width="10", format="png", quality="0")


# ---- one form for all spellings ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"width": "9", "height": "8", "format": "webp"}, {"format": "webp", "height": "8", "width": "9"}),
        ({"width": "9", "fit": "cover"}, {"width": "9"}),
        ({"height": "9", "fit": "cover", "focal": "1,2"}, {"height": "9", "fit": "contain"}),
        ({"width": "9", "height": "9", "focal": "1,2"}, {"width": "9", "height": "9"}),
        ({"width": "9", "height": "9", "fit": "contain"}, {"width": "9", "height": "9"}),
        ({"width": "9", "height": "9", "fit": "cover", "focal": "50,50.00"}, {"width": "9", "height": "9", "fit": "cover"}),
        (
            {"width": "9", "height": "9", "fit": "cover", "focal": "1.1,2"},
            {"focal": "1.10,02", "fit": "cover", "width": "9", "height": "9"},
        ),
        ({"width": "9", "format": "png", "quality": "10"}, {"width": "9", "format": "png"}),
        ({"width": "9", "quality": "80"}, {"width": "9"}),
        ({"width": "9", "enlarge": "false"}, {"width": "9"}),
        ({"width": "9", "enlarge": "1"}, {"width": "9", "enlarge": "true"}),
        ({"format": "webp", "enlarge": "true"}, {"format": "webp"}),
        ({"width": "009"}, {"width": "9"}),
    ],
)
def test_two_spellings_of_one_transform_are_equal(one: dict[str, str], other: dict[str, str]) -> None:
    assert asked(**one) == asked(**other)
    assert str(asked(**one)) == str(asked(**other))


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", "10"), ("height", "9"), ("fit", "contain"), ("focal", "1,2"), ("enlarge", "true"), ("format", "webp"), ("quality", "81")],
)
def test_whatever_changes_the_picture_changes_the_options(name: str, value: str) -> None:
    query = {"width": "9", "height": "8", "fit": "cover"}
    assert asked(**query | {name: value}) != asked(**query)


def test_distinct_options_have_distinct_names() -> None:
    names = ("fit", "width", "height", "focal", "enlarge", "format", "quality")
    every = product(("contain", "cover"), SIDES, SIDES, FOCALS, (None, "1"), (None, *FORMATS), (None, "1", "11"))
    made = {asked(**{name: text for name, text in zip(names, each, strict=True) if text}) for each in every}
    assert len({str(options) for options in made}) == len(made) > 1000


@given(queries.filter(bool), queries.filter(bool))
def test_names_are_equal_where_options_are(one: dict[str, str], other: dict[str, str]) -> None:
    assert (str(asked(**one)) == str(asked(**other))) == (asked(**one) == asked(**other))


@given(queries.filter(bool))
def test_a_name_is_safe_in_a_key(query: dict[str, str]) -> None:
    assert re.fullmatch("[a-z0-9.-]{1,100}", str(asked(**query)))


@given(queries.filter(bool))
def test_options_go_through_json_and_come_back(query: dict[str, str]) -> None:
    options = asked(**query)
    returned = Options.from_dict(json.loads(json.dumps(options.to_dict())))
    assert returned == options
    assert (hash(returned), str(returned)) == (hash(options), str(options))


def test_what_is_not_asked_for_has_its_default() -> None:
    assert asked(enlarge="0") == Options(None, None, "contain", CENTRE, False, SOURCE, 80)


# ---- the format by the Accept header -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("image/avif,image/webp,image/apng,*/*;q=0.8", SMALLEST),
        ("image/webp,image/avif", SMALLEST),
        ("image/webp,*/*", "webp"),
        ("text/html, image/webp ; q=0.5", "webp"),
        ("", SOURCE),
        ("*/*", SOURCE),
        ("image/*,*/*;q=0.8", SOURCE),
        ("image/jpeg", SOURCE),
        ("IMAGE/AVIF", "avif"),
        ("Image/WebP;Q=0.1", "webp"),
        ("image/avif;q=0", SOURCE),
        ("image/avif;q=0,image/webp", "webp"),
        ("image/avif; q=0.0, image/webp", "webp"),
        ("image/avif;Q=0.000,image/webp;q=0", SOURCE),
        ("image/avif;q=0.001", "avif"),
        ("image/avif;v=1;q=0", SOURCE),
        ("image/avif;v=1", "avif"),
        ("image/avifs,image/webpx", SOURCE),
        ("image/avif image/webp", SOURCE),
        (";;,=,,;q=0,q=1", SOURCE),
        ("\0\xff☃;q=☃", SOURCE),
        pytest.param("," * 8000, SOURCE, id="commas"),
    ],
)
def test_the_smallest_format_that_is_accepted_by_name(accept: str, form: str) -> None:
    assert asked(accept, format="auto").format == form


def test_the_accept_header_says_something_only_where_it_is_asked() -> None:
    assert asked("image/avif", format="webp").format == "webp"
    assert asked("image/avif", width="10").format == SOURCE
    assert is_automatic({"format": "auto"})
    assert not is_automatic({"format": "avif", "width": "10"})
