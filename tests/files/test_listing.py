"""Lists of files, newest first, against a model: a filtered, sliced list in plain Python (seed 003 "Endpoints", FEATURES F8.11)."""

import base64
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib import seam
from chalicelib.core import newest
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import write_all
from tests.api.test_objects import encoded
from tests.client import Client
from tests.conftest import Tenant
from tests.durability.conftest import Stream
from tests.files.conftest import (
    ROOT,
    UNKNOWN,
    Choose,
    allow,
    delete,
    examples,
    folder,
    is_permitted,
    keys,
    listed,
    patch,
    put,
    refused,
    stored,
    uid_of,
)

META = {"total", "limit", "offset", "nextCursor"}
BEGINNING = datetime(2026, 11, 20, tzinfo=UTC)


# ---- filling and asking --------------------------------------------------------------------------------
@dataclass(frozen=True)
class File:
    """A file to be listed. `owner` None: the service key's; `folder_id` None: in none."""

    key: str
    owner: str | None = None
    folder_id: str | None = None


def fill(tenant: Tenant, files: Iterable[File], metadata: str | None = None, seconds_apart: int = 1) -> None:
    """Rows without bytes, each newer than the one before: a list looks at nothing else."""
    bucket = Bucket.read(tenant.tenant_id, FILES)
    assert bucket is not None
    rows = []
    for second, file in enumerate(files):
        made = seam.iso(BEGINNING + timedelta(seconds=second * seconds_apart))
        row = StoredObject(
            bucket.partition,
            file.key,
            id=seam.new_uuid(),
            version=seam.new_version(),
            revision=1,
            bucket=FILES,
            physical_key=f"objects/none/{second}",
            size=second,
            content_type="text/plain",
            checksum="00" * 32,
            user_metadata=metadata,
            created_at=made,
            updated_at=made,
            tokens_not_before=made,
        )
        rows.append(row.owned_by(uid_of(tenant, file.owner) if file.owner else None).filed("private", file.folder_id))
    write_all([(StoredObject, {"PutRequest": {"Item": row.serialize()}}) for row in rows])


def query_of(**wanted: Any) -> str:
    return urlencode({name: value for name, value in wanted.items() if value is not None})


def page(client: Client, **wanted: Any) -> tuple[list[str], str | None]:
    """Keys of a page, and the cursor of the next."""
    got = listed(client, query_of(**wanted))
    return [each["key"] for each in got["data"]], got["meta"]["nextCursor"]


def pages(client: Client, **wanted: Any) -> list[list[str]]:
    """All pages, by cursor."""
    shown, cursor = page(client, **wanted)
    found = [shown]
    wanted.pop("offset", None)
    while cursor:
        assert len(found) < 1000, "the pages do not end"
        shown, cursor = page(client, cursor=cursor, **wanted)
        found.append(shown)
    return found


def joined(found: list[list[str]]) -> list[str]:
    return [key for shown in found for key in shown]


# Who asks, by the policy that lets Bob read more than his own, and what of the files they then see.
VIEWERS: dict[str, tuple[str | None, Callable[[File], bool]]] = {
    "service": (None, lambda file: True),
    "owner": (None, lambda file: file.owner == "bob"),
    "everything by policy": ("true", lambda file: True),
    "a part by policy": ("starts_with(name, 'shared/')", lambda file: file.owner == "bob" or file.key.startswith("shared/")),
}


def viewer(tenant: Tenant, who: str) -> Client:
    definition, _ = VIEWERS[who]
    if definition:
        allow(tenant.service, "SELECT", definition)
    return tenant.service if who == "service" else tenant.user(sub="bob")


def model(files: Sequence[File], who: str, prefix: str = "", folderId: str | None = None, search: str = "") -> list[str]:  # noqa: N803
    """What a list shows in all, of files from the oldest to the newest."""
    _, sees = VIEWERS[who]
    return [
        file.key
        for file in reversed(files)
        if sees(file)
        and file.key.startswith(prefix)
        and folderId in (None, file.folder_id or ROOT)
        and search.strip().casefold() in file.key.casefold()
    ]


by_all = pytest.mark.parametrize("who", VIEWERS)
# Names that begin alike are put into order by name up to so many, and beyond that looked for in the order of all.
both_ways = pytest.mark.parametrize("most_sorted", [500, 2])


# ---- what a page is ------------------------------------------------------------------------------------
def test_a_page_shows_files_and_what_is_known_of_the_list(tenant: Tenant, ada: Client) -> None:
    """F8.11"""
    first, second = stored(ada, "a", x_metadata=encoded({"k": 1})), stored(ada, "docs/b", query="?acl=public")
    got = listed(ada)
    assert got.keys() == {"data", "meta"}
    assert got["data"] == [second, first]
    assert got["meta"] == {"total": None, "limit": 50, "offset": 0, "nextCursor": None}
    assert listed(tenant.service)["data"] == [second, first]


@by_all
def test_a_drive_without_files_has_an_empty_page(tenant: Tenant, who: str) -> None:
    """F8.11"""
    got = listed(viewer(tenant, who), "offset=5&limit=7")
    assert (got["data"], got["meta"]) == ([], {"total": 0 if who == "service" else None, "limit": 7, "offset": 5, "nextCursor": None})
    assert listed(tenant.service, "prefix=a&search=b")["data"] == []


def test_the_order_is_that_of_making_whatever_becomes_of_files_later(ada: Client, service: Client) -> None:
    """F8.11"""
    for key in ("b", "a", "d/x", "c"):
        stored(ada, key)
    for client in (ada, service):
        assert keys(client) == ["c", "d/x", "a", "b"]
    assert put(ada, "b", b"overwritten").status == 200
    assert put(service, "a", b"overwritten").status == 200
    assert patch(ada, "d/x", acl="public", folderId=None, metadata={"k": 1}).status == 200
    for client in (ada, service):
        assert keys(client) == ["c", "d/x", "a", "b"]
    delete(ada, "a")
    stored(ada, "a")
    for client in (ada, service):
        assert keys(client) == ["a", "c", "d/x", "b"]


def test_a_page_has_fifty_files_unless_asked_otherwise(tenant: Tenant) -> None:
    """F8.11"""
    fill(tenant, [File(f"{number:02}") for number in range(51)])
    shown, cursor = page(tenant.service)
    assert shown == [f"{number:02}" for number in range(50, 0, -1)]
    assert page(tenant.service, cursor=cursor) == (["00"], None)


@pytest.mark.parametrize("limit", [1, 50, 199, 200])
@by_all
def test_a_page_has_up_to_two_hundred_files(tenant: Tenant, who: str, limit: int) -> None:
    """F8.11"""
    fill(tenant, [File(f"{number:03}", "bob") for number in range(200)])
    got = listed(viewer(tenant, who), f"limit={limit}")
    assert [each["key"] for each in got["data"]] == [f"{number:03}" for number in range(199, 199 - limit, -1)]
    assert got["meta"]["limit"] == limit
    assert (got["meta"]["nextCursor"] is None) == (limit == 200)


@pytest.mark.parametrize("value", ["0", "201", "-1", "abc", "", "1.5", "1e2", "٣", "9" * 30, " 5", "+5", "NaN"])
def test_a_limit_out_of_bounds_is_refused(ada: Client, value: str) -> None:
    """F8.11"""
    refused(ada("GET", f"/api/storage?{query_of(limit=value)}"), 422, "VALIDATION")


@pytest.mark.parametrize("value", ["-1", "10001", "abc", "", "1.5", "9" * 30])
def test_an_offset_out_of_bounds_is_refused(ada: Client, value: str) -> None:
    """F8.11"""
    refused(ada("GET", f"/api/storage?{query_of(offset=value)}"), 422, "VALIDATION")


def test_a_deeper_offset_is_told_of_cursors(ada: Client) -> None:
    """F8.11"""
    assert "cursor" in refused(ada("GET", "/api/storage?offset=10001"), 422, "VALIDATION")["message"]
    assert keys(ada, "offset=10000") == []


@pytest.mark.parametrize("query", ["limit=1&limit=2", "prefix=a&prefix=b", "search=%ff"])
def test_a_query_that_contradicts_itself_or_is_no_text_is_refused(ada: Client, query: str) -> None:
    """F8.11"""
    refused(ada("GET", f"/api/storage?{query}"), 422, "VALIDATION")


# ---- from page to page ---------------------------------------------------------------------------------
def drive(folder_id: str | None = None) -> list[File]:
    """Files of several owners, in and outside of folders, from the oldest to the newest."""
    owners = ("ada", "bob", None)
    return [
        File(f"{'shared/' if number % 4 == 0 else 'docs/' if number % 4 == 1 else ''}File-{number:02}", owners[number % 3], place)
        for number in range(24)
        for place in [folder_id if number % 2 else None]
    ]


@by_all
@pytest.mark.parametrize("limit", [1, 2, 5, 24])
def test_pages_by_cursor_hold_each_file_once(tenant: Tenant, who: str, limit: int) -> None:
    """F8.11"""
    fill(tenant, drive())
    found, expected = pages(viewer(tenant, who), limit=limit), model(drive(), who)
    assert joined(found) == expected
    assert all(len(shown) == limit for shown in found[:-1])
    assert found[-1]  # there is a cursor only when there is more


@by_all
@pytest.mark.parametrize("wanted", [{}, {"prefix": "shared/"}, {"search": "file-1"}, {"folderId": ROOT}])
def test_an_offset_passes_over_what_is_shown_and_pages_go_on_from_there(tenant: Tenant, who: str, wanted: dict[str, str]) -> None:
    """F8.11"""
    fill(tenant, drive())
    client, expected = viewer(tenant, who), model(drive(), who, **wanted)
    for offset in (0, 1, 3, len(expected) - 1, len(expected), len(expected) + 5):
        got = listed(client, query_of(limit=2, offset=offset, **wanted))
        assert [each["key"] for each in got["data"]] == expected[offset : offset + 2]
        assert got["meta"]["offset"] == offset
        assert (got["meta"]["nextCursor"] is None) == (offset + 2 >= len(expected))
        assert joined(pages(client, limit=2, offset=offset, **wanted)) == expected[offset:]


@by_all
@both_ways
@pytest.mark.parametrize("wanted", [{}, {"prefix": "f"}, {"search": "7"}])
def test_pages_hold_each_file_once_while_files_come_and_go(
    tenant: Tenant, who: str, wanted: dict[str, str], most_sorted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_SORTED", most_sorted)
    before = [File(f"f{number:02}{'7' if number % 2 else ''}", "bob") for number in range(14)]
    fill(tenant, before)
    client, expected = viewer(tenant, who), model(before, who, **wanted)
    shown, cursor = page(client, limit=2, **wanted)
    found, gone, round_ = list(shown), set[str](), 0
    while cursor:
        round_ += 1
        last, coming = shown[-1], next((key for key in expected if key not in found and key not in gone), None)
        stored(tenant.service, f"f-new-{round_}-7")  # newer than all that is to come
        for key in {last, coming} - {None}:  # where the cursor stands, and what would come next
            assert delete(tenant.service, str(key)).status == 200
            gone.add(str(key))
        shown, cursor = page(client, limit=2, cursor=cursor, **wanted)
        found += shown
    assert found == [key for key in expected if key in found]  # in order, none of them twice
    assert set(expected) - gone <= set(found)
    assert round_ >= 2


@by_all
@both_ways
@pytest.mark.parametrize("wanted", [{}, {"prefix": "shared/"}, {"search": "1"}])
def test_files_that_were_made_in_one_moment_are_each_shown_once(
    tenant: Tenant, who: str, wanted: dict[str, str], most_sorted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_SORTED", most_sorted)
    fill(tenant, drive(), seconds_apart=0)
    client = viewer(tenant, who)
    whole = page(client, limit=200, **wanted)[0]
    assert sorted(whole) == sorted(model(drive(), who, **wanted))
    assert joined(pages(client, limit=1, **wanted)) == joined(pages(client, limit=5, **wanted)) == whole


def test_a_list_by_prefix_that_outgrows_being_put_into_order_goes_on_where_it_was(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_SORTED", 10)
    fill(tenant, [File(f"a/{number}") for number in range(10)])
    shown, cursor = page(tenant.service, prefix="a/", limit=4)
    for number in range(5):
        stored(tenant.service, f"a/new-{number}")
    while cursor:
        more, cursor = page(tenant.service, prefix="a/", limit=4, cursor=cursor)
        shown += more
    assert shown == [f"a/{number}" for number in range(9, -1, -1)]


def test_a_cursor_goes_on_for_who_may_see_more_by_now(tenant: Tenant, bob: Client) -> None:
    """F8.11"""
    fill(tenant, drive())
    shown, cursor = page(bob, limit=2)
    allow(tenant.service, "SELECT", "true")
    more, _ = page(bob, limit=200, cursor=cursor)
    everything = model(drive(), "service")
    assert more == everything[everything.index(shown[-1]) + 1 :]


# ---- which files ---------------------------------------------------------------------------------------
@by_all
@both_ways
@pytest.mark.parametrize("prefix", ["s", "shared/File-0", "docs/", "file-", "absent/"])
def test_a_prefix_shows_keys_that_begin_with_it(
    tenant: Tenant, who: str, prefix: str, most_sorted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_SORTED", most_sorted)
    fill(tenant, drive())
    client, expected = viewer(tenant, who), model(drive(), who, prefix=prefix)
    for limit in (1, 3, 200):
        found = pages(client, prefix=prefix, limit=limit)
        assert joined(found) == expected
        assert all(len(shown) == limit for shown in found[:-1])


@pytest.mark.parametrize("number", [500, 501])
def test_a_prefix_of_many_names_is_answered_alike(tenant: Tenant, number: int) -> None:
    """F8.11"""
    made = [File(f"many/{each * 7919 % 1000:03}", "ada") for each in range(number)]
    fill(tenant, [File("first"), *made, File("last")])
    for client in (tenant.service, tenant.user(sub="ada")):
        found = pages(client, prefix="many/", limit=200)
        assert joined(found) == [file.key for file in reversed(made)]
        assert [len(shown) for shown in found] == [200, 200, number - 400]


@pytest.mark.parametrize("prefix", ["a", "a b", "a+b", "a%", "a%2F", "ä", "100%_", "_", "a/", "%", "tenants/", "😀"])
@both_ways
def test_a_prefix_is_taken_literally(service: Client, prefix: str, most_sorted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_SORTED", most_sorted)
    made = [f"{prefix}1", "other", f"{prefix.upper()}2", "xx1", f"{prefix}3", f"{prefix}4"]
    allowed = [key for key in dict.fromkeys(made) if not key.startswith("tenants/")]
    for key in allowed:
        stored(service, key)
    assert page(service, prefix=prefix)[0] == [key for key in reversed(allowed) if key.startswith(prefix)]


@pytest.mark.parametrize("prefix", ["a\0", "a?", "a#", "a\\", "\x7f", "x" * 701, "ä" * 351])
def test_a_prefix_that_no_key_can_have_is_refused(ada: Client, prefix: str) -> None:
    """F8.11"""
    refused(ada("GET", f"/api/storage?{query_of(prefix=prefix)}"), 422, "VALIDATION")


# What no file may be called, and yet keys may begin so, or might as far as a prefix is looked at.
NO_KEYS: dict[str, list[str]] = {
    "a.": ["a.b", "a.b/c"],
    "a ": ["a b", "a b/c"],
    "..": ["..a"],
    "x.uploading": ["x.uploading.txt", "x.uploading/y"],
    "/": [],
    "a/../": [],
    "_sign/": [],
    "x" * 201: [],
}


@pytest.mark.parametrize("prefix", NO_KEYS)
@both_ways
def test_a_prefix_is_held_to_fewer_rules_than_a_key(ada: Client, prefix: str, most_sorted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.18"""
    monkeypatch.setattr(newest, "MAX_SORTED", most_sorted)
    assert not is_permitted(prefix)
    made = [*NO_KEYS[prefix], "a", "ab", "a/b", "x", "x" * 200]
    for key in made:
        stored(ada, key)
    assert page(ada, prefix=prefix) == (NO_KEYS[prefix][::-1], None)


SEARCHED = ["docs/Report_2024.pdf", "docs/report-100%.PDF", "IMAGES/Straße.png", "images/ÄPFEL.jpg", "a b/c+d", "plain"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("report", [0, 1]),
        ("REPORT", [0, 1]),
        ("pdf", [0, 1]),
        ("docs/r", [0, 1]),
        ("/", [0, 1, 2, 3, 4]),
        ("_", [0]),
        ("%", [1]),
        ("100%.", [1]),
        ("t_2", [0]),
        ("r%t", []),
        ("repor_", []),
        ("%report%", []),
        ("\\", []),
        ("\\_", []),
        ("\\%", []),
        ("images", [2, 3]),
        ("äpfel", [3]),
        ("STRASSE", [2]),
        ("straße", [2]),
        ("c+d", [4]),
        ("a b", [4]),
        ("  plain ", [5]),
        (" ", [0, 1, 2, 3, 4, 5]),
        ("", [0, 1, 2, 3, 4, 5]),
        ("?", []),
        ("absent", []),
    ],
)
def test_a_search_finds_text_in_keys_whatever_the_case(tenant: Tenant, bob: Client, search: str, found: list[int]) -> None:
    """F8.11: and what means something to LIKE means itself here."""
    fill(tenant, [File(key, "bob") for key in SEARCHED])
    for client in (tenant.service, bob):
        assert page(client, search=search) == ([SEARCHED[index] for index in reversed(found)], None)


def test_a_search_has_two_hundred_characters_at_most(ada: Client) -> None:
    """F8.11"""
    stored(ada, "ä" * 50)
    assert keys(ada, query_of(search="ä" * 200)) == []
    refused(ada("GET", f"/api/storage?{query_of(search='ä' * 201)}"), 422, "VALIDATION")


@by_all
def test_a_folder_shows_the_files_that_are_in_it(tenant: Tenant, who: str) -> None:
    """F8.11"""
    label, empty = folder(tenant.service, "label"), folder(tenant.service, "empty")
    fill(tenant, drive(label))
    client = viewer(tenant, who)
    for folder_id in (label, empty, ROOT, UNKNOWN):
        expected = model(drive(label), who, folderId=folder_id)
        assert joined(pages(client, folderId=folder_id, limit=3)) == expected
        assert page(client, folderId=folder_id, limit=3, offset=2)[0] == expected[2:5]
        assert bool(expected) == (folder_id in (label, ROOT))


@pytest.mark.parametrize("folder_id", ["nonsense", "__ROOT__", UNKNOWN.upper().replace("0", "A"), f"{UNKNOWN}#x"])
def test_what_is_no_folders_id_is_refused(ada: Client, folder_id: str) -> None:
    """F8.11"""
    refused(ada("GET", f"/api/storage?{query_of(folderId=folder_id)}"), 422, "VALIDATION")


def test_a_folder_of_another_tenant_shows_nothing(tenant: Tenant, new_tenant: Any) -> None:
    """F8.11"""
    theirs: Tenant = new_tenant()
    label = folder(theirs.service, "label")
    stored(theirs.service, "a", query=f"?folderId={label}")
    got = listed(tenant.service, f"folderId={label}")
    assert (got["data"], got["meta"]["total"]) == ([], 0)


@by_all
@both_ways
def test_prefix_folder_and_search_narrow_each_other(tenant: Tenant, who: str, most_sorted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_SORTED", most_sorted)
    label = folder(tenant.service, "label")
    fill(tenant, drive(label))
    client = viewer(tenant, who)
    for prefix, folder_id, search in (
        ("shared/", label, ""),
        ("shared/", ROOT, "FILE-1"),
        ("", label, "FILE-1"),
        ("docs/File-0", None, "e-0"),
        ("docs/", label, "e-1"),
    ):
        wanted = {"prefix": prefix, "folderId": folder_id, "search": search}
        expected = model(drive(label), who, prefix, folder_id, search)
        assert joined(pages(client, limit=2, **wanted)) == expected
        assert page(client, limit=2, offset=1, **wanted)[0] == expected[1:3]


# ---- how many ------------------------------------------------------------------------------------------
def total(client: Client, **wanted: Any) -> int | None:
    return listed(client, query_of(limit=1, **wanted))["meta"]["total"]  # type: ignore[no-any-return]


def test_the_total_is_what_counters_know(tenant: Tenant, ada: Client, stream: Stream) -> None:
    """F8.11"""
    service, label = tenant.service, folder(ada, "label")
    for number in range(3):
        stored(ada, f"labelled-{number}", query=f"?folderId={label}")
    for number in range(2):
        stored(ada, f"other-{number}")
    stream.deliver()
    assert (total(service), total(service, folderId=label), total(service, offset=4)) == (5, 3, 5)
    stored(ada, "other-0", b"over")
    patch(ada, "other-0", folderId=label)
    patch(ada, "labelled-0", folderId=None)
    delete(ada, "labelled-1")
    stream.deliver()
    assert (total(service), total(service, folderId=label)) == (4, 2)
    assert total(service, folderId=UNKNOWN) == 0


@pytest.mark.parametrize("wanted", [{"folderId": ROOT}, {"prefix": "a"}, {"search": "a"}, {"prefix": "a", "folderId": UNKNOWN}])
def test_the_total_is_null_where_no_counter_knows_it(tenant: Tenant, stream: Stream, wanted: dict[str, str]) -> None:
    """F8.11"""
    stored(tenant.service, "a")
    stream.deliver()
    assert total(tenant.service, **wanted) is None


@pytest.mark.parametrize("who", [who for who in VIEWERS if who != "service"])
def test_the_total_is_null_for_users(tenant: Tenant, bob: Client, stream: Stream, who: str) -> None:
    """F8.11"""
    label = folder(bob, "label")
    stored(bob, "a", query=f"?folderId={label}")
    stream.deliver()
    client = viewer(tenant, who)
    assert (total(client), total(client, folderId=label)) == (None, None)


def test_the_total_stays_on_every_page(tenant: Tenant, stream: Stream) -> None:
    """F8.11"""
    for number in range(3):
        stored(tenant.service, f"{number}")
    stream.deliver()
    first = listed(tenant.service, "limit=2")["meta"]
    second = listed(tenant.service, query_of(limit=2, cursor=first["nextCursor"]))["meta"]
    assert first.keys() == second.keys() == META
    assert (first["total"], second["total"], second["nextCursor"]) == (3, 3, None)


# ---- bounds --------------------------------------------------------------------------------------------
@by_all
@pytest.mark.parametrize("wanted", [{"search": "needle"}, {"search": "needle", "folderId": ROOT}, {"prefix": "n", "search": "needle"}])
def test_a_page_that_has_looked_at_its_share_of_files_comes_short_and_goes_on(
    tenant: Tenant, who: str, wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_ROWS", 10)
    monkeypatch.setattr(newest, "MAX_SORTED", 5)
    made = [File("needle-1", "bob"), *(File(f"n-hay-{number:02}", "bob") for number in range(35)), File("needle-2", "bob")]
    fill(tenant, made)
    client = viewer(tenant, who)
    found = pages(client, limit=5, **wanted)
    assert joined(found) == ["needle-2", "needle-1"]
    assert [len(shown) for shown in found] == [1, 0, 0, 1]


def test_a_page_of_what_policies_hide_comes_short_and_goes_on(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_ROWS", 10)
    made = [File(f"{'shared/' if number in (0, 5, 30, 31) else ''}{number:02}", "ada") for number in range(45)]
    fill(tenant, made)
    assert pages(viewer(tenant, "a part by policy"), limit=5) == [[], ["shared/31", "shared/30"], [], ["shared/05"], ["shared/00"]]


def test_a_page_that_takes_too_long_comes_short_and_goes_on(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.11: here the clock moves on by a second whenever it is looked at."""
    fill(tenant, drive())
    client, expected = viewer(tenant, "a part by policy"), model(drive(), "a part by policy")
    real, moved = seam.timestamp, itertools.count()
    monkeypatch.setattr(seam, "timestamp", lambda: real() + next(moved))
    found = pages(client, limit=20)
    assert joined(found) == expected
    assert len(found) > 2


@pytest.mark.parametrize("who", ["service", "owner", "a part by policy"])
def test_an_offset_is_carried_on_from_a_page_that_came_short(tenant: Tenant, who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.11"""
    monkeypatch.setattr(newest, "MAX_ROWS", 6)
    fill(tenant, drive())
    client, expected = viewer(tenant, who), model(drive(), who, search="file")
    for offset in (0, 3, 7):
        assert joined(pages(client, limit=2, offset=offset, search="file")) == expected[offset:]


def test_a_page_is_no_larger_than_an_answer_may_be(tenant: Tenant, choose: Choose) -> None:
    """F8.11"""
    choose("STOWAGE_MAX_BODY", "50000")
    made = [File(f"{number:02}") for number in range(30)]
    fill(tenant, made, json.dumps({"text": "é" * 2000}, ensure_ascii=False))
    cursor, found = None, list[str]()
    while cursor is not None or not found:
        answer = tenant.service("GET", f"/api/storage?{query_of(limit=200, cursor=cursor)}")
        assert len(answer.body) <= 50_000
        assert answer.json()["data"]
        found += [each["key"] for each in answer.json()["data"]]
        cursor = answer.json()["meta"]["nextCursor"]
    assert found == [file.key for file in reversed(made)]


def test_what_a_page_looks_at_is_told_where_one_reads_of_it(ada: Client) -> None:
    """F8.11: in the description of what is asked for, and in README."""
    parameters = ada("GET", "/openapi.json").json()["paths"]["/api/storage"]["get"]["parameters"]
    told = {each["name"]: each["description"] for each in parameters if each["in"] == "query"}
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    of_files = readme.partition("\n## Files\n")[2].partition("\n## ")[0]
    for text in (told["search"], told["prefix"], " ".join(of_files.split())):
        assert f"{newest.MAX_ROWS:,}" in text
        assert f"{newest.MAX_SECONDS} seconds" in text


# ---- cursors that are not one's own --------------------------------------------------------------------
def packed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


MADE_UP = {
    "text": "x",
    "no base64": "!!!!",
    "umlaut": "ä",
    "padding": "====",
    "empty object": "e30",
    "long": "A" * 5000,
    "nested": base64.urlsafe_b64encode(b"[" * 3000).decode(),
    "no UTF-8": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "a string": packed("a"),
    "an object": packed({"made": "a", "name": "b"}),
    "too few": packed(["a", "b", 0]),
    "too many": packed(["a", "b", 0, True, 1]),
    "number for a time": packed([1, "b", 0, True]),
    "number for a key": packed(["a", 1, 0, True]),
    "text for a number": packed(["a", "b", "0", True]),
    "below zero": packed(["a", "b", -1, True]),
    "too deep": packed(["a", "b", 10_001, True]),
    "fraction": packed(["a", "b", 1.5, True]),
    "flag for a number": packed(["a", "b", True, True]),
    "number for a flag": packed(["a", "b", 0, 1]),
    "null": packed([None, None, 0, True]),
    "long time": packed(["a" * 41, "b", 0, True]),
    "long key": packed(["a", "b" * 701, 0, True]),
    "surrogate": packed(["a", "\ud800", 0, True]),
}


@pytest.mark.parametrize("cursor", MADE_UP.values(), ids=MADE_UP)
def test_a_cursor_that_no_list_gave_is_refused(tenant: Tenant, cursor: str) -> None:
    """F8.11"""
    for client in (tenant.service, tenant.user()):
        error = refused(client("GET", f"/api/storage?{query_of(cursor=cursor)}"), 422, "VALIDATION")
        assert error["details"]["reason"] == "InvalidCursor"


@by_all
def test_a_cursor_of_somebody_else_is_refused(tenant: Tenant, new_tenant: Any, who: str) -> None:
    """F8.11: it may stand at a key that is not for all to see."""
    elsewhere: Tenant = new_tenant()
    client = viewer(tenant, who)
    others = {
        "ada": tenant.user(sub="ada"),
        "service": tenant.service,
        "bob of another tenant": elsewhere.user(sub="bob"),
    }
    for one in (tenant, elsewhere):
        fill(one, [File(f"{number}-{owner}", owner) for number in range(3) for owner in ("ada", "bob")])
    for name, other in others.items():
        if name == who:
            continue
        cursor = page(other, limit=1)[1]
        assert cursor is not None
        refused(client("GET", f"/api/storage?{query_of(cursor=cursor)}"), 422, "VALIDATION")


def test_a_cursor_of_another_tenants_service_key_shows_nothing_but_ones_own(tenant: Tenant, new_tenant: Any) -> None:
    """F8.11: who sees everything is told where they stand, so there is nothing to hide from them."""
    elsewhere: Tenant = new_tenant()
    fill(elsewhere, [File(f"theirs-{number}") for number in range(5)], seconds_apart=10)
    fill(tenant, [File(f"ours-{number}") for number in range(5)], seconds_apart=11)
    cursor = page(elsewhere.service, limit=2)[1]
    assert page(tenant.service, cursor=cursor) == (["ours-2", "ours-1", "ours-0"], None)
    query = query_of(cursor=cursor)
    refused(tenant.user()("GET", f"/api/storage?{query}"), 422, "VALIDATION")
    refused(tenant.user(role="editor")("GET", f"/api/storage?{query}"), 403, "FORBIDDEN")


def test_a_cursor_tells_a_user_nothing_of_what_they_may_not_see(tenant: Tenant) -> None:
    """F8.11"""
    fill(tenant, [File(f"secret-{number}", "ada") for number in range(5)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(newest, "MAX_ROWS", 2)
        shown, cursor = page(viewer(tenant, "a part by policy"))
    assert shown == []
    assert cursor is not None
    for padding in ("", "=", "=="):
        try:
            told = base64.urlsafe_b64decode(cursor + padding)
        except ValueError:
            continue
        assert b"secret" not in told
    assert "secret" not in cursor


# ---- against the model ---------------------------------------------------------------------------------
KEYS = st.builds(
    "".join,
    st.tuples(st.sampled_from(["", "", "shared/", "a/"]), st.text(st.sampled_from("abAB//_%éÉß"), min_size=1, max_size=5)),
).filter(is_permitted)


@st.composite
def drives(draw: st.DrawFn) -> list[tuple[str, str | None, int]]:
    """Key, owner, and which of two folders (0: none), from the oldest to the newest."""
    found = draw(st.lists(KEYS, unique=True, max_size=20))
    return [(key, draw(st.sampled_from(["ada", "bob", None])), draw(st.integers(0, 2))) for key in found]


@examples(40)
@given(
    made=drives(),
    who=st.sampled_from(list(VIEWERS)),
    prefix=st.sampled_from(["", "", "a", "a/", "shared/", "shared/a", "A", "b", "_", "é"]),
    place=st.sampled_from([None, None, 0, 1, 2]),
    search=st.sampled_from(["", "", "a", "B", "_", "%", "É", "ss", "a/", " b"]),
    limit=st.integers(1, 8),
    offset=st.integers(0, 12),
    most_sorted=st.sampled_from([500, 3]),
    most_rows=st.sampled_from([2000, 4]),
)
@example([("a", "bob", 0)] * 1, "owner", "", None, "", 1, 1, 500, 2000)
@example([(f"a{n}", "bob", 1) for n in range(9)], "everything by policy", "a", 1, "A", 2, 3, 3, 4)
def test_pages_are_what_the_model_says(
    new_tenant: Any,
    made: list[tuple[str, str | None, int]],
    who: str,
    prefix: str,
    place: int | None,
    search: str,
    limit: int,
    offset: int,
    most_sorted: int,
    most_rows: int,
) -> None:
    """F8.11"""
    tenant: Tenant = new_tenant()
    folders = [None, seam.new_uuid(), seam.new_uuid()]
    files = [File(key, owner, folders[number]) for key, owner, number in made]
    fill(tenant, files)
    folder_id = None if place is None else folders[place] or ROOT
    client, expected = viewer(tenant, who), model(files, who, prefix, folder_id, search)
    wanted = {"prefix": prefix, "folderId": folder_id, "search": search, "limit": limit}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(newest, "MAX_SORTED", most_sorted)
        patched.setattr(newest, "MAX_ROWS", most_rows)
        by_cursor = pages(client, **wanted)
        from_offset = pages(client, offset=offset, **wanted)
    assert joined(by_cursor) == expected
    assert joined(from_offset) == expected[offset:]
    assert all(len(shown) <= limit for shown in by_cursor)
    if most_rows > len(files):
        assert all(len(shown) == limit for shown in by_cursor[:-1])
        assert by_cursor[-1] or not expected
