"""Time, randomness and ids."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import seam

MOMENTS = st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1970)


@given(MOMENTS)
def test_a_moment_is_read_back(moment: datetime) -> None:
    assert seam.moment(seam.iso(moment)) == moment


@given(MOMENTS, MOMENTS)
def test_text_order_is_time_order(first: datetime, second: datetime) -> None:
    assert (seam.iso(first) < seam.iso(second)) == (first < second)
    assert len(seam.iso(first)) == 27


def test_times_are_in_utc() -> None:
    east = datetime(2026, 11, 20, 10, 34, 5, 123456, timezone(timedelta(hours=5)))
    assert seam.iso(east) == "2026-11-20T05:34:05.123456Z"
    assert seam.at(0) == datetime(1970, 1, 1, tzinfo=UTC)


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
def test_versions_sort_by_their_time(first: int, second: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = []
        for milliseconds in (first, second):
            patch.setattr(seam, "timestamp", lambda now=milliseconds: (now + 0.5) / 1000)
            made.append(seam.new_version())
    for version in made:
        assert re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", version)
    if first != second:
        assert (made[0] < made[1]) == (first < second)


def test_a_version_is_the_ulid_of_its_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of github.com/ulid/spec: 1469918176385 ms is 01ARYZ6S41."""
    monkeypatch.setattr(seam, "timestamp", lambda: 1469918176.3855)
    monkeypatch.setattr("os.urandom", lambda size: bytes([0] * (size - 1) + [33]))
    assert seam.new_version() == "01ARYZ6S41" + "0" * 14 + "11"


def test_versions_of_one_moment_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam, "timestamp", lambda: 1.0)
    assert len({seam.new_version() for _ in range(1000)}) == 1000


@given(st.integers(0, 2**48 - 1))
def test_a_version_tells_when_it_was_made(milliseconds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seam, "timestamp", lambda: (milliseconds + 0.5) / 1000)
        assert seam.version_time(seam.new_version()) == milliseconds / 1000


@given(MOMENTS, MOMENTS)
def test_an_hour_holds_what_lies_in_it_and_sorts_by_time(first: datetime, second: datetime) -> None:
    hours = [seam.hour(moment.timestamp()) for moment in (first, second)]
    begins = [moment.replace(minute=0, second=0, microsecond=0) for moment in (first, second)]
    assert [seam.moment(f"{hour}:00:00.000000Z") for hour in hours] == begins
    assert (hours[0] < hours[1]) == (begins[0] < begins[1])


def test_tokens_have_the_entropy_that_is_asked_for() -> None:
    assert len(seam.new_token()) == 43
    assert len({seam.new_token(4) for _ in range(100)}) > 90


@given(st.floats(0, 1000))
def test_jitter_stays_below_its_ceiling(ceiling: float) -> None:
    assert 0 <= seam.jitter(ceiling) <= ceiling


def test_now_follows_the_clock(clock: object) -> None:
    before = seam.now()
    clock.advance(86400)  # type: ignore[attr-defined]
    assert timedelta(days=1) <= seam.now() - before < timedelta(days=1, minutes=1)
