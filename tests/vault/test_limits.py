"""Seed 000 "Internal Storage Limits", sentence by sentence (FEATURES F3.1, F3.6, F3.21 to F3.23).

    Uploads: daily=2, monthly=5, stored=15
    Downloads: daily=20, monthly=200

Every test begins at a noon of its own in the middle of a month, so that none meets a midnight by chance.
"""

import calendar
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib import seam
from chalicelib.core import keys, quotas
from chalicelib.core.quotas import Window
from chalicelib.tables.deltas import DELETED, EXPIRED, PENDING, STORED, Delta
from chalicelib.tables.keys import VaultKey
from tests.client import Answer, together
from tests.conftest import Clock, Tenant
from tests.durability.conftest import purge
from tests.vault.conftest import (
    BODY,
    DAY,
    HOUR,
    UNKNOWN,
    Begun,
    Vault,
    clean_up,
    counters,
    deliver,
    delta_row,
    key_row,
    physical_key,
    put,
    rows_of,
    told,
)

MAX_BYTES = 10_485_760
URL_ENDS = HOUR


@pytest.fixture(autouse=True)
def noon(clock: Clock, tenant: Tenant) -> None:
    """The next noon of a day between the 8th and the 20th."""
    day = seam.now().replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1)
    while not 8 <= day.day <= 20:
        day += timedelta(days=1)
    set_to(clock, day)


def set_to(clock: Clock, moment: datetime) -> None:
    clock.advance(moment.timestamp() - seam.timestamp())


def midnight_after(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def month_after(moment: datetime) -> datetime:
    days = calendar.monthrange(moment.year, moment.month)[1]
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days)


def having(tenant: Tenant, key_uuid: str, **counts: int) -> None:
    """Have a key have used so much in the present day and month."""
    day = seam.iso(seam.now())[:10]
    spans = {"uploads_day": day, "uploads_month": day[:7], "downloads_day": day, "downloads_month": day[:7]}
    key_row(tenant, key_uuid).change(VaultKey.setting(spans | counts), VaultKey.key_uuid.exists())


def require_refused(ask: Callable[[], Answer], window: str, limit: int, resets_at: datetime | None) -> None:
    """That it is 429, naming the window and when it is counted anew."""
    before = seam.timestamp()
    answer = ask()
    after = seam.timestamp()
    assert told(answer) == (429, "LimitReached"), answer.body
    details = answer.json()["details"]
    if resets_at is None:
        assert details == {"window": window, "limit": limit}
        assert "retry-after" not in answer.headers
        return
    assert details == {"window": window, "limit": limit, "resets_at": seam.iso(resets_at)}
    seconds = int(answer.headers["retry-after"])
    assert math.ceil(resets_at.timestamp() - after) <= seconds <= math.ceil(resets_at.timestamp() - before)


def require_unchanged(tenant: Tenant, ask: Callable[[], Answer], window: str) -> None:
    """That it is 429 by this window, and leaves every row as it was."""
    before = rows_of(tenant)
    answer = ask()
    assert (*told(answer), answer.json()["details"]["window"]) == (429, "LimitReached", window)
    assert rows_of(tenant) == before


# ---- "Uploads: daily=2, monthly=5, stored=15" ------------------------------------------------------------------
def test_f3_21_a_key_uploads_two_deltas_a_day(internal: Vault, tenant: Tenant) -> None:
    """ "If you do not attach your own storage, a key uses OmegaSafe internal storage instead. The following per-key limits apply to
    internal storage" """
    key_uuid, other = internal.key(), internal.key("other")
    for _ in range(2):
        internal.upload(key_uuid)
    require_refused(lambda: internal.ask(key_uuid), "uploads_daily", 2, midnight_after(seam.now()))
    require_unchanged(tenant, lambda: internal.ask(key_uuid), "uploads_daily")
    internal.upload(other)  # per key
    require_refused(lambda: internal.ask(key_uuid), "uploads_daily", 2, midnight_after(seam.now()))


def test_f3_21_what_is_begun_counts_and_what_is_deleted_counts_all_the_same(internal: Vault) -> None:
    key_uuid = internal.key()
    internal.begin(key_uuid)
    internal.delete(internal.upload(key_uuid))
    require_refused(lambda: internal.ask(key_uuid), "uploads_daily", 2, midnight_after(seam.now()))


@pytest.mark.parametrize("body", [{"size_bytes": 0}, {"size_bytes": MAX_BYTES + 1}, {"content_md5": "x"}, {"delta_uuid": UNKNOWN}])
def test_what_is_no_upload_does_not_count(internal: Vault, tenant: Tenant, body: dict[str, Any]) -> None:
    key_uuid = internal.key()
    before = rows_of(tenant)
    assert internal.ask(key_uuid, **body).status in (400, 404)
    assert rows_of(tenant) == before


def test_f3_21_a_key_uploads_five_deltas_a_month(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    for uploads in (2, 2, 1):
        for _ in range(uploads):
            internal.upload(key_uuid)
        clock.advance(DAY)
    assert counters(tenant, key_uuid)[3:] == (1, 5)
    for _ in range(3):
        require_refused(lambda: internal.ask(key_uuid), "uploads_monthly", 5, month_after(seam.now()))
        require_unchanged(tenant, lambda: internal.ask(key_uuid), "uploads_monthly")
        clock.advance(DAY)
    set_to(clock, month_after(seam.now()))
    internal.upload(key_uuid)
    assert counters(tenant, key_uuid) == (6, 6, 6 * len(BODY), 1, 1)


def test_f3_21_a_key_has_fifteen_deltas_stored_and_more_need_one_deleted(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    made: list[Begun] = []
    while len(made) < 15:
        for _ in range(min(2, 15 - len(made))):
            answer = internal.ask(key_uuid)
            if answer.status == 429:
                set_to(clock, month_after(seam.now()))
                break
            begun = answer.json()
            assert (put(begun), internal.confirm(begun).status) == (200, 200)
            made.append(begun)
        clock.advance(DAY)
    set_to(clock, month_after(seam.now()))
    require_refused(lambda: internal.ask(key_uuid), "stored", 15, None)
    require_unchanged(tenant, lambda: internal.ask(key_uuid), "stored")
    assert counters(tenant, key_uuid)[:3] == (15, 15, 15 * len(BODY))
    clock.advance(40 * DAY)  # nothing but deleting makes room
    require_refused(lambda: internal.ask(key_uuid), "stored", 15, None)
    assert internal.delete(made[7]).status == 200
    internal.upload(key_uuid)
    require_refused(lambda: internal.ask(key_uuid), "stored", 15, None)
    assert [row["delta_uuid"] for row in internal.listed(key_uuid)][:14] == [each["delta_uuid"] for each in made if each is not made[7]]


def test_what_may_still_come_has_its_place_among_the_fifteen(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, stored=14)
    internal.begin(key_uuid)
    require_refused(lambda: internal.ask(key_uuid), "stored", 15, None)


def test_the_day_is_told_before_the_month_and_both_before_what_is_stored(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, stored=15, uploads_of_day=2, uploads_of_month=5)
    for changes, window in (({}, "uploads_daily"), ({"uploads_of_day": 1}, "uploads_monthly"), ({"uploads_of_month": 4}, "stored")):
        having(tenant, key_uuid, **changes)
        require_unchanged(tenant, lambda: internal.ask(key_uuid), window)


# ---- "Downloads: daily=20, monthly=200" ------------------------------------------------------------------------
def used(tenant: Tenant, key_uuid: str) -> tuple[int, int]:
    row = key_row(tenant, key_uuid)
    return int(row.downloads_of_day), int(row.downloads_of_month)


def test_f3_21_a_key_downloads_twenty_times_a_day_and_two_hundred_a_month(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    set_to(clock, seam.now().replace(day=2))
    key_uuid, other = internal.key(), internal.key("other")
    begun, of_other = internal.upload(key_uuid), internal.upload(other)
    for day in range(1, 11):
        assert [internal.download(begun).status for _ in range(20)] == [200] * 20
        require_refused(lambda: internal.download(begun), "downloads_daily", 20, midnight_after(seam.now()))
        require_unchanged(tenant, lambda: internal.download(begun), "downloads_daily")
        assert used(tenant, key_uuid) == (20, 20 * day)
        clock.advance(DAY)
    require_refused(lambda: internal.download(begun), "downloads_monthly", 200, month_after(seam.now()))
    require_unchanged(tenant, lambda: internal.download(begun), "downloads_monthly")
    assert internal.download(of_other).status == 200  # per key
    set_to(clock, month_after(seam.now()))
    assert internal.bytes_of(begun) == BODY
    assert used(tenant, key_uuid) == (1, 1)


def test_downloads_of_all_deltas_of_a_key_count_together(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    one, two = internal.upload(key_uuid), internal.upload(key_uuid)
    having(tenant, key_uuid, downloads_of_day=18, downloads_of_month=18)
    assert [internal.download(each).status for each in (one, two, one)] == [200, 200, 429]


def test_a_download_that_gives_no_url_does_not_count(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    begun, pending = internal.upload(key_uuid), internal.begin(key_uuid)
    internal.owner.delete([internal.at(begun)])
    before = rows_of(tenant)
    assert told(internal.download(begun)) == (404, "DeltaMissing")
    internal.overwrite(begun, BODY + b"!")
    assert told(internal.download(begun)) == (422, "IntegrityFailed")
    assert told(internal.download(pending)) == (409, "NotUploaded")
    assert rows_of(tenant) == before


def test_uploads_and_downloads_have_windows_of_their_own(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    having(tenant, key_uuid, uploads_of_day=2, uploads_of_month=5)
    assert internal.download(begun).status == 200
    having(tenant, key_uuid, uploads_of_day=0, uploads_of_month=0, downloads_of_day=20, downloads_of_month=200)
    internal.begin(key_uuid)
    require_unchanged(tenant, lambda: internal.download(begun), "downloads_daily")


def test_listing_confirming_claiming_and_deleting_are_not_limited(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    having(tenant, key_uuid, uploads_of_day=2, uploads_of_month=5, downloads_of_day=20, downloads_of_month=200)
    assert (len(internal.listed(key_uuid)), internal.confirm(begun).status) == (1, 200)
    claim = {"delta_uuid": begun["delta_uuid"], "start": 0, "length": 1}
    assert internal.client("POST", "/deltas/claim", claim).status == 201
    assert internal.client("GET", f"/keys/check-layout?key_uuid={key_uuid}").status == 200
    assert internal.delete(begun).status == 200


# ---- F3.21: days and months of the UTC calendar ----------------------------------------------------------------
def next_leap_year() -> int:
    return next(year for year in range(seam.now().year + 1, seam.now().year + 10) if calendar.isleap(year))


def next_other_year() -> int:
    return next(year for year in range(seam.now().year + 1, seam.now().year + 10) if not calendar.isleap(year))


LAST_DAYS: list[tuple[str, Callable[[], int], int, int, bool]] = [
    ("28 February of a leap year", next_leap_year, 2, 28, False),
    ("29 February", next_leap_year, 2, 29, True),
    ("28 February of another year", next_other_year, 2, 28, True),
    ("31 December", next_other_year, 12, 31, True),
    ("30 April", next_other_year, 4, 30, True),
    ("30 January", next_leap_year, 1, 30, False),
    ("31 January", next_leap_year, 1, 31, True),
]


@pytest.mark.parametrize(("year", "month", "day", "is_last"), [each[1:] for each in LAST_DAYS], ids=[each[0] for each in LAST_DAYS])
def test_f3_21_f3_22_counts_begin_anew_with_the_utc_day_and_month(
    internal: Vault, tenant: Tenant, clock: Clock, year: Callable[[], int], month: int, day: int, is_last: bool
) -> None:
    midnight = datetime(year(), month, day, tzinfo=UTC) + timedelta(days=1)
    set_to(clock, midnight - timedelta(hours=1))
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    internal.begin(key_uuid)
    having(tenant, key_uuid, downloads_of_day=20, downloads_of_month=199)
    for seconds_left in (HOUR - 60, 60, 30):
        set_to(clock, midnight - timedelta(seconds=seconds_left))
        require_refused(lambda: internal.ask(key_uuid), "uploads_daily", 2, midnight)
        require_refused(lambda: internal.download(begun), "downloads_daily", 20, midnight)
    set_to(clock, midnight)
    internal.begin(key_uuid)
    assert internal.download(begun).status == 200
    assert counters(tenant, key_uuid)[3:] == (1, 1 if is_last else 3)
    assert used(tenant, key_uuid) == (1, 1 if is_last else 200)
    if not is_last:
        require_refused(lambda: internal.download(begun), "downloads_monthly", 200, month_after(midnight))


def test_f3_21_a_month_that_is_used_up_ends_with_the_year(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    year = seam.now().year
    set_to(clock, datetime(year, 12, 31, 23, 59, 30, tzinfo=UTC))
    key_uuid = internal.key()
    having(tenant, key_uuid, uploads_of_day=1, uploads_of_month=5)
    require_refused(lambda: internal.ask(key_uuid), "uploads_monthly", 5, datetime(year + 1, 1, 1, tzinfo=UTC))
    set_to(clock, datetime(year + 1, 1, 1, tzinfo=UTC))
    internal.begin(key_uuid)
    assert counters(tenant, key_uuid)[3:] == (1, 1)


def test_the_same_day_of_another_month_and_the_same_month_of_another_year_are_others(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, uploads_of_day=2, uploads_of_month=5)
    now = seam.now()
    set_to(clock, month_after(now).replace(day=now.day, hour=12))
    internal.begin(key_uuid)
    having(tenant, key_uuid, uploads_of_day=2, uploads_of_month=5)
    now = seam.now()
    set_to(clock, now.replace(year=now.year + 1))
    internal.begin(key_uuid)
    assert counters(tenant, key_uuid)[3:] == (1, 1)


def test_a_clock_that_is_behind_begins_no_day_anew(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    """Functions' clocks differ: what was counted in a day by one is not counted in the day before by another."""
    set_to(clock, midnight_after(seam.now()))
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    internal.begin(key_uuid)
    having(tenant, key_uuid, downloads_of_day=20, downloads_of_month=20)
    clock.advance(-600)
    require_unchanged(tenant, lambda: internal.ask(key_uuid), "uploads_daily")
    require_unchanged(tenant, lambda: internal.download(begun), "downloads_daily")
    clock.advance(600)
    require_unchanged(tenant, lambda: internal.ask(key_uuid), "uploads_daily")


@given(
    moment=st.datetimes(datetime(2027, 1, 1), datetime(2045, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  hypothesis adds the zone
)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_f3_22_whenever_one_asks_the_next_day_and_month_are_told(internal: Vault, clock: Clock, moment: datetime) -> None:
    moment = moment.replace(second=min(moment.second, 30))
    set_to(clock, moment)
    shown = internal.client("GET", "/keys/storage-limits").json()["limits"]
    day, month = seam.iso(midnight_after(moment)), seam.iso(month_after(moment))
    for what in ("uploads", "downloads"):
        assert (shown[what]["daily"]["resets_at"], shown[what]["monthly"]["resets_at"]) == (day, month)


# ---- GET /keys/storage-limits ----------------------------------------------------------------------------------
def limit(number: int, used_: int | None, resets_at: datetime | None) -> dict[str, Any]:
    return {"limit": number, "used": used_, "resets_at": None if resets_at is None else seam.iso(resets_at)}


def test_the_limits_are_told_without_a_key(internal: Vault) -> None:
    day, month = midnight_after(seam.now()), month_after(seam.now())
    answer = internal.client("GET", "/keys/storage-limits")
    assert (answer.status, answer.json()) == (
        200,
        {
            "key_uuid": None,
            "max_delta_bytes": MAX_BYTES,
            "limits": {
                "uploads": {"daily": limit(2, None, day), "monthly": limit(5, None, month), "stored": limit(15, None, None)},
                "downloads": {"daily": limit(20, None, day), "monthly": limit(200, None, month)},
            },
        },
    )


def test_f3_22_the_limits_of_a_key_tell_what_it_has_used_and_when_that_is_counted_anew(internal: Vault, clock: Clock) -> None:
    key_uuid = internal.key()
    day, month = midnight_after(seam.now()), month_after(seam.now())
    fresh = {
        "uploads": {"daily": limit(2, 0, day), "monthly": limit(5, 0, month), "stored": limit(15, 0, None)},
        "downloads": {"daily": limit(20, 0, day), "monthly": limit(200, 0, month)},
    }
    assert internal.limits(key_uuid) == fresh
    begun = internal.upload(key_uuid)
    internal.begin(key_uuid)
    for _ in range(3):
        internal.download(begun)
    told_ = {
        "uploads": {"daily": limit(2, 2, day), "monthly": limit(5, 2, month), "stored": limit(15, 2, None)},
        "downloads": {"daily": limit(20, 3, day), "monthly": limit(200, 3, month)},
    }
    assert internal.limits(key_uuid) == told_
    assert internal.ask(key_uuid).status == 429
    assert internal.limits(key_uuid) == told_
    set_to(clock, day)
    told_["uploads"] |= {"daily": limit(2, 0, day + timedelta(days=1))}
    told_["downloads"] |= {"daily": limit(20, 0, day + timedelta(days=1))}
    assert internal.limits(key_uuid) == told_
    internal.delete(begun)
    assert internal.limits(key_uuid)["uploads"]["stored"] == limit(15, 1, None)
    set_to(clock, month)
    shown = internal.limits(key_uuid)
    assert [shown[what]["monthly"]["used"] for what in ("uploads", "downloads")] == [0, 0]


# ---- "Keys using BYOS are not subject to them." ----------------------------------------------------------------
def test_f3_21_a_key_on_a_storage_of_ones_own_has_no_such_limits(byos: Vault, tenant: Tenant) -> None:
    """ "Using your own bucket removes OmegaSafe's aggregate per-key upload-count and download-count limits" """
    key_uuid = byos.key()
    begun = byos.upload(key_uuid)
    assert [byos.ask(key_uuid).status for _ in range(20)] == [201] * 20
    assert [byos.download(begun).status for _ in range(25)] == [200] * 25
    assert counters(tenant, key_uuid) == (21, 1, len(BODY), 0, 0)
    assert used(tenant, key_uuid) == (0, 0)
    answer = byos.client("GET", f"/keys/storage-limits?key_uuid={key_uuid}")
    assert (answer.status, answer.json()) == (200, {"key_uuid": key_uuid, "max_delta_bytes": MAX_BYTES, "limits": None})


def test_f3_21_a_key_that_has_used_its_limits_up_has_none_once_it_is_pointed_to_a_storage_of_ones_own(
    internal: Vault, own: Vault, tenant: Tenant
) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    having(tenant, key_uuid, stored=15, uploads_of_day=2, uploads_of_month=5, downloads_of_day=20, downloads_of_month=200)
    require_unchanged(tenant, lambda: internal.ask(key_uuid), "uploads_daily")
    own.owner._call("PutObject", Key=own.at(begun), Body=BODY)  # by hand, as the seed has it
    assert internal.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": own.storage_uuid}).status == 200
    assert own.bytes_of(begun) == BODY
    assert own.bytes_of(own.upload(key_uuid)) == BODY


# ---- "The separate 10 MiB per-Delta upload limit and write-once presigned PUT safeguards apply to internal storage and BYOS." ----
def test_f3_1_a_delta_has_one_byte_to_ten_mib_everywhere(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    before = rows_of(tenant)
    for size in (0, -1, MAX_BYTES + 1, 1 << 40):
        refused = vault.ask(key_uuid, size_bytes=size)
        assert told(refused) == (400, "InvalidRequest")
        assert "size_bytes" in refused.json()["message"]
    assert rows_of(tenant) == before
    for body in (b"x", bytes(MAX_BYTES)):
        begun = vault.upload(key_uuid, body)
        assert vault.bytes_of(begun) == body
    assert vault.shown(key_uuid)["size_bytes"] == 1 + MAX_BYTES


def test_f3_6_what_was_put_once_is_not_put_again_everywhere(vault: Vault) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert [put(begun), put(begun)] == [200, 412]
    assert vault.confirm(begun).status == 200
    assert put(begun) == 412
    assert put(begun, BODY, **{"If-None-Match": None}) == 403
    assert vault.bytes_of(begun) == BODY


# ---- however many ask at once ----------------------------------------------------------------------------------
def statuses(answers: list[Answer]) -> dict[int, int]:
    found = [answer.status for answer in answers]
    return {status: found.count(status) for status in sorted(set(found))}


def test_f3_21_of_fifty_uploads_at_once_two_are_permitted(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    answers = together([lambda: internal.ask(key_uuid)] * 50)
    assert statuses(answers) == {201: 2, 429: 48}
    assert {answer.json()["details"]["window"] for answer in answers if answer.status == 429} == {"uploads_daily"}
    assert counters(tenant, key_uuid) == (2, 0, 0, 2, 2)
    assert {row["delta_uuid"] for row in internal.listed(key_uuid)} == {a.json()["delta_uuid"] for a in answers if a.status == 201}


def test_f3_21_of_fifty_uploads_at_once_as_many_are_permitted_as_the_month_has_left(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, uploads_of_month=4)
    answers = together([lambda: internal.ask(key_uuid)] * 50)
    assert statuses(answers) == {201: 1, 429: 49}
    assert counters(tenant, key_uuid) == (1, 0, 0, 1, 5)


def test_f3_21_of_fifty_uploads_at_once_as_many_are_permitted_as_there_are_places(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, stored=14)
    answers = together([lambda: internal.ask(key_uuid)] * 50)
    assert statuses(answers) == {201: 1, 429: 49}
    assert {answer.json()["details"]["window"] for answer in answers if answer.status == 429} == {"stored"}
    assert counters(tenant, key_uuid) == (15, 0, 0, 1, 1)


@pytest.mark.parametrize(("of_day", "of_month", "left"), [(17, 17, 3), (0, 195, 5), (20, 20, 0)])
def test_f3_21_of_fifty_downloads_at_once_as_many_are_permitted_as_are_left(
    internal: Vault, tenant: Tenant, of_day: int, of_month: int, left: int
) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    having(tenant, key_uuid, downloads_of_day=of_day, downloads_of_month=of_month)
    answers = together([lambda: internal.download(begun)] * 50)
    assert statuses(answers) == {status: number for status, number in ((200, left), (429, 50 - left)) if number}
    assert used(tenant, key_uuid) == (of_day + left, of_month + left)


def test_f3_11_however_many_confirm_at_once_it_is_counted_once(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    put(begun)
    told_of: list[Callable[[], Answer]] = [lambda: vault.confirm(begun)] * 12
    answers = together(told_of)
    assert statuses(answers) == {200: 12}
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))


def test_however_many_delete_a_delta_at_once_it_is_given_back_once(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    begun, _ = internal.upload(key_uuid), internal.upload(key_uuid)
    found = statuses(together([lambda: internal.delete(begun)] * 8))
    assert found.keys() <= {200, 404}
    assert found[200] >= 1
    assert counters(tenant, key_uuid)[:3] == (1, 1, len(BODY))


# ---- attempts that are abandoned -------------------------------------------------------------------------------
def test_an_abandoned_attempt_keeps_its_place_while_its_url_works(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, stored=14)
    internal.begin(key_uuid)
    clock.advance(URL_ENDS - 60)
    clean_up()
    require_unchanged(tenant, lambda: internal.ask(key_uuid), "stored")
    assert counters(tenant, key_uuid) == (15, 0, 0, 1, 1)


def test_an_abandoned_attempt_gives_its_place_back_to_the_next_that_needs_it_and_not_the_days_count(
    internal: Vault, tenant: Tenant, clock: Clock
) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, stored=14)
    abandoned = internal.begin(key_uuid)
    clock.advance(URL_ENDS + 1)
    new = internal.begin(key_uuid)
    assert counters(tenant, key_uuid) == (15, 0, 0, 2, 2)
    assert [row["delta_uuid"] for row in internal.listed(key_uuid)] == [new["delta_uuid"]]
    assert delta_row(abandoned).status == EXPIRED  # type: ignore[union-attr]
    require_unchanged(tenant, lambda: internal.ask(key_uuid), "uploads_daily")


def test_an_abandoned_attempt_gives_its_place_back_to_the_cleanup_and_not_the_days_count(
    internal: Vault, tenant: Tenant, clock: Clock
) -> None:
    key_uuid = internal.key()
    internal.begin(key_uuid)
    internal.begin(key_uuid)
    clock.advance(URL_ENDS + 1)
    for _ in range(3):
        clean_up()
        assert counters(tenant, key_uuid) == (0, 0, 0, 2, 2)
    assert internal.limits(key_uuid)["uploads"]["stored"]["used"] == 0
    require_unchanged(tenant, lambda: internal.ask(key_uuid), "uploads_daily")


def test_an_upload_that_was_refused_has_given_back_no_more_than_was_abandoned(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, stored=13)
    for _ in range(2):
        internal.begin(key_uuid)
    clock.advance(DAY)
    assert [internal.ask(key_uuid).status for _ in range(3)] == [201, 201, 429]
    assert counters(tenant, key_uuid) == (15, 0, 0, 2, 4)


@pytest.mark.parametrize("by", ["the cleanup", "the next upload"])
def test_what_has_arrived_and_was_never_confirmed_is_stored_and_keeps_its_place(
    internal: Vault, tenant: Tenant, clock: Clock, by: str
) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    put(begun)
    clock.advance(URL_ENDS + 1)
    if by == "the cleanup":
        clean_up()
        assert counters(tenant, key_uuid) == (1, 1, len(BODY), 1, 1)
    else:
        having(tenant, key_uuid, stored=15)
        require_refused(lambda: internal.ask(key_uuid), "stored", 15, None)
        assert counters(tenant, key_uuid) == (15, 1, len(BODY), 1, 1)
    assert internal.bytes_of(begun) == BODY
    assert internal.confirm(begun).status == 200
    assert counters(tenant, key_uuid)[1] == 1


# ---- F3.23: what comes late ------------------------------------------------------------------------------------
def put_late(vault: Vault, begun: Begun, body: bytes = BODY) -> None:
    """What a PUT would have stored whose signature was checked just before its URL ended."""
    asked = begun["headers"]
    names = ("expected-size-bytes", "expected-content-md5", "upload-attempt")
    metadata = {name: asked[f"x-amz-meta-{name}"] for name in names}
    vault.owner._call("PutObject", Key=vault.at(begun), Body=body, Metadata=metadata)


def confirm_it(vault: Vault, begun: Begun) -> None:
    assert vault.confirm(begun).status == 200


def tell_of_it(vault: Vault, begun: Begun) -> None:
    deliver(physical_key(begun))


@pytest.mark.parametrize("take", [confirm_it, tell_of_it])
def test_f3_23_what_comes_after_its_place_was_given_back_is_taken_and_counted_once(
    internal: Vault, tenant: Tenant, clock: Clock, take: Callable[[Vault, Begun], None]
) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    clock.advance(URL_ENDS + 1)
    clean_up()
    assert told(internal.confirm(begun)) == (409, "NotUploaded")
    assert counters(tenant, key_uuid) == (0, 0, 0, 1, 1)
    put_late(internal, begun)
    for _ in range(3):
        take(internal, begun)
        assert counters(tenant, key_uuid) == (1, 1, len(BODY), 1, 1)
    clean_up()
    clock.advance(DAY)
    clean_up()
    assert counters(tenant, key_uuid) == (1, 1, len(BODY), 1, 1)
    assert internal.bytes_of(begun) == BODY


def test_f3_23_what_comes_late_to_a_storage_of_ones_own_is_taken_as_well(byos: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = byos.key()
    begun = byos.begin(key_uuid)
    clock.advance(URL_ENDS + 1)
    clean_up()
    put_late(byos, begun)
    for _ in range(2):
        confirm_it(byos, begun)
        assert counters(tenant, key_uuid) == (1, 1, len(BODY), 0, 0)
    assert byos.bytes_of(begun) == BODY


@pytest.mark.parametrize("told_by", ["confirm", "event"])
def test_f3_23_what_comes_late_and_has_no_place_any_more_changes_nothing_until_there_is_one(
    internal: Vault, tenant: Tenant, clock: Clock, told_by: str
) -> None:
    key_uuid = internal.key()
    begun, other = internal.begin(key_uuid), internal.upload(key_uuid)
    clock.advance(URL_ENDS + 1)
    clean_up()
    having(tenant, key_uuid, stored=15)
    put_late(internal, begun)
    before = rows_of(tenant)
    if told_by == "confirm":
        require_refused(lambda: internal.confirm(begun), "stored", 15, None)
    else:
        tell_of_it(internal, begun)
    assert rows_of(tenant) == before
    assert internal.holds(begun)
    internal.delete(other)
    confirm_it(internal, begun)
    assert counters(tenant, key_uuid)[:3] == (15, 1, len(BODY))


def test_f3_23_what_comes_late_may_have_the_place_of_what_was_abandoned_meanwhile(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    late = internal.begin(key_uuid)
    clock.advance(URL_ENDS + 1)
    clean_up()
    having(tenant, key_uuid, stored=14)
    abandoned = internal.begin(key_uuid)
    put_late(internal, late)
    require_refused(lambda: internal.confirm(late), "stored", 15, None)
    clock.advance(URL_ENDS + 1)
    confirm_it(internal, late)
    assert counters(tenant, key_uuid)[:3] == (15, 1, len(BODY))
    assert delta_row(abandoned).status == EXPIRED  # type: ignore[union-attr]


def test_f3_23_after_a_week_what_never_came_is_forgotten(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    clock.advance(URL_ENDS + 1)
    clean_up()
    clock.advance(6 * DAY)
    clean_up()
    assert told(internal.confirm(begun)) == (409, "NotUploaded")
    clock.advance(2 * DAY)
    put_late(internal, begun)
    clean_up()
    assert told(internal.confirm(begun)) == (404, "DeltaNotFound")
    assert not internal.holds(begun)
    assert counters(tenant, key_uuid)[:3] == (0, 0, 0)


# ---- trying again ----------------------------------------------------------------------------------------------
def test_another_attempt_counts_in_the_day_again_and_has_one_place(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    first = internal.begin(key_uuid)
    second = internal.begin(key_uuid, delta_uuid=first["delta_uuid"].upper())
    assert second["delta_uuid"] == first["delta_uuid"]
    assert second["upload_attempt_uuid"] != first["upload_attempt_uuid"]
    assert counters(tenant, key_uuid) == (1, 0, 0, 2, 2)
    require_unchanged(tenant, lambda: internal.ask(key_uuid, delta_uuid=first["delta_uuid"]), "uploads_daily")
    put(second)
    assert told(internal.confirm(first)) == (409, "AttemptMismatch")
    confirm_it(internal, second)
    assert counters(tenant, key_uuid) == (1, 1, len(BODY), 2, 2)


def test_another_attempt_needs_no_place_of_its_own(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    having(tenant, key_uuid, stored=14)
    first = internal.begin(key_uuid)
    again = internal.begin(key_uuid, b"another body", delta_uuid=first["delta_uuid"])
    assert put(again, b"another body") == 200
    confirm_it(internal, again)
    assert counters(tenant, key_uuid) == (15, 1, len(b"another body"), 2, 2)


def test_another_attempt_at_what_was_given_up_takes_its_place_again(internal: Vault, tenant: Tenant, clock: Clock) -> None:
    key_uuid = internal.key()
    first = internal.begin(key_uuid)
    clock.advance(URL_ENDS + 1)
    clean_up()
    having(tenant, key_uuid, stored=15)
    require_unchanged(tenant, lambda: internal.ask(key_uuid, delta_uuid=first["delta_uuid"]), "stored")
    having(tenant, key_uuid, stored=0)
    again = internal.begin(key_uuid, delta_uuid=first["delta_uuid"])
    assert counters(tenant, key_uuid) == (1, 0, 0, 2, 2)
    put(again)
    confirm_it(internal, again)
    assert counters(tenant, key_uuid) == (1, 1, len(BODY), 2, 2)


def test_what_is_stored_takes_no_other_attempt(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    begun = internal.upload(key_uuid)
    before = rows_of(tenant)
    assert told(internal.ask(key_uuid, delta_uuid=begun["delta_uuid"])) == (409, "UploadSettled")
    assert rows_of(tenant) == before


def test_a_delta_of_another_key_takes_no_attempt(internal: Vault, tenant: Tenant) -> None:
    one, two = internal.key(), internal.key()
    begun = internal.begin(one)
    before = rows_of(tenant)
    assert told(internal.ask(two, delta_uuid=begun["delta_uuid"])) == (404, "DeltaNotFound")
    assert rows_of(tenant) == before


# ---- nothing is exceeded, nothing leaks ------------------------------------------------------------------------
ROOM = 2
SHORT, LONG = 2000, 4000  # seconds; a URL lives 3600, and no sum of these is near that


class Known:
    """What a client knows of one delta, and what has to be true of it."""

    def __init__(self, begun: Begun, ends: float) -> None:
        self.begun, self.ends = begun, ends
        self.status = PENDING
        self.attempts = [begun]
        self.lies_there: tuple[str, bool] | None = None  # the attempt that has put it, and whether it is whole
        self.stored_by: str | None = None
        self.size = 0

    def settle(self, attempt: str) -> None:
        self.status, self.stored_by = STORED, attempt
        self.size = next(each["size"] for each in self.attempts if each["upload_attempt_uuid"] == attempt)


class Play:
    """Everything that can happen to one key on internal storage, and what has to come of it."""

    def __init__(self, vault: Vault, tenant: Tenant, clock: Clock) -> None:
        self.vault, self.tenant, self.clock = vault, tenant, clock
        self.key_uuid = vault.key()
        self.deltas: list[Known] = []
        self.begun = 0

    # ---- what must hold ------------------------------------------------------------------------------
    def taken(self) -> int:
        return sum(each.status in (PENDING, STORED) for each in self.deltas)

    def check(self) -> None:
        rows = {row.delta_uuid: row for row in keys.rows_of(self.key_uuid)}
        stored = [row for row in rows.values() if row.status == STORED]
        pending = [row for row in rows.values() if row.status == PENDING]
        key = key_row(self.tenant, self.key_uuid)
        assert key.stored == len(stored) + len(pending) <= ROOM
        assert (key.deltas, key.size_bytes) == (len(stored), sum(row.size_bytes for row in stored))
        assert key.uploads_of_month == self.begun
        for each in self.deltas:
            row = rows.get(each.begun["delta_uuid"])
            assert (DELETED if row is None else row.status) == each.status
            if row is not None and each.status == STORED:
                assert (row.attempt, row.size_bytes) == (each.stored_by, each.size)
        assert len(rows) <= len(self.deltas)
        lying = [each.begun for each in self.deltas if each.lies_there]
        assert sorted(self.vault.lies_there(self.key_uuid)) == sorted(map(self.vault.at, lying))

    # ---- what may happen -----------------------------------------------------------------------------
    def begin(self, number: int) -> None:
        body = bytes(1 + number % 7)
        self._begun(self.vault.ask(self.key_uuid, body), None, len(body))

    def retry(self, number: int) -> None:
        known = self._one(number)
        if known is None:
            return
        body = bytes(1 + number % 7)
        answer = self.vault.ask(self.key_uuid, body, delta_uuid=known.begun["delta_uuid"])
        if known.status == DELETED:
            assert told(answer) == (404, "DeltaNotFound")
        elif known.status == STORED:
            assert told(answer) == (409, "UploadSettled")
        else:
            self._begun(answer, known, len(body))

    def _begun(self, answer: Answer, known: Known | None, size: int) -> None:
        needs_room = known is None or known.status == EXPIRED
        if needs_room and self.taken() >= ROOM:
            self._settle_abandoned()
        if needs_room and self.taken() >= ROOM:
            assert (told(answer), answer.json()["details"]["window"]) == ((429, "LimitReached"), "stored")
            return
        assert answer.status == 201, answer.body
        begun, ends = answer.json() | {"size": size}, seam.timestamp() + URL_ENDS
        self.begun += 1
        if known is None:
            self.deltas.append(Known(begun, ends))
        else:
            known.attempts = [*known.attempts, begun][-10:]
            known.status, known.ends = PENDING, ends

    def put(self, number: int) -> None:
        """The newest or an older attempt's bytes, in time or late; but to what was deleted no later than a PUT can take."""
        known = self._one(number)
        if known is None or (known.status == DELETED and known.ends + HOUR <= seam.timestamp()):
            return
        begun = known.attempts[-1 - number // 4 % len(known.attempts)]
        status = put(begun, bytes(begun["size"]))
        assert status == (412 if known.lies_there else 200)
        if status == 200:
            known.lies_there = (begun["upload_attempt_uuid"], True)

    def spoil(self, number: int) -> None:
        """Somebody with the bucket's own credentials writes other bytes, as if an attempt had."""
        known = self._one(number)
        if known is None or known.status in (STORED, DELETED):
            return
        begun = known.attempts[-1]
        put_late(self.vault, begun, b"#" * 9)
        known.lies_there = (begun["upload_attempt_uuid"], False)

    def confirm(self, number: int) -> None:
        known = self._one(number)
        if known is None:
            return
        attempt = known.attempts[-1 - number // 4 % len(known.attempts)]["upload_attempt_uuid"]
        answer = self.vault.confirm(known.begun, upload_attempt_uuid=attempt)
        assert (answer.status, "" if answer.status == 200 else answer.code) == self._confirmed(known, attempt)

    def _confirmed(self, known: Known, attempt: str) -> tuple[int, str]:
        """What confirming has to come to, and to be told."""
        if known.status == DELETED:
            return 404, "DeltaNotFound"
        if known.status == STORED:
            return (200, "") if known.stored_by == attempt else (409, "AttemptMismatch")
        if known.lies_there is None:
            return 409, "NotUploaded"
        put_by, is_whole = known.lies_there
        if put_by != attempt:
            return 409, "AttemptMismatch"
        if not is_whole:
            known.lies_there = None
            return 422, "IntegrityFailed"
        if known.status == EXPIRED and self.taken() >= ROOM:
            self._settle_abandoned()
            if self.taken() >= ROOM:
                return 429, "LimitReached"
        known.settle(attempt)
        return 200, ""

    def tell(self, number: int) -> None:
        """The bucket's own event of an object, perhaps one that is gone by now."""
        known = self._one(number)
        if known is None:
            return
        deliver(physical_key(known.begun))
        if known.lies_there and known.status in (PENDING, EXPIRED):
            self._confirmed(known, known.lies_there[0])

    def delete(self, number: int) -> None:
        known = self._one(number)
        if known is None:
            return
        assert self.vault.delete(known.begun).status == (404 if known.status == DELETED else 200)
        if known.status != DELETED:
            known.status, known.lies_there = DELETED, None

    def wait(self, number: int) -> None:
        self.clock.advance(LONG if number % 3 else SHORT)

    def clean(self, _: int) -> None:
        clean_up()
        self._settle_abandoned()
        for known in self.deltas:
            if known.status == DELETED and known.ends + HOUR <= seam.timestamp():
                known.lies_there = None  # what came back by a URL of a deleted delta

    def _settle_abandoned(self) -> None:
        for known in self.deltas:
            if known.status == PENDING and known.ends <= seam.timestamp():
                known.status = EXPIRED
                if known.lies_there and known.lies_there[0] in {each["upload_attempt_uuid"] for each in known.attempts}:
                    attempt, is_whole = known.lies_there
                    if is_whole:
                        known.settle(attempt)
                    else:
                        known.lies_there = None

    def _one(self, number: int) -> Known | None:
        """One of the latest few: what came of older ones is settled for the most part."""
        return self.deltas[-1 - number % min(4, len(self.deltas))] if self.deltas else None


WEIGHTS = {"begin": 6, "put": 6, "confirm": 7, "tell": 2, "delete": 2, "retry": 2, "wait": 3, "clean": 3, "spoil": 1}
GIVEN_UP = [("begin", 0), ("wait", 1), ("clean", 0)]
ACTS = st.tuples(st.sampled_from([name for name, weight in WEIGHTS.items() for _ in range(weight)]), st.integers(0, 15))


@given(acts=st.lists(ACTS, min_size=30, max_size=40))
@hypothesis_settings(
    max_examples=32,
    deadline=None,
    phases=[Phase.generate],  # a run takes too long to look for a shorter one
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_happens_in_whatever_order_no_place_is_exceeded_or_leaks(
    internal: Vault, tenant: Tenant, clock: Clock, acts: list[tuple[str, int]]
) -> None:
    moved = clock.moved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotas, "UPLOADS", (Window("uploads", "day", 1000), Window("uploads", "month", 1000)))
        patch.setattr(quotas, "MAX_STORED", ROOM)
        play = Play(internal, tenant, clock)
        for act, number in [*GIVEN_UP, *acts]:
            note(f"{act} {number}: {[(each.status, each.lies_there) for each in play.deltas]}")
            getattr(play, act)(number)
            play.check()
        for known in play.deltas:
            play.vault.delete(known.begun)
        key = key_row(tenant, play.key_uuid)
        assert (key.stored, key.deltas, key.size_bytes) == (0, 0, 0)
    purge(Delta)  # so that no cleanup of another run sees to them
    clock.moved = moved
