"""What files cost in AWS calls: counted, for a count does not flake; a page among 100,000 files costs what one among 1,000 does."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib import seam
from chalicelib.core import newest
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.folders import Folder
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import write_all
from tests.api.test_calls import BATCH_GET, DELETE_ITEM, GET_ITEM, GET_OBJECT, PUT_ITEM, PUT_OBJECT, QUERY, TRANSACTION, counted
from tests.client import Client
from tests.conftest import Call, Tenant
from tests.files.conftest import folder, get, listed, patch, put, stored

KEEPS_ROWS = True  # `drives`
pytestmark = pytest.mark.xdist_group("costs")  # filling them takes most of the time
FEW, MANY = 1_000, 100_000
PAGE = 50
OWNED = 60
FOLDERS = 10


# ---- one file ------------------------------------------------------------------------------------------
@pytest.fixture
def warm(ada: Client) -> Client:
    """A user whose token, bucket and policies this process has just seen, with a file and a folder."""
    stored(ada, "warm")
    stored(ada, "docs/warm")
    get(ada, "warm")
    patch(ada, "warm", acl="private")
    return ada


@pytest.mark.parametrize(
    ("act", "status", "expected"),
    [
        (lambda user: get(user, "warm"), 200, [BATCH_GET, GET_OBJECT]),
        (lambda user: get(user, "warm", method="HEAD"), 200, [BATCH_GET]),
        (lambda user: get(user, "warm", if_none_match="*"), 304, [BATCH_GET]),
        (lambda user: get(user, "absent"), 404, [BATCH_GET]),
        (lambda user: put(user, "new"), 201, [BATCH_GET, PUT_OBJECT, PUT_ITEM]),
        (lambda user: put(user, "docs/new"), 201, [BATCH_GET, PUT_OBJECT, GET_ITEM, PUT_ITEM]),
        (lambda user: put(user, "warm"), 200, [BATCH_GET, PUT_OBJECT, PUT_ITEM]),
        (lambda user: patch(user, "warm", acl="public", metadata={"k": 1}), 200, [BATCH_GET, PUT_ITEM]),
        (lambda user: user("POST", "/api/storage/warm/sign"), 200, [BATCH_GET]),
        (lambda user: user("DELETE", "/api/storage/warm"), 200, [BATCH_GET, DELETE_ITEM]),
    ],
    ids=["get", "head", "unchanged", "absent", "new", "new in a known folder", "overwrite", "patch", "sign", "delete"],
)
def test_a_request_for_a_file_costs_what_one_for_an_object_does(
    warm: Client, calls: list[Call], act: Callable[[Client], Any], status: int, expected: list[Call]
) -> None:
    assert counted(calls, lambda: act(warm), status) == expected


def test_the_first_file_of_a_folder_makes_it_and_the_next_one_finds_it(warm: Client, calls: list[Call]) -> None:
    assert counted(calls, lambda: put(warm, "photos/a"), 201) == [BATCH_GET, PUT_OBJECT, GET_ITEM, TRANSACTION, PUT_ITEM]
    assert counted(calls, lambda: put(warm, "photos/b"), 201) == [BATCH_GET, PUT_OBJECT, GET_ITEM, PUT_ITEM]
    assert counted(calls, lambda: put(warm, "photos/b"), 200) == [BATCH_GET, PUT_OBJECT, PUT_ITEM]


def test_a_signed_url_is_opened_by_one_read(tenant: Tenant, warm: Client, calls: list[Call]) -> None:
    path = warm("POST", "/api/storage/warm/sign").json()["path"]
    tenant.nobody("GET", path)
    assert counted(calls, lambda: tenant.nobody("GET", path), 200) == [BATCH_GET, GET_OBJECT]


def test_a_forged_token_costs_no_more_than_a_missing_file(tenant: Tenant, warm: Client, calls: list[Call]) -> None:
    path = warm("POST", "/api/storage/warm/sign").json()["path"]
    tenant.nobody("GET", path)
    assert counted(calls, lambda: tenant.nobody("GET", path[:-2] + "AA"), 401) == [BATCH_GET]
    assert counted(calls, lambda: tenant.nobody("GET", path.replace("warm", "other")), 401) == []


# ---- lists ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Drive:
    """A tenant with many files of the service key's, and 60 of one user's; a folder that holds a tenth of each, `in_folder` in all."""

    tenant: Tenant
    owner: Client
    folder: str
    size: int
    in_folder: int

    def read(self, monkeypatch: pytest.MonkeyPatch, client: Client, query: str) -> tuple[list[str], list[int], dict[str, Any]]:
        """The operations that a warm page takes, how many rows each query read, and the page."""
        listed(client, query)
        made: list[str] = []
        rows: list[int] = []

        def spying(operation: str, **parameters: Any) -> dict[str, Any]:
            answer = real(operation, **parameters)
            made.append(operation)
            rows.append(answer["ScannedCount"])
            return answer

        real = newest.call
        with monkeypatch.context() as patched:
            patched.setattr(newest, "call", spying)
            return made, rows, listed(client, query)


def filled(tenant: Tenant, size: int) -> Drive:
    """Rows of files as uploads would have made them, a millisecond apart; those of the user's lie evenly among the others."""
    bucket = Bucket.read(tenant.tenant_id, FILES)
    assert bucket is not None
    owner = tenant.user(sub="00000000-0000-4000-8000-000000000001")
    folders = [folder(tenant.service, f"folder {number}") for number in range(FOLDERS)]
    now = time.time() - size / 1000
    rows: list[StoredObject] = []
    owned_every = size // OWNED
    for number in range(size):
        made = seam.iso(seam.at(now + number / 1000))
        is_owned = number % owned_every == 0 and number // owned_every < OWNED
        row = StoredObject(
            bucket.partition,
            f"f/{number:06d}",
            id=f"00000000-0000-4000-9000-{number:012d}",
            version=f"01{number:024d}",
            revision=1,
            bucket=FILES,
            physical_key="objects/nowhere",
            size=1,
            content_type="text/plain",
            created_at=made,
            updated_at=made,
            tokens_not_before=made,
        )
        row.owned_by("00000000-0000-4000-8000-000000000001" if is_owned else None)
        # Of the user's files every tenth in a row lies in one folder, as of the others.
        place = (number // owned_every if is_owned else number) % FOLDERS
        rows.append(row.filed("private", folders[place]))
    write_all([(StoredObject, {"PutRequest": {"Item": row.serialize()}}) for row in rows])
    bucket.change([Bucket.object_count.set(size)], Bucket.name.exists())
    counts = [sum(row.folder_id == each for row in rows) for each in folders]
    for each, count in zip(folders, counts, strict=True):
        Folder(tenant.tenant_id, each).change([Folder.object_count.set(count)], Folder.folder_id.exists())
    return Drive(tenant, owner, folders[0], size, counts[0])


@pytest.fixture(scope="module")
def drives(embedded: Any) -> tuple[Drive, Drive]:
    """A small drive and a large one."""
    from app import app
    from chalicelib.core import tenants

    def made() -> Tenant:
        new = tenants.create_tenant("drive")
        nobody = Client(app)
        return Tenant(new.tenant_id, new.service_key, new.jwt_secret, nobody.using(new.service_key), nobody.using(new.anon_key), nobody)

    return filled(made(), FEW), filled(made(), MANY)


@pytest.mark.parametrize("in_folder", [False, True], ids=["whole", "folder"])
@pytest.mark.parametrize("who", ["service", "owner"])
def test_a_page_of_50_among_100000_files_costs_what_one_among_1000_does(
    drives: tuple[Drive, Drive], calls: list[Call], monkeypatch: pytest.MonkeyPatch, who: str, in_folder: bool
) -> None:
    costs = []
    for drive in drives:
        client = drive.owner if who == "owner" else drive.tenant.service
        query = f"limit={PAGE}" + (f"&folderId={drive.folder}" if in_folder else "")
        made, rows, page = drive.read(monkeypatch, client, query)
        cost = counted(calls, lambda client=client, query=query: client("GET", f"/api/storage?{query}"), 200)  # type: ignore[misc]
        costs.append((made, rows, cost))
        expected = OWNED // FOLDERS if who == "owner" and in_folder else PAGE
        assert len(page["data"]) == expected
        assert made == ["Query"], "one query, of rows that are all shown but the one that tells of a next page"
        assert rows == [expected if expected < PAGE else PAGE + 1]
        counter = [GET_ITEM] if who == "service" else []
        assert cost == [QUERY, *counter], "who sees everything is told how many there are, by one more read"
        known = drive.in_folder if in_folder else drive.size
        assert page["meta"]["total"] == (known if who == "service" else None)
    assert costs[0] == costs[1]


def test_the_next_page_costs_what_the_first_did(drives: tuple[Drive, Drive], monkeypatch: pytest.MonkeyPatch) -> None:
    for drive in drives:
        for client in (drive.tenant.service, drive.owner):
            cursor = listed(client, f"limit={PAGE}")["meta"]["nextCursor"]
            made, rows, page = drive.read(monkeypatch, client, f"limit={PAGE}&cursor={cursor}")
            rest = OWNED - PAGE if client is drive.owner else PAGE
            assert (made, len(page["data"])) == (["Query"], rest)
            assert rows == [rest if client is drive.owner else PAGE + 1]


def test_a_prefix_that_few_keys_have_is_answered_by_one_query(drives: tuple[Drive, Drive], monkeypatch: pytest.MonkeyPatch) -> None:
    _, large = drives
    made, rows, page = large.read(monkeypatch, large.tenant.service, "prefix=f/09990&limit=50")
    assert (made, rows) == (["Query"], [10])
    assert [each["key"] for each in page["data"]] == [f"f/{number:06d}" for number in range(99_909, 99_899, -1)]


def test_a_search_looks_at_so_many_files_and_then_says_where_to_go_on(drives: tuple[Drive, Drive], monkeypatch: pytest.MonkeyPatch) -> None:
    assert newest.MAX_ROWS == 2000, "README tells it"
    monkeypatch.setattr(newest, "MAX_ROWS", 700)
    small, _ = drives
    made, rows, page = small.read(monkeypatch, small.tenant.service, "search=nowhere")
    assert (page["data"], sum(rows), page["meta"]["total"]) == ([], 700, None)
    assert len(made) <= 5
    made, rows, page = small.read(monkeypatch, small.tenant.service, f"search=nowhere&cursor={page['meta']['nextCursor']}")
    assert (page["data"], sum(rows), page["meta"]["nextCursor"]) == ([], FEW - 700, None)


def test_a_search_that_is_lucky_stops_when_the_page_is_full(drives: tuple[Drive, Drive], monkeypatch: pytest.MonkeyPatch) -> None:
    small, _ = drives
    _, rows, page = small.read(monkeypatch, small.tenant.service, "search=F/00&limit=50")
    assert (len(page["data"]), rows) == (PAGE, [PAGE + 1])


def test_an_owner_of_60_is_told_their_counts_by_one_query(drives: tuple[Drive, Drive], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = newest.call

    def spying(operation: str, **parameters: Any) -> dict[str, Any]:
        made.append(operation)
        return real(operation, **parameters)

    monkeypatch.setattr(newest, "call", spying)
    for drive in drives:
        made.clear()
        counts = drive.owner("GET", "/api/storage/folder-counts").json()
        assert made == ["Query"]
        assert (counts["total"], counts["root"], set(counts["byFolderId"].values())) == (OWNED, 0, {OWNED // FOLDERS})
