"""Listings against a model: the sorted, folded, sliced list of names (CONTRACT "Storage surface", FEATURES F8.8, F8.27)."""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib import aws, seam
from chalicelib.core import names as rules
from chalicelib.errors import StowageError
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import write_all
from tests.client import Answer, Client
from tests.conftest import Call, Tenant

PROPERTY = hypothesis_settings(
    deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ROW = {"id", "name", "size", "content_type", "checksum", "owner_id", "user_metadata", "created_at", "updated_at"}
NOW = "2026-11-20T10:00:00.000000Z"
MAX_ROWS, MAX_RANGES = 2000, 100


# ---- filling and asking --------------------------------------------------------------------------------
def fill(tenant: Tenant, bucket: dict[str, Any], names: Iterable[str]) -> None:
    """Rows without bytes: a listing looks at nothing else."""
    partition = f"{tenant.tenant_id}#{bucket['id']}"
    rows = [
        StoredObject(
            partition,
            name,
            id=seam.new_uuid(),
            version=seam.new_version(),
            revision=1,
            bucket=bucket["name"],
            physical_key=f"objects/{number}",
            size=number,
            content_type="text/plain",
            checksum="00" * 32,
            created_at=NOW,
            updated_at=NOW,
            tokens_not_before=NOW,
        )
        for number, name in enumerate(names)
    ]
    write_all([(StoredObject, {"PutRequest": {"Item": row.serialize()}}) for row in rows])


def ask(client: Client, bucket: str = "b", **query: Any) -> Answer:
    return client("GET", f"/storage/objects/{bucket}?" + "&".join(f"{key}={quote(str(value), safe='')}" for key, value in query.items()))


def page(client: Client, bucket: str = "b", **query: Any) -> tuple[list[str], str]:
    """Names of a page and the cursor of the next (empty: none)."""
    answer = ask(client, bucket, **query)
    assert answer.status == 200, answer.body
    return [row["name"] for row in answer.json()], answer.headers.get("x-next-cursor", "")


def pages(client: Client, bucket: str = "b", **query: Any) -> Iterator[list[str]]:
    shown, cursor = page(client, bucket, **query)
    yield shown
    query.pop("offset", None)
    while cursor:
        shown, cursor = page(client, bucket, cursor=cursor, **query)
        yield shown


def model(names: Iterable[str], prefix: str = "", delimiter: str = "") -> list[str]:
    """What a listing shows, in plain Python."""
    shown: list[str] = []
    for name in sorted(set(names)):
        if not name.startswith(prefix):
            continue
        head, found, _ = name[len(prefix) :].partition(delimiter or "\0")
        entry = prefix + head + found
        if not shown or shown[-1] != entry:
            shown.append(entry)
    return shown


@dataclass
class Reads:
    """What the table was asked: rows that each Query gave or counted."""

    rows: list[int] = field(default_factory=list)


@pytest.fixture
def reads(embedded: Any) -> Iterator[Reads]:
    made = Reads()

    def note(parsed: dict[str, Any], **_: Any) -> None:
        made.rows.append(parsed["ScannedCount"] if "ScannedCount" in parsed else parsed["Count"])

    events = aws.client("dynamodb").meta.events
    events.register("after-call.dynamodb.Query", note)
    yield made
    events.unregister("after-call.dynamodb.Query", note)


# ---- against the model ---------------------------------------------------------------------------------
def _permitted(name: str) -> bool:
    try:
        return bool(rules.check_object_name(name))
    except StowageError:
        return False


ALPHABET = "ab/ %+~-.!é\u0301日\ud7ff\ue000\uffff\U00010000\U0001f600\U0010ffff"
NAMES = st.text(st.sampled_from("aab//" + ALPHABET), min_size=1, max_size=7).filter(_permitted)
PREFIXES = st.text(st.sampled_from("aab//" + ALPHABET), max_size=4)


@PROPERTY
@given(
    names=st.sets(NAMES, max_size=30),
    prefix=PREFIXES,
    delimiter=st.sampled_from(["", "/"]),
    limit=st.integers(1, 8),
    offset=st.integers(0, 12),
)
@example(names={"a/", "a/b", "a0", "a.", "a"}, prefix="a", delimiter="/", limit=1, offset=0)
@example(names={"a\U0010ffff", "a\U0010ffffb", "b"}, prefix="a\U0010ffff", delimiter="", limit=1, offset=1)
@example(names={"\U0010ffff", "\U0010ffff/x"}, prefix="\U0010ffff", delimiter="/", limit=1, offset=0)
@example(names={"a\ud7ff", "a\ud7ffx", "a\ue000"}, prefix="a\ud7ff", delimiter="", limit=2, offset=0)
@example(names={"b", "b/"}, prefix="a", delimiter="/", limit=1, offset=0)
@example(names={"a//b", "a//c", "a/d"}, prefix="a/", delimiter="/", limit=1, offset=1)
def test_pages_by_cursor_and_offset_are_what_the_model_says(
    new_tenant: Any, names: set[str], prefix: str, delimiter: str, limit: int, offset: int
) -> None:
    tenant: Tenant = new_tenant()
    fill(tenant, tenant.service.bucket("b"), names)
    expected = model(names, prefix, delimiter)
    query = {"prefix": prefix, "delimiter": delimiter, "limit": limit}

    by_cursor = list(pages(tenant.service, **query))
    assert [name for shown in by_cursor for name in shown] == expected
    assert [len(shown) for shown in by_cursor[:-1]] == [limit] * (len(by_cursor) - 1)
    assert by_cursor[-1] or not expected  # a cursor is given only when there is more

    shown, cursor = page(tenant.service, offset=offset, **query)
    assert shown == expected[offset : offset + limit]
    assert bool(cursor) == (len(expected) > offset + limit)
    assert [name for shown in pages(tenant.service, offset=offset, **query) for name in shown] == expected[offset:]


def test_the_order_is_that_of_code_points(service: Client) -> None:
    service.bucket("b")
    names = ["B", "a", "a b", "a!", "a/", "a0", "ä", "\ud7ff", "\ue000", "\uffff", "\U00010000", "Z"]
    for name in reversed(names):
        assert service.put("b", name).status == 201
    assert service.names("b") == sorted(names)


@pytest.mark.parametrize("prefix", ["a", "a b", "a+b", "a%", "a%2F", "ä", "100%_", "_", "a/"])
def test_a_prefix_is_taken_literally(service: Client, prefix: str) -> None:
    service.bucket("b")
    names = [f"{prefix}1", "other", prefix.upper() + "2", "xx1"]
    for name in names:
        service.put("b", name)
    assert page(service, prefix=prefix)[0] == sorted(name for name in names if name.startswith(prefix))


def test_an_empty_bucket_has_an_empty_page(service: Client) -> None:
    service.bucket("b")
    assert page(service) == ([], "")
    assert page(service, delimiter="/", prefix="a/", offset=5) == ([], "")


def test_a_page_has_a_hundred_rows_unless_asked_otherwise(tenant: Tenant) -> None:
    fill(tenant, tenant.service.bucket("b"), [f"{number:03}" for number in range(101)])
    shown, cursor = page(tenant.service)
    assert shown == [f"{number:03}" for number in range(100)]
    assert page(tenant.service, cursor=cursor) == (["100"], "")


@pytest.mark.parametrize("limit", [1, 999, 1000])
def test_a_page_has_up_to_a_thousand_rows(tenant: Tenant, limit: int) -> None:
    names = [f"{number:04}" for number in range(1000)]
    fill(tenant, tenant.service.bucket("b"), names)
    shown, cursor = page(tenant.service, limit=limit)
    assert shown == names[:limit]
    assert bool(cursor) == (limit < 1000)


def test_a_cursor_goes_on_where_the_page_ended_whatever_came_and_went(service: Client) -> None:
    service.bucket("b")
    for name in ("a", "c", "e", "g"):
        service.put("b", name)
    _, cursor = page(service, limit=2)
    for name in ("b", "f"):
        service.put("b", name)
    service.delete("b", "c")
    assert page(service, cursor=cursor) == (["e", "f", "g"], "")


def test_rows_carry_what_is_known_of_an_object(service: Client) -> None:
    service.bucket("b")
    metadata = base64.b64encode(b'{"k": [1, null]}').decode()
    service.put("b", "a", b"hello", "text/plain", x_metadata=metadata)
    rows = ask(service).json()
    shown = service("GET", "/storage/object-info/b/a").json()
    assert [row.keys() for row in rows] == [ROW]
    assert rows == [{name: shown[name] for name in ROW}]
    assert (rows[0]["size"], rows[0]["user_metadata"], rows[0]["owner_id"]) == (5, {"k": [1, None]}, None)


def test_a_folder_is_a_row_of_nulls(service: Client) -> None:
    service.bucket("b")
    service.put("b", "folder/a")
    assert ask(service, delimiter="/").json() == [dict.fromkeys(ROW) | {"name": "folder/"}]


def test_the_object_that_is_called_like_its_folder_is_shown_inside_it(service: Client) -> None:
    service.bucket("b")
    for name in ("folder/", "folder/a"):
        service.put("b", name)
    assert page(service, delimiter="/")[0] == ["folder/"]
    assert page(service, delimiter="/", prefix="folder/")[0] == ["folder/", "folder/a"]


def test_deleted_objects_take_their_folder_with_them(service: Client) -> None:
    service.bucket("b")
    service.put("b", "folder/a")
    service.delete("b", "folder/a")
    assert page(service, delimiter="/") == ([], "")


# ---- who sees what -------------------------------------------------------------------------------------
def test_others_list_a_public_bucket_and_find_a_private_one_empty(tenant: Tenant) -> None:
    tenant.service.bucket("open", public=True)
    tenant.service.bucket("closed")
    for bucket in ("open", "closed"):
        tenant.service.put(bucket, "folder/a")
    for client in (tenant.anon, tenant.user()):
        assert page(client, "open") == (["folder/a"], "")
        assert page(client, "closed") == ([], "")
        assert page(client, "closed", delimiter="/") == ([], "")


def test_what_was_moved_leaves_nothing_behind_to_list(service: Client) -> None:
    service.bucket("b")
    service.put("b", "a")
    service("POST", "/storage/object/move", {"bucket": "b", "from": "a", "to": "z"})
    assert service.names("b") == ["z"]


# ---- bounds --------------------------------------------------------------------------------------------
def bounded(client: Client, reads: Reads, calls: list[Call], **query: Any) -> list[list[str]]:
    """All pages, each within the bounds of a page."""
    found: list[list[str]] = []
    cursor = ""
    while True:
        reads.rows.clear()
        calls.clear()
        shown, cursor = page(client, **query | ({"cursor": cursor, "offset": 0} if cursor else {}))
        found.append(shown)
        assert sum(reads.rows) <= MAX_ROWS
        assert [call.operation for call in calls if call.service == "dynamodb"].count("Query") == len(reads.rows) <= MAX_RANGES
        if not cursor:
            return found


def test_a_page_over_many_deep_folders_stays_within_its_bounds(tenant: Tenant, reads: Reads, calls: list[Call]) -> None:
    folders = [f"folder {number:03}/" for number in range(140)]
    fill(tenant, tenant.service.bucket("b"), [f"{folder}{number}" for folder in folders for number in range(6)])
    found = bounded(tenant.service, reads, calls, delimiter="/", limit=150)
    assert [name for shown in found for name in shown] == folders
    assert len(found) > 1
    assert 0 < len(found[0]) < len(folders)  # it came back short, and not in vain


def test_a_page_that_passes_over_folders_for_its_offset_stays_within_its_bounds(tenant: Tenant, reads: Reads, calls: list[Call]) -> None:
    names = [f"{number:04}" for number in range(2600)]
    fill(tenant, tenant.service.bucket("b"), names)
    found = bounded(tenant.service, reads, calls, delimiter="/", limit=10, offset=2580)
    assert [name for shown in found for name in shown] == names[2580:]
    assert found[0] == []


def test_deep_folders_are_passed_over_and_not_read(tenant: Tenant, reads: Reads) -> None:
    names = ["a", *(f"deep/{number:04}/x" for number in range(2500)), "z"]
    fill(tenant, tenant.service.bucket("b"), names)
    assert page(tenant.service, delimiter="/", limit=50) == (["a", "deep/", "z"], "")
    assert sum(reads.rows) <= 60
    assert len(reads.rows) <= 3


def test_an_unfiltered_page_is_one_query_of_its_own_rows(tenant: Tenant, reads: Reads) -> None:
    fill(tenant, tenant.service.bucket("b"), [f"{number:04}" for number in range(300)])
    assert len(page(tenant.service, limit=100)[0]) == 100
    assert reads.rows == [101]


def test_an_offset_of_ten_thousand_is_the_deepest(tenant: Tenant) -> None:
    names = [f"{number:05}" for number in range(10_005)]
    fill(tenant, tenant.service.bucket("b"), names)
    assert [name for shown in pages(tenant.service, offset=10_000) for name in shown] == names[10_000:]


def test_a_name_that_follows_the_prefix_ends_the_listing_and_is_not_read_again(tenant: Tenant, reads: Reads) -> None:
    fill(tenant, tenant.service.bucket("b"), ["a1", "a2", "b"])
    assert page(tenant.service, prefix="a", limit=2) == (["a1", "a2"], "")
    assert len(reads.rows) <= 2


# ---- refusals ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", ["0", "-1", "1001", "x", "1.5", "", "1e2", "٣", "9" * 30, "0x10", " 5", "+5", "NaN"])
def test_a_limit_out_of_bounds_is_refused(service: Client, value: str) -> None:
    service.bucket("b")
    assert ask(service, limit=value).status == 400


@pytest.mark.parametrize("value", ["10001", "9" * 30, "-1", "x", "1.5", "", "1e2", "٣"])
def test_an_offset_out_of_bounds_is_refused(service: Client, value: str) -> None:
    service.bucket("b")
    assert ask(service, offset=value).status == 400


def test_a_deeper_offset_is_told_of_cursors(service: Client) -> None:
    service.bucket("b")
    assert "cursor" in ask(service, offset=10_001).json()["message"]


def packed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "!!!!",
        "ä",
        "====",
        "e30",
        "A" * 5000,
        packed("a"),
        packed(["a"]),
        packed([1, 0]),
        packed(["a", "0"]),
        packed(["a", -1]),
        packed(["a", 1.5]),
        packed(["a", True]),
        packed(["a", 10**30]),
        packed(["a", 10_001]),
        packed(["a", None]),
        packed(["\ud800", 0]),
        packed(["a" * 2000, 0]),
        packed({"start": "a", "skip": 0}),
        packed(["a", 0, 0]),
        base64.urlsafe_b64encode(b"[" * 3000).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_a_cursor_that_no_listing_gave_is_refused(service: Client, cursor: str) -> None:
    service.bucket("b")
    answer = ask(service, cursor=cursor)
    assert (answer.status, answer.code) == (400, "InvalidCursor")


@pytest.mark.parametrize("start", ["", "zzz", "\0", "a/", "\U0010ffff" * 170])
def test_a_cursor_from_elsewhere_shows_nothing_but_what_the_prefix_allows(tenant: Tenant, start: str) -> None:
    fill(tenant, tenant.service.bucket("b"), ["a", "m/1", "m/2", "z"])
    shown, cursor = page(tenant.service, prefix="m/", cursor=packed([start, 0]))
    assert shown in ([], ["m/1", "m/2"])
    assert cursor == ""


@pytest.mark.parametrize("delimiter", ["//", "a", " ", "|", "\\"])
def test_another_delimiter_is_refused(service: Client, delimiter: str) -> None:
    service.bucket("b")
    assert ask(service, delimiter=delimiter).status == 400


@pytest.mark.parametrize("prefix", ["a\0", "a?", "a#", "a\\", "\x7f", "x" * 701, "ä" * 351])
def test_a_prefix_that_no_name_can_have_is_refused(service: Client, prefix: str) -> None:
    service.bucket("b")
    assert ask(service, prefix=prefix).status == 400


def test_listing_no_bucket_is_not_found(service: Client) -> None:
    answer = ask(service, "absent")
    assert (answer.status, answer.code) == (404, "BucketNotFound")
