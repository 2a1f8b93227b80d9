"""Folders: a tree of names that files are shown in, of which the storage knows nothing (CONTRACT "Files surface", FEATURES F13)."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import seam
from chalicelib.access import cache
from chalicelib.access.cache import MinuteCache
from chalicelib.core import folder_ends, folders, jobs, newest, tenants
from chalicelib.core.buckets import REQUESTS_END_WITHIN
from chalicelib.errors import Unavailable
from chalicelib.tables import table
from chalicelib.tables.folders import Folder, FolderName
from chalicelib.tables.jobs import Job
from tests.client import Answer, Client, together
from tests.conftest import Call, Clock, Tenant, run_job
from tests.durability.conftest import Stream
from tests.files.conftest import (
    ROOT,
    UNKNOWN,
    Choose,
    Killed,
    allow,
    examples,
    file_of,
    folder,
    get,
    keys,
    listed,
    patch,
    put,
    refused,
    row_of,
    run_pending,
    stored,
)

FIELDS = {"id", "name", "parentId", "ownerId", "createdAt", "updatedAt"}
DEEPEST = 32
LONGEST = "x" * 700
NO_NAMES = [
    "",
    " ",
    "\t\n",
    "\xa0",
    "a\nb",
    "a\0b",
    "a\x7f",
    "\x85",
    "\u200b",
    "a\u2028b",
    "\ud800",
    "x" * 701,
    "é" * 351,
    None,
    5,
    ["a"],
    {},
]
# Seconds after which nobody can still hold that a deleted folder is there.
SETTLED = folder_ends.SETTLED_AFTER + 1


def create(client: Client, name: Any, parent_id: Any = None) -> Answer:
    return client("POST", "/api/folders", {"name": name, "parentId": parent_id})


def change(client: Client, folder_id: str, **changes: Any) -> Answer:
    return client("PATCH", f"/api/folders/{folder_id}", changes)


def moved(client: Client, folder_id: str, parent_id: str | None) -> Answer:
    return change(client, folder_id, parentId=parent_id)


def remove(client: Client, folder_id: str) -> Answer:
    return client("DELETE", f"/api/folders/{folder_id}")


def removed(client: Client, folder_id: str) -> None:
    answer = remove(client, folder_id)
    assert (answer.status, answer.json()) == (200, {"ok": True})


def page(client: Client, cursor: str | None = None) -> tuple[list[dict[str, Any]], str | None]:
    """Folders of one answer, and where the next one begins."""
    answer = client("GET", "/api/folders" if cursor is None else f"/api/folders?cursor={cursor}")
    assert answer.status == 200, answer.body
    document = answer.json()
    assert document.keys() == {"data", "meta"}
    assert document["meta"].keys() == {"nextCursor"}
    found: list[dict[str, Any]] = document["data"]
    following: str | None = document["meta"]["nextCursor"]
    return found, following


def pages_of(client: Client) -> list[list[dict[str, Any]]]:
    """Every page of the list."""
    found, cursor = page(client)
    pages = [found]
    while cursor is not None:
        found, cursor = page(client, cursor)
        pages.append(found)
    return pages


def all_of(client: Client) -> list[dict[str, Any]]:
    """Every folder that a client sees, which are few."""
    found, following = page(client)
    assert following is None
    return found


def names_of(client: Client) -> list[str]:
    return [each["name"] for each in all_of(client)]


def shown(client: Client, folder_id: str) -> dict[str, Any]:
    """A folder as it is listed."""
    (found,) = (each for each in all_of(client) if each["id"] == folder_id)
    return found


def place_of(client: Client, folder_id: str) -> tuple[str, str | None]:
    """A folder's name and parent."""
    found = shown(client, folder_id)
    return found["name"], found["parentId"]


def folder_of(client: Client, key: str) -> str | None:
    """The id of the folder that a file is in."""
    found: str | None = file_of(client, key)["folderId"]
    return found


def named(client: Client, folder_id: str | None) -> str | None:
    """The name of a folder, None for none."""
    return None if folder_id is None else str(shown(client, folder_id)["name"])


def parents_of(client: Client) -> dict[str, str | None]:
    """Every folder's parent; fails where one is not there, or where a way up never ends."""
    parents = {each["id"]: each["parentId"] for each in all_of(client)}
    for each in parents:
        above, steps = parents[each], 0
        while above is not None:
            assert above in parents, "a folder lies in one that is not there"
            above, steps = parents[above], steps + 1
            assert steps <= len(parents), "folders lie in each other"
    return parents


def withdrawn(service: Client, policy_id: str) -> None:
    assert service("DELETE", f"/storage/policies/{policy_id}").status == 200


def remembered() -> Callable[[], None]:
    """Gives what has this process remember again what it does now, as another one still would."""
    kept = [(each, dict(each._kept)) for each in cache._caches if isinstance(each, MinuteCache)]

    def remember() -> None:
        for each, entries in kept:
            each.clear()
            each._kept.update(entries)

    return remember


def removed_alone(client: Client, folder_id: str) -> None:
    """Delete a folder by a request that ends before it has seen to what was in the folder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jobs, "work", lambda *_, **__: None)
        removed(client, folder_id)


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """The jobs that workers were asked for, and in how many seconds."""
    asked: list[tuple[str, float]] = []
    monkeypatch.setattr(jobs, "wake", lambda job_id, delay=0: asked.append((job_id, delay)))
    return asked


def settle(tenant: Tenant, clock: Clock) -> None:
    """Have the jobs look for the last time."""
    clock.advance(SETTLED)
    run_pending(tenant)


# ---- what there is -------------------------------------------------------------------------------------
def test_a_folder_is_made_and_shown(ada: Client, tenant: Tenant) -> None:
    """F13.1"""
    answer = create(ada, "photos")
    assert answer.status == 201
    made = answer.json()["data"]
    assert made.keys() == FIELDS
    assert (made["name"], made["parentId"], made["createdAt"]) == ("photos", None, made["updatedAt"])
    assert made["ownerId"] == stored(ada, "a.txt")["ownerId"]
    assert all_of(ada) == [made]
    assert create(tenant.service, "of the service").json()["data"]["ownerId"] is None


def test_a_folder_lies_in_another_or_at_the_top(ada: Client) -> None:
    """F13.1"""
    outer = folder(ada, "outer")
    assert shown(ada, folder(ada, "inner", outer))["parentId"] == outer
    assert ada("POST", "/api/folders", {"name": "no parent is told"}).json()["data"]["parentId"] is None


def test_folders_are_listed_by_name(ada: Client) -> None:
    """F13.1"""
    outer = folder(ada, "m")
    for name in ("b", "Z", "a", "é", "10", "9"):
        folder(ada, name, outer if name in ("a", "9") else None)
    assert names_of(ada) == ["10", "9", "Z", "a", "b", "m", "é"]


def test_one_sees_ones_own_folders_and_the_service_key_sees_all(ada: Client, bob: Client, service: Client) -> None:
    """F13.1"""
    made = {client: folder(client, name) for client, name in ((ada, "of ada"), (bob, "of bob"), (service, "of the service"))}
    assert names_of(ada) == ["of ada"]
    assert names_of(bob) == ["of bob"]
    assert [each["id"] for each in all_of(service)] == list(made.values())


def test_a_policy_that_lets_users_read_all_files_shows_them_all_folders(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.1: until it is withdrawn."""
    for client, name in ((ada, "of ada"), (bob, "of bob"), (tenant.service, "of the service")):
        folder(client, name)
    policy = allow(tenant.service, "SELECT")
    assert all_of(ada) == all_of(bob) == all_of(tenant.service)
    assert names_of(ada) == ["of ada", "of bob", "of the service"]
    withdrawn(tenant.service, policy)
    assert names_of(ada) == ["of ada"]


@pytest.mark.parametrize(
    ("definition", "is_seen"),
    [
        ("bucket_id = '.files' AND size = 0", True),
        ("name = 'shared/'", True),
        ("name = 'shared'", False),
        ("starts_with(name, 'shared/')", True),
        ("starts_with(name, 'other/')", False),
        ("size > 0", False),
        ("checksum IS NULL AND user_metadata IS NULL", True),
        ("created_at < now() - interval '1 day'", False),
        ("auth_role() = 'editor'", False),
    ],
)
def test_policies_see_a_folder_as_an_empty_file_of_its_makers(
    tenant: Tenant, ada: Client, bob: Client, definition: str, is_seen: bool
) -> None:
    """F13.1"""
    shared, of_bob = folder(ada, "shared"), folder(bob, "of bob")
    allow(tenant.service, "SELECT", definition)
    assert (shared in [each["id"] for each in all_of(bob)]) == is_seen
    assert of_bob in [each["id"] for each in all_of(bob)]
    assert create(bob, "inner", shared).status == (201 if is_seen else 404)
    assert remove(bob, shared).status == (403 if is_seen else 404)


def test_who_may_do_nothing_with_files_sees_and_makes_no_folders(tenant: Tenant, ada: Client, choose: Choose) -> None:
    """F13.1"""
    of_ada = folder(ada, "of ada")
    asked = [("GET", "", None), ("POST", "", {"name": "x"}), ("PATCH", f"/{of_ada}", {"name": "x"}), ("DELETE", f"/{of_ada}", None)]
    for method, path, body in asked:
        refused(tenant.anon(method, f"/api/folders{path}", body), 403, "FORBIDDEN")
        for default_tenant in ("", tenant.tenant_id):
            choose("STOWAGE_DEFAULT_TENANT", default_tenant)
            answer = tenant.nobody(method, f"/api/folders{path}", body)
            refused(answer, 401, "UNAUTHORIZED")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert names_of(ada) == ["of ada"]


def test_users_who_may_read_no_file_see_no_folders(tenant: Tenant, ada: Client) -> None:
    """F13.1"""
    of_ada = folder(ada, "of ada")
    for policy in tenant.service("GET", "/storage/policies/bucket/.files").json():
        if policy["operation"] == "SELECT":
            withdrawn(tenant.service, policy["id"])
    refused(ada("GET", "/api/folders"), 403, "FORBIDDEN")
    assert create(ada, "they still create").status == 201
    refused(create(ada, "in one that they do not see", of_ada), 404, "NOT_FOUND")
    refused(change(ada, of_ada, name="other"), 404, "NOT_FOUND")
    refused(remove(ada, of_ada), 404, "NOT_FOUND")
    assert place_of(tenant.service, of_ada) == ("of ada", None)


def test_folders_of_another_tenant_are_not_seen(ada: Client, new_tenant: Any) -> None:
    """F13.1"""
    folder(ada, "photos")
    other = new_tenant().service
    assert all_of(other) == []
    assert create(other, "photos").status == 201
    assert len(all_of(ada)) == 1


@pytest.mark.parametrize("size", [1, 3, 6, 7])
def test_whoever_sees_more_than_own_folders_is_shown_them_in_pages(
    tenant: Tenant, ada: Client, bob: Client, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13.1: each folder once."""
    monkeypatch.setattr(folders, "MAX_LISTED", size)
    made = {folder(client, f"{name} {number}") for client, name in ((ada, "a"), (bob, "b"), (tenant.service, "c")) for number in range(2)}
    allow(tenant.service, "SELECT", "auth_uid() IS NOT NULL")
    for client in (tenant.service, ada):
        pages = pages_of(client)
        assert [len(each) for each in pages] == [min(size, len(made) - start) for start in range(0, len(made), size)]
        for each in pages:
            assert [found["name"] for found in each] == sorted(found["name"] for found in each)
        assert Counter(found["id"] for each in pages for found in each) == Counter(made)


def test_whoever_sees_own_folders_alone_is_shown_them_at_once(
    tenant: Tenant, ada: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13.1: whatever they lie in, and whatever others have."""
    monkeypatch.setattr(folders, "MAX_LISTED", 2)
    outer = folder(ada, "outer")
    for number in range(5):
        folder(ada, f"{number}", outer if number % 2 else None)
        folder(bob, f"of bob {number}")
    allow(tenant.service, "SELECT", "auth_role() = 'editor'")  # for others than them
    assert page(ada) == (all_of(ada), None)
    assert names_of(ada) == ["0", "1", "2", "3", "4", "outer"]


def test_the_pages_go_on_where_a_folder_was_that_has_gone(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.1"""
    monkeypatch.setattr(folders, "MAX_LISTED", 2)
    made = sorted(folder(service, str(number)) for number in range(4))
    _, cursor = page(service)
    assert cursor is not None
    removed(service, cursor)
    found, following = page(service, cursor)
    assert ({each["id"] for each in found}, following) == (set(made[2:]), None)


def test_a_page_may_show_none_and_still_not_be_the_last(tenant: Tenant, ada: Client, bob: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.1: what policies hide is passed over."""
    monkeypatch.setattr(folders, "MAX_LISTED", 1)
    allow(tenant.service, "SELECT", "starts_with(name, 'seen')")
    for client in (bob, tenant.service):
        for number in range(2):
            folder(client, f"hidden {number}")
    seen = {folder(tenant.service, "seen"), folder(ada, "of ada")}
    pages = pages_of(ada)
    assert {found["id"] for each in pages for found in each} == seen
    assert Counter(map(len, pages)) == {0: 4, 1: 2}


@pytest.mark.parametrize("cursor", ["x", "tree", "name%23", "0", "%20", f"{UNKNOWN}0", UNKNOWN.replace("a", "A"), "g" * 36, "%00"])
def test_a_cursor_that_no_page_gave_is_refused(ada: Client, service: Client, cursor: str) -> None:
    """F13.1"""
    for client in (ada, service):
        refused(client("GET", f"/api/folders?cursor={cursor}"), 422, "VALIDATION")


def test_an_empty_cursor_is_none(ada: Client, service: Client) -> None:
    """F13.1"""
    folder(ada, "photos")
    for client in (ada, service):
        assert page(client, "") == page(client)
        assert len(page(client, "")[0]) == 1


# ---- names ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_what_cannot_name_a_folder_is_refused(ada: Client, name: Any) -> None:
    """F13.1"""
    folder_id = folder(ada, "old")
    refused(create(ada, name), 422, "VALIDATION")
    if name is not None:  # in a change it means: as it is
        refused(change(ada, folder_id, name=name), 422, "VALIDATION")
    assert names_of(ada) == ["old"]


@pytest.mark.parametrize(
    "name",
    ["photos/spring", "/", "a//b/", "..", ".", "tenants/x", "_sign/x", "100 %", "%2e", " a", "a\\b?#", "日本 ☕", LONGEST, "é" * 350],
)
def test_a_name_may_hold_whatever_can_be_printed(ada: Client, name: str) -> None:
    """F13.6"""
    made, renamed = folder(ada, name), folder(ada, "other", folder(ada, "outer"))
    assert place_of(ada, made) == (name, None)
    assert change(ada, renamed, name=name).json()["data"]["name"] == name
    refused(create(ada, name), 409, "CONFLICT")


@examples(15)
@given(name=st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=60).filter(str.strip))
def test_a_folder_has_the_very_name_that_was_given(new_tenant: Any, name: str) -> None:
    """F13.1, F13.4"""
    service = new_tenant().service
    answer = create(service, name)
    if not name.isprintable():
        refused(answer, 422, "VALIDATION")
        return
    assert answer.status == 201
    assert names_of(service) == [name]
    refused(create(service, name), 409, "CONFLICT")


def test_a_name_with_slashes_lies_in_no_folder_of_such_a_name(ada: Client) -> None:
    """F13.6"""
    folder(ada, "photos")
    assert shown(ada, folder(ada, "photos/spring"))["parentId"] is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"no JSON", b'{"name": "a", "parentId": 5}', b'{"name": "a", "parentId": ""}', b'{"parentId": null}', b'"a"']
)
def test_a_body_that_describes_no_folder_is_refused(ada: Client, body: bytes) -> None:
    """F13.1"""
    refused(ada("POST", "/api/folders", body, {"content-type": "application/json"}), 422, "VALIDATION")
    assert all_of(ada) == []


# ---- one name, one folder ------------------------------------------------------------------------------
def test_a_name_is_given_once_by_an_owner_in_a_parent(ada: Client) -> None:
    """F13.4"""
    outer, other = folder(ada, "outer"), folder(ada, "other")
    first = folder(ada, "photos", outer)
    for _ in range(2):
        error = refused(create(ada, "photos", outer), 409, "CONFLICT")
        assert error["details"]["reason"] == "FolderExists"
    assert create(ada, "photos").status == create(ada, "photos", other).status == create(ada, "Photos", outer).status == 201
    assert [each["id"] for each in all_of(ada) if (each["name"], each["parentId"]) == ("photos", outer)] == [first]


def test_everyone_gives_a_name_whatever_others_have_called_theirs(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.4"""
    allow(tenant.service, "SELECT")
    outer = folder(ada, "outer")
    for parent in (None, outer):
        made = [folder(client, "docs", parent) for client in (ada, bob, tenant.service)]
        assert len(set(made)) == 3
        for client in (ada, bob, tenant.service):
            refused(create(client, "docs", parent), 409, "CONFLICT")
        assert len([each for each in all_of(tenant.service) if (each["name"], each["parentId"]) == ("docs", parent)]) == 3


def test_who_changes_anothers_folder_meets_the_names_that_its_owner_has_given(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.4"""
    service = tenant.service
    outer, inner = folder(ada, "outer"), folder(ada, "taken")
    for client in (bob, service):
        folder(client, "free")
    each = folder(ada, "each", outer)
    refused(change(service, each, name="taken", parentId=None), 409, "CONFLICT")
    assert change(service, each, name="free", parentId=None).status == 200
    assert shown(ada, each) == shown(service, each)
    refused(create(ada, "free"), 409, "CONFLICT")
    assert create(ada, "each", outer).status == 201
    assert remove(service, inner).status == 200
    assert create(ada, "taken").status == 201
    assert names_of(bob) == ["free"]


@pytest.mark.parametrize("how", ["renamed", "moved", "deleted"])
def test_a_name_is_free_again_when_its_folder_has_gone(ada: Client, how: str) -> None:
    """F13.4"""
    first, outer = folder(ada, "photos"), folder(ada, "outer")
    if how == "renamed":
        assert change(ada, first, name="pictures").status == 200
    elif how == "moved":
        assert moved(ada, first, outer).status == 200
    else:
        removed(ada, first)
    second = folder(ada, "photos")
    assert second != first
    refused(create(ada, "photos"), 409, "CONFLICT")


def test_of_many_who_make_a_folder_of_one_name_each_owner_succeeds_once(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.4"""
    outer = folder(ada, "outer")
    allow(tenant.service, "SELECT")
    for parent in (None, outer):
        answers = together([partial(create, client, "photos", parent) for client in (ada, bob, tenant.service) * 5])
        assert Counter(answer.status for answer in answers) == {201: 3, 409: 12}
        made = [answer.json()["data"] for answer in answers if answer.status == 201]
        assert len({each["ownerId"] for each in made}) == 3
        found = [each for each in all_of(ada) if (each["name"], each["parentId"]) == ("photos", parent)]
        assert sorted(found, key=lambda each: each["id"]) == sorted(made, key=lambda each: each["id"])


def test_of_many_who_give_one_name_to_their_folders_exactly_one_succeeds(ada: Client) -> None:
    """F13.4"""
    made = [folder(ada, f"folder {number}") for number in range(6)]
    answers = together([partial(change, ada, each, name="photos") for each in made])
    assert Counter(answer.status for answer in answers) == {200: 1, 409: 5}
    assert names_of(ada).count("photos") == 1
    assert len(all_of(ada)) == 6
    assert create(ada, next(f"folder {number}" for number in range(6) if answers[number].status == 200)).status == 201


# ---- renaming and moving -------------------------------------------------------------------------------
def test_a_folder_is_renamed(ada: Client, clock: Clock) -> None:
    """F13.1"""
    outer = folder(ada, "outer")
    before = shown(ada, folder(ada, "old", outer))
    clock.advance(5)
    answer = change(ada, before["id"], name="new")
    assert (answer.status, answer.json()) == (200, {"ok": True, "data": shown(ada, before["id"])})
    after = answer.json()["data"]
    assert after == before | {"name": "new", "updatedAt": after["updatedAt"]}
    assert after["updatedAt"] > before["updatedAt"]


def test_a_folder_is_moved_and_takes_along_what_lies_in_it(ada: Client) -> None:
    """F13.1"""
    source, target = folder(ada, "source"), folder(ada, "target")
    inner = folder(ada, "inner", source)
    innermost = folder(ada, "innermost", inner)
    stored(ada, "a.txt", query=f"?folderId={inner}")
    assert moved(ada, inner, target).json()["data"]["parentId"] == target
    assert place_of(ada, innermost) == ("innermost", inner)
    assert folder_of(ada, "a.txt") == inner
    assert moved(ada, inner, None).json()["data"]["parentId"] is None
    assert place_of(ada, inner) == ("inner", None)


def test_a_folder_is_renamed_and_moved_at_once(ada: Client) -> None:
    """F13.1"""
    target, each = folder(ada, "target"), folder(ada, "old")
    folder(ada, "old", target)
    refused(moved(ada, each, target), 409, "CONFLICT")
    assert change(ada, each, name="new", parentId=target).status == 200
    assert place_of(ada, each) == ("new", target)


@pytest.mark.parametrize("changes", [{}, {"name": None}, {"name": "same"}, {"parentId": None}, {"name": "same", "parentId": None}])
def test_a_change_that_changes_nothing_is_no_conflict_with_oneself(ada: Client, changes: dict[str, Any]) -> None:
    """F13.1"""
    before = shown(ada, folder(ada, "same"))
    assert change(ada, before["id"], **changes).json() == {"ok": True, "data": before}


def test_a_name_that_another_has_is_not_taken_from_it(ada: Client) -> None:
    """F13.4"""
    outer = folder(ada, "outer")
    first, second, inner = folder(ada, "first"), folder(ada, "second"), folder(ada, "first", outer)
    before = all_of(ada)
    refused(change(ada, second, name="first"), 409, "CONFLICT")
    refused(moved(ada, inner, None), 409, "CONFLICT")
    refused(moved(ada, first, outer), 409, "CONFLICT")
    assert all_of(ada) == before


@pytest.mark.parametrize(
    "folder_id", [UNKNOWN, "x", "%20", "tree", "owner%23", "name%23%23%23photos", UNKNOWN.replace("a", "A"), "x" * 200]
)
def test_what_is_no_folder_is_not_found(ada: Client, folder_id: str) -> None:
    """F13.1"""
    folder(ada, "photos")
    refused(change(ada, folder_id, name="new"), 404, "NOT_FOUND")
    refused(moved(ada, folder_id, None), 404, "NOT_FOUND")
    refused(remove(ada, folder_id), 404, "NOT_FOUND")
    assert names_of(ada) == ["photos"]


@pytest.mark.parametrize("parent", ["unknown", "no id", "deleted", "of another tenant", "of another user", "of the service key"])
def test_a_parent_must_be_there_for_who_names_it(tenant: Tenant, ada: Client, bob: Client, new_tenant: Any, parent: str) -> None:
    """F13.1"""
    each = folder(ada, "photos")
    made: dict[str, Callable[[], str]] = {
        "unknown": lambda: UNKNOWN,
        "no id": lambda: "tree",
        "deleted": lambda: folder(ada, "deleted"),
        "of another tenant": lambda: folder(new_tenant().service, "theirs"),
        "of another user": lambda: folder(bob, "theirs"),
        "of the service key": lambda: folder(tenant.service, "theirs"),
    }
    parent_id = made[parent]()
    if parent == "deleted":
        removed(ada, parent_id)
    refused(create(ada, "new", parent_id), 404, "NOT_FOUND")
    refused(moved(ada, each, parent_id), 404, "NOT_FOUND")
    refused(change(ada, each, name="new", parentId=parent_id), 404, "NOT_FOUND")
    assert place_of(ada, each) == ("photos", None)
    assert names_of(ada) == ["photos"]


def test_a_folder_of_another_tenant_is_not_found(ada: Client, new_tenant: Any) -> None:
    """F13.1, F8.14"""
    other = new_tenant().service
    theirs = folder(other, "theirs")
    stored(ada, "a.txt")
    for client in (ada, new_tenant().service):
        refused(change(client, theirs, name="mine"), 404, "NOT_FOUND")
        refused(remove(client, theirs), 404, "NOT_FOUND")
    refused(put(ada, "b.txt", query=f"?folderId={theirs}"), 404, "NOT_FOUND")
    refused(patch(ada, "a.txt", folderId=theirs), 404, "NOT_FOUND")
    assert place_of(other, theirs) == ("theirs", None)
    assert [(each["key"], each["folderId"]) for each in listed(ada)["data"]] == [("a.txt", None)]


# ---- no circles ----------------------------------------------------------------------------------------
def test_a_folder_never_lies_in_itself(ada: Client) -> None:
    """F13.5"""
    outer = folder(ada, "outer")
    inner = folder(ada, "inner", outer)
    innermost = folder(ada, "innermost", inner)
    before = all_of(ada)
    for target in (outer, inner, innermost):
        refused(moved(ada, outer, target), 422, "VALIDATION")
    refused(change(ada, inner, name="new", parentId=innermost), 422, "VALIDATION")
    assert all_of(ada) == before


@pytest.mark.parametrize("number", [2, 3])
def test_moves_at_one_moment_never_make_a_circle(ada: Client, number: int) -> None:
    """F13.5: together they would, so the one that comes last is refused."""
    for attempt in range(6):
        made = [folder(ada, f"{attempt}.{position}") for position in range(number)]
        answers = together([partial(moved, ada, each, target) for each, target in zip(made, made[1:] + made[:1], strict=True)])
        assert Counter(answer.status for answer in answers) == {200: number - 1, 422: 1}
        parents = parents_of(ada)
        assert sum(parents[each] is not None for each in made) == number - 1


@examples(15)
@given(steps=st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 4)), max_size=12))
def test_whatever_is_moved_where_the_folders_stay_a_tree(new_tenant: Any, steps: list[tuple[int, int | None]]) -> None:
    """F13.5"""
    service = new_tenant().service
    made = [folder(service, str(number)) for number in range(5)]
    expected: dict[int, int | None] = dict.fromkeys(range(5))

    def above(each: int | None) -> list[int]:
        return [] if each is None else [each, *above(expected[each])]

    for each, target in steps:
        makes_a_circle = each in above(target)
        answer = moved(service, made[each], None if target is None else made[target])
        assert answer.status == (422 if makes_a_circle else 200)
        if not makes_a_circle:
            expected[each] = target
    ids = {None: None, **dict(enumerate(made))}
    assert parents_of(service) == {made[each]: ids[target] for each, target in expected.items()}


# ---- how deep ------------------------------------------------------------------------------------------
def chain(client: Client, length: int, name: str = "c") -> list[str]:
    """So many folders, each in the one before."""
    made: list[str] = []
    for number in range(length):
        made.append(folder(client, f"{name}{number}", made[-1] if made else None))
    return made


def test_folders_lie_in_each_other_32_deep_and_no_deeper(service: Client) -> None:
    """F13.1"""
    made, other = chain(service, DEEPEST), folder(service, "other")
    refused(create(service, "too deep", made[-1]), 422, "VALIDATION")
    refused(moved(service, other, made[-1]), 422, "VALIDATION")
    assert moved(service, other, made[-2]).status == 200
    assert len(all_of(service)) == DEEPEST + 1


def test_a_move_takes_no_folder_deeper_than_32(service: Client) -> None:
    """F13.1: what counts is the deepest of what lies in it."""
    upper, lower = chain(service, 20), chain(service, 16, "d")
    refused(moved(service, lower[0], upper[-1]), 422, "VALIDATION")
    assert moved(service, lower[0], upper[DEEPEST - 16 - 1]).status == 200


def test_what_lies_in_a_folder_that_has_gone_is_no_deeper_for_it(service: Client) -> None:
    """F13.1"""
    made, other = chain(service, DEEPEST), folder(service, "other")
    removed_alone(service, made[0])
    deepest = folder(service, "one more", made[-1])
    refused(create(service, "too deep", deepest), 422, "VALIDATION")
    refused(moved(service, folder(service, "inner", other), deepest), 422, "VALIDATION")
    refused(moved(service, made[1], other), 422, "VALIDATION")
    assert moved(service, made[3], other).status == 200


# ---- who may -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seen", [False, True], ids=["hidden", "seen"])
def test_a_folder_is_changed_and_deleted_by_its_maker_and_the_service_key_alone(
    tenant: Tenant, ada: Client, bob: Client, seen: bool
) -> None:
    """F13.1: for others it is not there, or if they see it they may not."""
    first, second, of_service = folder(ada, "first"), folder(ada, "second"), folder(tenant.service, "of the service")
    if seen:
        allow(tenant.service, "SELECT", "auth_uid() IS NOT NULL")
    before, told = all_of(tenant.service), (403, "FORBIDDEN") if seen else (404, "NOT_FOUND")
    for client, folder_id, error in (
        (bob, first, told),
        (ada, of_service, told),
        (bob, of_service, told),
        (tenant.anon, first, (403, "FORBIDDEN")),
    ):
        refused(change(client, folder_id, name="other"), *error)
        refused(moved(client, folder_id, second), *error)
        refused(remove(client, folder_id), *error)
    assert all_of(tenant.service) == before
    assert change(ada, first, name="by ada").status == change(tenant.service, second, name="by the service").status == 200
    assert remove(tenant.service, first).status == remove(ada, second).status == remove(tenant.service, of_service).status == 200


def test_whom_a_policy_lets_change_all_files_changes_all_folders(tenant: Tenant, ada: Client) -> None:
    """F13.1"""
    of_ada, editor = folder(ada, "of ada"), tenant.user(sub="eve", role="editor")
    allow(tenant.service, "UPDATE", "auth_role() = 'editor'")
    refused(change(editor, of_ada, name="other"), 404, "NOT_FOUND")  # they do not see it
    allow(tenant.service, "SELECT", "auth_role() = 'editor'")
    assert change(editor, of_ada, name="other").status == 200
    assert shown(ada, of_ada) == shown(editor, of_ada)
    refused(remove(editor, of_ada), 403, "FORBIDDEN")


def test_users_make_folders_and_file_in_those_of_others_where_they_see_them(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.1"""
    of_ada, other = folder(ada, "of ada"), folder(bob, "other")
    stored(bob, "a.txt")
    policy = allow(tenant.service, "SELECT")
    of_bob = folder(bob, "of bob", of_ada)
    assert place_of(ada, of_bob) == ("of bob", of_ada)
    assert shown(ada, of_bob)["ownerId"] == stored(bob, "b.txt", query=f"?folderId={of_ada}")["ownerId"]
    assert patch(bob, "a.txt", folderId=of_ada).status == moved(bob, other, of_ada).status == 200
    refused(change(ada, of_bob, name="of ada"), 403, "FORBIDDEN")
    withdrawn(tenant.service, policy)
    assert place_of(bob, of_bob) == ("of bob", of_ada)
    assert change(bob, of_bob, name="renamed where it lies").status == 200
    assert {key: folder_of(bob, key) for key in ("a.txt", "b.txt")} == {"a.txt": of_ada, "b.txt": of_ada}
    assert names_of(ada) == ["of ada"]


def test_nobody_files_in_a_folder_of_anothers(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.1, F8.20"""
    before = stored(ada, "a.txt")
    for theirs in (folder(bob, "theirs"), folder(tenant.service, "theirs")):
        refused(put(ada, "b.txt", query=f"?folderId={theirs}"), 404, "NOT_FOUND")
        refused(put(ada, "a.txt", query=f"?folderId={theirs}"), 404, "NOT_FOUND")
        refused(patch(ada, "a.txt", folderId=theirs), 404, "NOT_FOUND")
        assert keys(ada, f"folderId={theirs}") == []
    assert [(each["key"], each["version"], each["folderId"]) for each in listed(ada)["data"]] == [("a.txt", before["version"], None)]


def test_the_service_key_files_in_all_folders(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.1, F8.20"""
    stored(ada, "a.txt")
    of_bob = folder(bob, "of bob")
    assert patch(tenant.service, "a.txt", folderId=of_bob).json()["data"]["folderId"] == of_bob
    assert stored(tenant.service, "b.txt", query=f"?folderId={of_bob}")["folderId"] == of_bob
    inner = folder(tenant.service, "of the service", of_bob)
    assert moved(tenant.service, folder(ada, "of ada"), inner).status == 200
    assert folder_of(ada, "a.txt") == of_bob
    assert names_of(bob) == ["of bob"]


# ---- the storage knows nothing of it -------------------------------------------------------------------
def test_folders_are_metadata_alone(ada: Client, tenant: Tenant, clock: Clock, calls: list[Call]) -> None:
    """F13.2: not one request to the storage, whatever becomes of folders and of what is in them."""
    stored(ada, "photos/a.txt")
    first, second = folder(ada, "first"), folder(ada, "second")
    calls.clear()
    patch(ada, "photos/a.txt", folderId=first)
    change(ada, first, name="renamed")
    moved(ada, first, second)
    all_of(ada)
    keys(ada, f"folderId={first}")
    removed(ada, first)
    settle(tenant, clock)
    assert {call.service for call in calls} <= {"dynamodb", "sqs"}
    assert get(ada, "photos/a.txt").body == b"bytes"


# ---- deleting ------------------------------------------------------------------------------------------
def test_deleting_a_folder_leaves_its_files_in_none_and_as_they_were(ada: Client, bob: Client, tenant: Tenant) -> None:
    """F13.3"""
    allow(tenant.service, "SELECT")
    gone, kept = folder(ada, "gone"), folder(ada, "kept")
    for client, key in ((ada, "of ada.txt"), (bob, "of bob.txt")):
        stored(client, key, key.encode(), f"?folderId={gone}&acl=public", x_metadata="eyJrIjoxfQ==")
    stored(ada, "other.txt", query=f"?folderId={kept}")
    before = {each["key"]: each for each in listed(tenant.service)["data"]}
    rows = {key: row_of(tenant, key) for key in before}
    removed(ada, gone)
    after = {each["key"]: each for each in listed(tenant.service)["data"]}
    assert after == {key: each | {"folderId": kept if key == "other.txt" else None} for key, each in before.items()}
    for key, row in rows.items():
        now = row_of(tenant, key)
        assert row is not None
        assert now is not None
        assert now.physical_key == row.physical_key
        assert get(tenant.service, key).body == (b"bytes" if key == "other.txt" else key.encode())
    assert keys(tenant.service, f"folderId={gone}") == []
    assert sorted(keys(tenant.service, f"folderId={ROOT}")) == ["of ada.txt", "of bob.txt"]
    assert names_of(ada) == ["kept"]


def test_a_deleted_folder_is_not_found(ada: Client) -> None:
    """F13.1"""
    gone = folder(ada, "gone")
    stored(ada, "a.txt", query=f"?folderId={gone}")
    removed(ada, gone)
    refused(remove(ada, gone), 404, "NOT_FOUND")
    refused(change(ada, gone, name="again"), 404, "NOT_FOUND")
    refused(put(ada, "b.txt", query=f"?folderId={gone}"), 404, "NOT_FOUND")
    refused(patch(ada, "a.txt", folderId=gone), 404, "NOT_FOUND")


@pytest.mark.parametrize("level", ["top", "inside"])
def test_deleting_a_folder_lifts_its_folders_to_where_it_lay(ada: Client, level: str) -> None:
    """F13.3"""
    outer = folder(ada, "outer") if level == "inside" else None
    gone = folder(ada, "gone", outer)
    first, second = folder(ada, "first", gone), folder(ada, "second", gone)
    innermost = folder(ada, "innermost", first)
    stored(ada, "a.txt", query=f"?folderId={first}")
    removed(ada, gone)
    assert (place_of(ada, first), place_of(ada, second)) == (("first", outer), ("second", outer))
    assert place_of(ada, innermost) == ("innermost", first)
    assert folder_of(ada, "a.txt") == first
    refused(create(ada, "first", outer), 409, "CONFLICT")


def test_a_folder_is_lifted_under_another_name_where_its_own_is_taken(ada: Client, bob: Client) -> None:
    """F13.3: by its own owner; what others have called theirs does not matter."""
    taken = [folder(ada, "photos"), folder(ada, "videos"), folder(ada, "videos (2)")]
    folder(bob, "music")
    gone = folder(ada, "gone")
    photos, videos, music = (folder(ada, name, gone) for name in ("photos", "videos", "music"))
    removed(ada, gone)
    assert [place_of(ada, each) for each in (photos, videos, music)] == [("photos (2)", None), ("videos (3)", None), ("music", None)]
    assert [place_of(ada, each)[0] for each in taken] == ["photos", "videos", "videos (2)"]
    refused(create(ada, "photos (2)"), 409, "CONFLICT")
    assert create(ada, "photos (3)").status == create(bob, "photos (2)").status == 201


def test_folders_of_others_are_lifted_as_their_owners_own(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F13.3"""
    policy = allow(tenant.service, "SELECT")
    gone = folder(bob, "gone")
    for client, name in ((ada, "docs"), (bob, "docs (2)"), (tenant.service, "docs (2)")):
        folder(client, name)
    lifted = {client: folder(client, "docs", gone) for client in (ada, bob, tenant.service)}
    withdrawn(tenant.service, policy)
    removed(bob, gone)
    found = [place_of(client, each) for client, each in lifted.items()]
    assert found == [("docs (2)", None), ("docs", None), ("docs", None)]
    assert len(all_of(tenant.service)) == 6


@pytest.mark.parametrize("taken", [19, 20, 21])
@pytest.mark.parametrize("name", ["photos", LONGEST], ids=["short", "longest"])
def test_a_folder_that_is_lifted_is_numbered_up_to_20_and_then_told_apart_by_its_id(ada: Client, name: str, taken: int) -> None:
    """F13.3"""
    gone = folder(ada, "gone")
    inner = folder(ada, name, gone)
    for number in range(1, taken + 1):
        suffix = f" ({number})" if number > 1 else ""
        folder(ada, name[: 700 - len(suffix)] + suffix)
    removed(ada, gone)
    suffix = f" ({taken + 1 if taken < 20 else inner})"
    assert place_of(ada, inner) == (name[: 700 - len(suffix)] + suffix, None)
    assert names_of(ada).count(name) == 1


def test_a_folder_is_lifted_even_where_all_names_are_taken_that_it_could_get(
    ada: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13.3: a name that was given in advance never keeps a deletion from its end."""
    gone = folder(ada, "gone")
    inner = folder(ada, "photos", gone)
    for suffix in ("", *(f" ({number})" for number in range(2, 21)), f" ({inner})"):
        folder(ada, f"photos{suffix}")
    real, left = table.call, 200

    def patient(operation: str, **parameters: Any) -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed  # it would go on for ever
        return real(operation, **parameters)

    with monkeypatch.context() as patched:
        patched.setattr(table, "call", patient)
        removed(ada, gone)
    settle(tenant, clock)
    assert place_of(ada, inner)[1] is None
    assert len(set(names_of(ada))) == 22


def test_folders_of_one_name_that_are_lifted_at_one_moment_are_told_apart(ada: Client, tenant: Tenant, clock: Clock) -> None:
    """F13.3"""
    folder(ada, "photos")
    outer = [folder(ada, f"outer {number}") for number in range(4)]
    inner = [folder(ada, "photos", each) for each in outer]
    answers = together([partial(remove, ada, each) for each in outer])
    assert {answer.status for answer in answers} == {200}
    settle(tenant, clock)
    assert {place_of(ada, each) for each in inner} == {(f"photos ({number})", None) for number in range(2, 6)}
    assert len(all_of(ada)) == 5


def test_a_folder_is_lifted_by_its_own_name_when_what_it_lay_in_has_its_name(ada: Client) -> None:
    """F13.3: the name of the deleted one is free."""
    gone = folder(ada, "photos")
    inner = folder(ada, "photos", gone)
    removed(ada, gone)
    assert place_of(ada, inner) == ("photos", None)


@pytest.mark.parametrize("name", ["x" * 120, LONGEST, "é" * 350], ids=["long", "longest", "longest in two bytes each"])
def test_a_long_name_is_lifted_with_as_much_of_it_as_there_is_room_for(ada: Client, name: str) -> None:
    """F13.3"""
    folder(ada, name)
    gone = folder(ada, "gone")
    inner = folder(ada, name, gone)
    removed(ada, gone)
    lifted, parent = place_of(ada, inner)
    assert parent is None
    assert lifted.endswith(" (2)")
    assert name.startswith(lifted.removesuffix(" (2)"))
    assert len(lifted.encode()) <= 700
    if len(name.encode()) + len(" (2)") <= 700:
        assert lifted == f"{name} (2)"


def test_what_lies_in_folders_that_go_one_after_the_other_ends_at_the_top(ada: Client, tenant: Tenant, clock: Clock) -> None:
    """F13.3: the outer one goes before the inner one's folders were lifted into it."""
    outer = folder(ada, "outer")
    middle = folder(ada, "middle", outer)
    inner = folder(ada, "inner", middle)
    removed_alone(ada, middle)
    removed(ada, outer)
    settle(tenant, clock)
    assert place_of(ada, inner) == ("inner", None)


WITH_AN_ORPHAN: dict[str, tuple[int, Callable[[Client, str, str], Answer]]] = {
    "rename it": (200, lambda client, orphan, _: change(client, orphan, name="renamed")),
    "move it to the top": (200, lambda client, orphan, _: moved(client, orphan, None)),
    "move it into another": (200, lambda client, orphan, other: moved(client, orphan, other)),
    "make one in it": (201, lambda client, orphan, _: create(client, "new", orphan)),
    "move another into it": (200, lambda client, orphan, other: moved(client, other, orphan)),
    "file in it": (201, lambda client, orphan, _: put(client, "a.txt", query=f"?folderId={orphan}")),
    "delete it": (200, lambda client, orphan, _: remove(client, orphan)),
    "take its name at the top": (201, lambda client, orphan, _: create(client, "orphan", None)),
}


@pytest.mark.parametrize("act", WITH_AN_ORPHAN)
def test_a_folder_whose_parent_has_gone_counts_as_at_the_top_until_it_is_lifted(
    ada: Client, tenant: Tenant, clock: Clock, act: str
) -> None:
    """F13.3: the request was killed before it had lifted it."""
    outer, other = folder(ada, "outer"), folder(ada, "other")
    gone = folder(ada, "gone", outer)
    orphan = folder(ada, "orphan", gone)
    inner = folder(ada, "inner", orphan)
    removed_alone(ada, gone)
    status, ask = WITH_AN_ORPHAN[act]
    assert ask(ada, orphan, other).status == status
    settle(tenant, clock)
    assert parents_of(ada)[inner] == (None if act == "delete it" else orphan)
    if act != "delete it":
        parent = {"move it to the top": None, "move it into another": other}.get(act, outer)
        assert place_of(ada, orphan) == ("renamed" if act == "rename it" else "orphan", parent)


def test_a_move_before_a_folder_is_lifted_never_makes_a_circle(ada: Client, tenant: Tenant, clock: Clock) -> None:
    """F13.5: what it will be lifted into may not come to lie in it."""
    outer = folder(ada, "outer")
    gone = folder(ada, "gone", outer)
    orphan = folder(ada, "orphan", gone)
    inner = folder(ada, "inner", orphan)
    removed_alone(ada, gone)
    assert moved(ada, outer, inner).status == 200
    settle(tenant, clock)
    assert parents_of(ada) == {orphan: None, inner: orphan, outer: inner}


def test_deleting_a_folder_of_many_files_goes_on_when_the_request_has_ended(
    ada: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13.3"""
    monkeypatch.setattr(folder_ends, "MOVED_AT_ONCE", 3)
    monkeypatch.setattr(folder_ends, "AT_ONCE", 0)
    gone = folder(ada, "gone")
    for number in range(8):
        stored(ada, f"{number}.txt", query=f"?folderId={gone}")
    removed(ada, gone)
    assert all_of(ada) == []
    assert len(keys(ada, f"folderId={gone}")) == 5
    run_pending(tenant)
    assert keys(ada, f"folderId={gone}") == []
    assert len(keys(ada, f"folderId={ROOT}")) == 8
    settle(tenant, clock)
    assert run_pending(tenant) == []


def test_a_folder_of_more_files_than_go_at_once_is_emptied_by_one_request(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.3"""
    monkeypatch.setattr(folder_ends, "MOVED_AT_ONCE", 3)
    gone = folder(ada, "gone")
    for number in range(7):
        stored(ada, f"{number}.txt", query=f"?folderId={gone}")
    removed(ada, gone)
    assert len(keys(ada, f"folderId={ROOT}")) == 7


def test_deleting_a_folder_of_many_folders_lifts_them_all(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.3"""
    monkeypatch.setattr(folder_ends, "MOVED_AT_ONCE", 2)
    gone = folder(ada, "gone")
    inner = {folder(ada, str(number), gone): str(number) for number in range(5)}
    stored(ada, "a.txt", query=f"?folderId={gone}")
    removed(ada, gone)
    assert {each: place_of(ada, each) for each in inner} == {each: (name, None) for each, name in inner.items()}
    assert folder_of(ada, "a.txt") is None


def test_a_file_that_is_filed_in_a_folder_after_its_end_is_taken_out_by_a_second_look(ada: Client, tenant: Tenant, clock: Clock) -> None:
    """F13.3: for a minute another process still believes that the folder is there."""
    gone = folder(ada, "photos")
    stored(ada, "early.txt", query=f"?folderId={gone}")
    remember = remembered()
    removed(ada, gone)
    remember()
    for key in ("late.txt", "later.txt"):
        assert stored(ada, key, query=f"?folderId={gone}")["folderId"] == gone
        if key == "late.txt":
            assert len(run_pending(tenant)) == 1  # a look, which cannot be the last yet
            assert folder_of(ada, key) is None
    settle(tenant, clock)
    assert {each["folderId"] for each in listed(ada)["data"]} == {None}
    assert run_pending(tenant) == []


def test_that_one_has_used_a_folder_opens_it_to_nobody_else(tenant: Tenant, ada: Client, bob: Client) -> None:
    """F8.20: that it is there is remembered, for those who see it."""
    of_ada = folder(ada, "of ada")
    stored(ada, "a.txt", query=f"?folderId={of_ada}")
    stored(tenant.service, "b.txt", query=f"?folderId={of_ada}")
    refused(put(bob, "c.txt", query=f"?folderId={of_ada}"), 404, "NOT_FOUND")


def test_a_deletion_wakes_a_worker_before_it_sees_to_what_was_in_the_folder(
    ada: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch, woken: list[tuple[str, float]]
) -> None:
    """F13.3: killed there, the request has not left it to the hourly cleanup."""

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    gone = folder(ada, "gone")
    inner = folder(ada, "inner", gone)
    stored(ada, "a.txt", query=f"?folderId={gone}")
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "work", killed)
        with pytest.raises(Killed):
            remove(ada, gone)
    ((job_id, delay),) = woken
    assert delay == jobs.LEASE + REQUESTS_END_WITHIN  # not while the request itself may be at it, or hold it though it has died
    clock.advance(delay)
    run_job(job_id)
    assert place_of(ada, inner) == ("inner", None)
    assert folder_of(ada, "a.txt") is None
    settle(tenant, clock)
    assert ada("GET", f"/jobs/{job_id}").json()["status"] == "done"


@pytest.mark.parametrize("what", ["folders", "files"])
def test_a_deletion_goes_on_when_the_tables_are_to_be_had_again_however_long_that_takes(
    ada: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch, woken: list[tuple[str, float]], what: str
) -> None:
    """F13.3: what was in the folder would else be in none that is there for ever."""
    gone = folder(ada, "gone")
    inner = folder(ada, "inner", gone) if what == "folders" else None
    if what == "files":
        stored(ada, "a.txt", query=f"?folderId={gone}")
    real = table.call

    def busy(operation: str, **parameters: Any) -> dict[str, Any]:
        """Refuses what is written of folders, or of files, after the folder itself has gone and its job has come."""
        begins = any("job_id" in write.get("Put", {}).get("Item", {}) for write in parameters.get("TransactItems", ()))
        if not begins and operation == ("TransactWriteItems" if what == "folders" else "PutItem"):
            raise Unavailable("the table is busy; try again shortly")
        return real(operation, **parameters)

    with monkeypatch.context() as patched:
        patched.setattr(table, "call", busy)
        removed(ada, gone)
        assert gone not in [each["id"] for each in all_of(ada)]
        (job_id,) = {job for job, _ in woken}
        for _ in range(jobs.MAX_FAILURES + 2):
            assert woken[-1] == (job_id, folder_ends.AGAIN_AFTER)
            woken.clear()
            clock.advance(folder_ends.AGAIN_AFTER)
            run_job(job_id)
        job = ada("GET", f"/jobs/{job_id}").json()
        assert (job["status"], job["error"]) == ("queued", None)
        assert inner is None or place_of(ada, inner) == ("inner", gone)
    clock.advance(folder_ends.AGAIN_AFTER)
    run_job(job_id)
    if inner is None:
        assert folder_of(ada, "a.txt") is None
    else:
        assert place_of(ada, inner) == ("inner", None)
    settle(tenant, clock)
    assert ada("GET", f"/jobs/{job_id}").json()["status"] == "done"


def test_a_deletion_that_is_killed_anywhere_goes_on(tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.3: the folder is there with all that it had, or it goes for good."""
    client, real, step, survived = tenant.service, table.call, 0, False
    while not survived:
        name = f"folder {step}"
        gone, files = folder(client, name), [f"{step}.{number}" for number in range(2)]
        inner = folder(client, f"inner {step}", gone)
        for key in files:
            stored(client, key, query=f"?folderId={gone}")
        left = step

        def dying(operation: str, **parameters: Any) -> dict[str, Any]:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(operation, **parameters)

        monkeypatch.setattr(table, "call", dying)
        try:
            removed(client, gone)
            survived = True
        except Killed:
            step += 1
        finally:
            monkeypatch.setattr(table, "call", real)
        clock.advance(jobs.LEASE + 1)
        run_pending(tenant)
        is_there = name in names_of(client)
        assert {folder_of(client, key) for key in files} == {gone if is_there else None}
        assert place_of(client, inner)[1] == (gone if is_there else None)
        if is_there:
            assert create(client, name).status == 409
    assert step > 8  # it died in the middle too
    assert not is_there
    settle(tenant, clock)
    assert run_pending(tenant) == []


def test_of_two_who_delete_a_folder_one_is_told_that_it_is_gone(ada: Client) -> None:
    """F13.1"""
    gone = folder(ada, "gone")
    stored(ada, "a.txt", query=f"?folderId={gone}")
    answers = together([partial(remove, ada, gone)] * 2)
    assert sorted(answer.status for answer in answers) == [200, 404]
    assert folder_of(ada, "a.txt") is None


def test_what_comes_into_a_folder_while_it_is_deleted_is_not_lost(ada: Client, tenant: Tenant, clock: Clock) -> None:
    """F13.3"""
    for attempt in range(5):
        gone, other = folder(ada, f"gone {attempt}"), folder(ada, f"other {attempt}")
        answers = together(
            [
                partial(remove, ada, gone),
                partial(create, ada, f"new {attempt}", gone),
                partial(moved, ada, other, gone),
                partial(put, ada, f"{attempt}.txt", query=f"?folderId={gone}"),
            ]
        )
        assert answers[0].status == 200
        assert {answer.status for answer in answers[1:]} <= {200, 201, 404}
    settle(tenant, clock)
    assert set(parents_of(ada).values()) <= {None}
    assert {each["folderId"] for each in listed(ada)["data"]} <= {None}


def test_the_folders_of_a_deleted_tenant_go_with_it(new_tenant: Any, clock: Clock) -> None:
    """F13.1"""
    other: Tenant = new_tenant()
    inner = folder(other.service, "inner", folder(other.service, "outer"))
    stored(other.service, "photos/a.txt")
    removed(other.service, inner)
    admin = other.nobody.using(tenants.create_admin_key())
    job_id = admin("DELETE", f"/admin/tenants/{other.tenant_id}").json()["job_id"]
    run_job(job_id)
    clock.advance(tenants.SETTLED_AFTER + 1)
    run_job(job_id)
    assert [item for page in Folder.pages_of(other.tenant_id) for item in page] == []


# ---- a file's folder -----------------------------------------------------------------------------------
def test_a_file_is_in_the_folder_that_its_key_names(ada: Client) -> None:
    """F8.20"""
    first = stored(ada, "photos/spring/a.jpg")
    assert place_of(ada, first["folderId"]) == ("photos/spring", None)
    assert shown(ada, first["folderId"])["ownerId"] == first["ownerId"]
    assert stored(ada, "photos/spring/b.jpg")["folderId"] == first["folderId"]
    assert named(ada, stored(ada, "photos/c.jpg")["folderId"]) == "photos"
    assert stored(ada, "d.jpg")["folderId"] is None
    assert names_of(ada) == ["photos", "photos/spring"]


def test_a_file_is_filed_in_a_folder_of_its_owners_that_was_there_before(ada: Client, bob: Client, service: Client) -> None:
    """F8.20"""
    made = folder(ada, "photos/spring")
    inner = folder(ada, "photos", made)
    assert stored(ada, "photos/spring/a.jpg")["folderId"] == made
    assert stored(ada, "photos/b.jpg")["folderId"] not in (None, inner)
    for client, key in ((bob, "photos/spring/of bob.jpg"), (service, "photos/spring/of the service.jpg")):
        assert names_of(bob) == ([] if client is bob else ["photos/spring"])
        file = stored(client, key)
        assert file["folderId"] != made
        assert place_of(client, file["folderId"]) == ("photos/spring", None)
        assert shown(client, file["folderId"])["ownerId"] == file["ownerId"]
    assert len([name for name in names_of(service) if name == "photos/spring"]) == 3


def test_a_file_that_is_put_anew_is_filed_for_its_new_owner(ada: Client, bob: Client) -> None:
    """F8.20"""
    first = stored(ada, "photos/a.jpg")
    ada("DELETE", "/api/storage/photos/a.jpg")
    second = stored(bob, "photos/a.jpg")
    assert second["folderId"] != first["folderId"]
    assert [each["id"] for each in all_of(bob)] == [second["folderId"]]
    assert [each["id"] for each in all_of(ada)] == [first["folderId"]]


@pytest.mark.parametrize("key", ["a\u200bb/c.jpg", "\xa0/c.jpg"], ids=ascii)
def test_a_key_whose_folder_could_have_no_name_is_in_none(ada: Client, key: str) -> None:
    """F8.20: a file is never refused for its folder."""
    assert stored(ada, key)["folderId"] is None
    assert all_of(ada) == []


def test_a_folder_that_is_chosen_wins_over_the_one_that_the_key_names(ada: Client) -> None:
    """F8.20"""
    chosen = folder(ada, "chosen")
    assert stored(ada, "photos/a.jpg", query=f"?folderId={chosen}")["folderId"] == chosen
    assert names_of(ada) == ["chosen"]


def test_a_file_may_be_kept_out_of_all_folders(ada: Client) -> None:
    """F8.20"""
    assert stored(ada, "photos/a.jpg", query=f"?folderId={ROOT}")["folderId"] is None
    assert all_of(ada) == []


@pytest.mark.parametrize("folder_id", [UNKNOWN, "x", "root", "tree", "owner%23"])
def test_a_folder_that_is_chosen_must_be_there(ada: Client, folder_id: str) -> None:
    """F8.20"""
    refused(put(ada, "photos/a.jpg", query=f"?folderId={folder_id}"), 404, "NOT_FOUND")
    assert keys(ada) == names_of(ada) == []


def test_an_overwrite_leaves_a_file_in_its_folder(ada: Client, service: Client) -> None:
    """F8.20"""
    chosen, other = folder(ada, "chosen"), folder(ada, "other")
    stored(ada, "photos/a.jpg", query=f"?folderId={chosen}")
    assert stored(ada, "photos/a.jpg", b"new")["folderId"] == chosen
    assert stored(service, "photos/a.jpg", b"newer")["folderId"] == chosen
    stored(ada, "photos/b.jpg", query=f"?folderId={ROOT}")
    assert stored(ada, "photos/b.jpg", b"new")["folderId"] is None
    assert stored(ada, "photos/a.jpg", query=f"?folderId={other}")["folderId"] == other
    assert stored(ada, "photos/a.jpg", query=f"?folderId={ROOT}")["folderId"] is None
    assert names_of(ada) == ["chosen", "other"]


def test_a_file_is_moved_between_folders(ada: Client) -> None:
    """F8.14, F8.20, F13.6"""
    first, second = folder(ada, "first"), folder(ada, "second")
    before = stored(ada, "a.txt", query=f"?folderId={first}")
    for nowhere in (None, ROOT):
        assert patch(ada, "a.txt", folderId=second).json()["data"]["folderId"] == second
        assert [keys(ada, f"folderId={each}") for each in (first, second, ROOT)] == [[], ["a.txt"], []]
        assert patch(ada, "a.txt", folderId=nowhere).json()["data"]["folderId"] is None
        assert [keys(ada, f"folderId={each}") for each in (first, second, ROOT)] == [[], [], ["a.txt"]]
    assert file_of(ada, "a.txt")["version"] == before["version"]
    patch(ada, "a.txt", folderId=second)
    assert patch(ada, "a.txt", acl="public").json()["data"]["folderId"] == second


@pytest.mark.parametrize("how", ["anon", "over another's", "no overwrite", "reserved", "too large"])
def test_a_file_that_is_refused_makes_no_folder(tenant: Tenant, ada: Client, bob: Client, how: str, choose: Choose) -> None:
    """F8.20"""
    stored(ada, "photos/a.jpg", query=f"?folderId={ROOT}")
    if how == "too large":
        choose("STOWAGE_MAX_UPLOAD_SIZE", "3")
    act, status = {
        "anon": (lambda: put(tenant.anon, "new/a.jpg"), 403),
        "over another's": (lambda: put(bob, "photos/a.jpg"), 403),
        "no overwrite": (lambda: put(ada, "photos/a.jpg", x_upsert="false"), 409),
        "reserved": (lambda: put(ada, "tenants/x/a.jpg"), 422),
        "too large": (lambda: put(ada, "new/a.jpg"), 413),
    }[how]
    assert act().status == status
    assert all_of(ada) == []


def test_files_that_come_at_once_into_a_new_folder_make_it_once_for_each_owner(ada: Client, bob: Client, service: Client) -> None:
    """F8.20, F13.4"""
    for attempt in range(3):
        answers = together([partial(put, client, f"photos {attempt}/{number}.jpg") for number, client in enumerate((ada, bob) * 4)])
        assert {answer.status for answer in answers} == {201}
        filed = {(answer.json()["data"]["ownerId"], answer.json()["data"]["folderId"]) for answer in answers}
        assert len(filed) == len({owner for owner, _ in filed}) == 2
        assert filed == {(each["ownerId"], each["id"]) for each in all_of(service) if each["name"] == f"photos {attempt}"}


@pytest.mark.parametrize("by", ["this process", "another process"])
@pytest.mark.parametrize("how", ["renamed", "moved", "deleted"])
def test_a_new_file_makes_the_folder_anew_that_its_key_names(ada: Client, how: str, by: str) -> None:
    """F8.20: what had the name before has it no more, from that moment on."""
    first = stored(ada, "photos/a.jpg")["folderId"]
    assert stored(ada, "photos/b.jpg", query=f"?folderId={first}")["folderId"] == first
    remember = remembered()
    if how == "renamed":
        assert change(ada, first, name="pictures").status == 200
    elif how == "moved":
        assert moved(ada, first, folder(ada, "outer")).status == 200
    else:
        removed(ada, first)
    if by == "another process":
        remember()
    second = stored(ada, "photos/c.jpg")["folderId"]
    assert second != first
    assert place_of(ada, second) == ("photos", None)


@pytest.mark.parametrize("how", ["renamed", "moved"])
def test_a_new_file_is_filed_in_a_folder_that_has_just_got_the_name_that_its_key_names(ada: Client, how: str) -> None:
    """F8.20"""
    first = stored(ada, "photos/a.jpg")["folderId"]
    other = folder(ada, "pictures") if how == "renamed" else folder(ada, "photos", folder(ada, "outer"))
    remember = remembered()
    assert change(ada, first, name="old photos").status == 200
    assert (change(ada, other, name="photos") if how == "renamed" else moved(ada, other, None)).status == 200
    remember()
    assert stored(ada, "photos/b.jpg")["folderId"] == other


# ---- how many ------------------------------------------------------------------------------------------
def test_one_has_only_so_many_folders(service: Client, ada: Client, bob: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.1, F8.20: one more is refused, but no file is; and nobody takes another's room."""
    assert folders.MAX_FOLDERS == 2000
    monkeypatch.setattr(folders, "MAX_FOLDERS", 3)
    for client in (ada, service):
        first = folder(client, "first")
        answers = together([partial(create, client, str(number)) for number in range(6)])
        assert Counter(answer.status for answer in answers) == {201: 2, 422: 4}
        error = refused(create(client, "one more", first), 422, "VALIDATION")
        assert error["message"].startswith("one has at most 3 folders")
        key = "photos/a.jpg" if client is ada else "photos/b.jpg"
        assert stored(client, key)["folderId"] is None
        assert change(client, first, name="still renamed").status == 200
        refused(create(client, "still renamed"), 409, "CONFLICT")
        removed(client, first)
        assert named(client, stored(client, f"new {key}")["folderId"]) == "new photos"
        refused(create(client, "one more"), 422, "VALIDATION")
    assert [create(bob, str(number)).status for number in range(4)] == [201, 201, 201, 422]


def test_a_folder_is_counted_for_its_owner_whatever_becomes_of_it(service: Client, ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.1"""
    monkeypatch.setattr(folders, "MAX_FOLDERS", 4)
    outer = folder(ada, "outer")
    inner, innermost = (folder(ada, "inner", outer), folder(ada, "other", outer))
    folder(ada, "inner")
    assert moved(service, innermost, inner).status == change(service, inner, name="renamed").status == 200
    refused(create(ada, "one more"), 422, "VALIDATION")
    removed(service, outer)
    assert len(all_of(ada)) == 3
    answers = together([partial(remove, client, inner) for client in (ada, ada, service)])
    assert Counter(answer.status for answer in answers) == {200: 1, 404: 2}
    assert [create(ada, str(number)).status for number in range(3)] == [201, 201, 422]
    assert [create(service, str(number)).status for number in range(5)] == [201, 201, 201, 201, 422]


# ---- counts --------------------------------------------------------------------------------------------
def counts(client: Client) -> dict[str, Any]:
    answer = client("GET", "/api/storage/folder-counts")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def counted(root: int, by_folder: dict[str, int], complete: bool = True) -> dict[str, Any]:
    return {"root": root, "byFolderId": by_folder, "total": root + sum(by_folder.values()), "complete": complete}


def test_a_users_files_are_counted_at_once(ada: Client, bob: Client) -> None:
    """F8.19"""
    assert counts(ada) == counted(0, {})
    photos = stored(ada, "photos/a.jpg")["folderId"]
    stored(ada, "photos/b.jpg")
    stored(ada, "c.jpg")
    empty = folder(ada, "empty")
    of_bob = stored(bob, "photos/d.jpg")["folderId"]
    assert counts(ada) == counted(1, {photos: 2})
    assert counts(bob) == counted(0, {of_bob: 1})
    patch(ada, "c.jpg", folderId=empty)
    ada("DELETE", "/api/storage/photos/b.jpg")
    assert counts(ada) == counted(0, {photos: 1, empty: 1})
    removed(ada, photos)
    assert counts(ada) == counted(1, {empty: 1})


def test_all_files_are_counted_for_the_service_key(tenant: Tenant, ada: Client, bob: Client, stream: Stream) -> None:
    """F8.19: two owners' folders of one name are two."""
    photos, of_bob, empty = folder(ada, "photos"), folder(bob, "photos"), folder(ada, "empty")
    assert counts(tenant.service) == counted(0, {photos: 0, of_bob: 0, empty: 0})
    for client, key in ((ada, "photos/a.jpg"), (bob, "photos/b.jpg"), (bob, "c.jpg"), (ada, "d.jpg"), (ada, "photos/e.jpg")):
        stored(client, key)
    stream.deliver()
    assert counts(tenant.service) == counted(2, {photos: 2, of_bob: 1, empty: 0})
    patch(ada, "photos/a.jpg", folderId=empty)
    stored(ada, "d.jpg", b"an overwrite counts once")
    bob("DELETE", "/api/storage/c.jpg")
    stream.deliver()
    assert counts(tenant.service) == counted(1, {photos: 1, of_bob: 1, empty: 1})
    removed(ada, photos)
    stream.deliver()
    assert counts(tenant.service) == counted(2, {of_bob: 1, empty: 1})


KEYS, FOLDERS = range(4), range(3)
ACTS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.none() | st.sampled_from(FOLDERS)),
    st.tuples(st.just("move"), st.sampled_from(KEYS), st.none() | st.sampled_from(FOLDERS)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS), st.none()),
    st.tuples(st.just("delete the folder"), st.just(0), st.sampled_from(FOLDERS)),
)


def cleared(client: Client) -> Client:
    """The same client, of a drive in which there is nothing any more."""
    for key in keys(client, "limit=200"):
        client("DELETE", f"/api/storage/{key}")
    for each in all_of(client):
        removed(client, each["id"])
    return client


@examples(15)
@given(acts=st.lists(ACTS, max_size=12))
def test_whatever_becomes_of_files_the_counts_are_right(
    tenant: Tenant, ada: Client, stream: Stream, acts: list[tuple[str, int, int | None]]
) -> None:
    """F8.19"""
    service = cleared(tenant.service)
    ids = {number: folder(ada, str(number)) for number in FOLDERS}
    files: dict[str, str] = {}
    for act, number, place in acts:
        key, target = f"{number}.txt", ids.get(place, ROOT) if place is not None else ROOT
        if act == "put":
            stored(ada, key, query=f"?folderId={target}")
            files[key] = target
        elif act == "move":
            assert patch(ada, key, folderId=target).status == (200 if key in files else 404)
            files |= {key: target} if key in files else {}
        elif act == "delete":
            assert ada("DELETE", f"/api/storage/{key}").status == (200 if key in files else 404)
            files.pop(key, None)
        elif place in ids:
            gone = ids.pop(place)
            removed(ada, gone)
            files = {each: ROOT if of == gone else of for each, of in files.items()}
    stream.deliver()
    by_folder = Counter(files.values())
    in_none = by_folder.pop(ROOT, 0)
    assert counts(ada) == counted(in_none, dict(by_folder))
    assert counts(service) == counted(in_none, dict.fromkeys(ids.values(), 0) | by_folder)


def test_counts_say_when_there_were_too_many_to_count(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.19"""
    monkeypatch.setattr(newest, "MAX_COUNTED", 3)
    photos = stored(ada, "photos/0.jpg")["folderId"]
    for key in ("photos/1.jpg", "2.jpg"):
        stored(ada, key)
    assert counts(ada) == counted(1, {photos: 2})
    stored(ada, "3.jpg")
    assert (counts(ada)["total"], counts(ada)["complete"]) == (3, False)


def test_counts_are_for_those_who_may_read_files(tenant: Tenant, choose: Choose) -> None:
    """F8.19"""
    refused(tenant.anon("GET", "/api/storage/folder-counts"), 403, "FORBIDDEN")
    refused(tenant.nobody("GET", "/api/storage/folder-counts"), 401, "UNAUTHORIZED")
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    refused(tenant.nobody("GET", "/api/storage/folder-counts"), 401, "UNAUTHORIZED")


def test_counting_never_brings_a_deleted_folder_back(tenant: Tenant, ada: Client, stream: Stream) -> None:
    """F8.19: what is told of a folder after its end is told to nobody."""
    photos = stored(ada, "photos/a.jpg")["folderId"]
    records = stream.records()
    removed(ada, photos)
    stream.deliver(records)
    stream.deliver()
    assert Folder.read(tenant.tenant_id, photos) is None
    assert all_of(ada) == []
    assert counts(tenant.service) == counted(1, {})


def test_counters_do_not_stand_in_the_way_of_a_rename(ada: Client, service: Client, stream: Stream) -> None:
    """F8.19: nor does a rename lose what was counted."""
    photos = stored(ada, "photos/a.jpg")["folderId"]
    stream.deliver()
    assert change(ada, photos, name="pictures").status == 200
    stored(ada, "b.jpg", query=f"?folderId={photos}")
    stream.deliver()
    assert counts(service) == counted(0, {photos: 2})


def test_a_job_that_deletes_is_told_to_its_starter(ada: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.3"""
    monkeypatch.setattr(folder_ends, "AT_ONCE", 0)
    gone = folder(ada, "gone")
    stored(ada, "a.txt", query=f"?folderId={gone}")
    removed(ada, gone)
    (job_id,) = run_pending(tenant)
    job = ada("GET", f"/jobs/{job_id}").json()
    assert (job["kind"], job["done"], job["error"]) == (folder_ends.JOB, 1, None)
    assert Job.read(job_id) is not None


# ---- however many folders others have ---------------------------------------------------------------------
@pytest.mark.parametrize("act", ["rename", "move", "delete"])
def test_what_is_done_to_a_folder_costs_the_same_however_many_there_are(
    ada: Client, bob: Client, calls: list[Call], clock: Clock, act: str
) -> None:
    """F13.5"""
    costs = []
    for others in (2, 120):
        for number in range(others):
            folder(bob, f"{others}-{number}")
        outer, other = folder(ada, f"outer-{others}"), folder(ada, f"other-{others}")
        folder(ada, f"inner-{others}", outer)
        stored(ada, f"{others}.txt", query=f"?folderId={outer}")
        calls.clear()
        answer = {
            "rename": lambda outer=outer: change(ada, outer, name=f"renamed {seam.new_uuid()}"),
            "move": lambda outer=outer, other=other: moved(ada, outer, other),
            "delete": lambda outer=outer: remove(ada, outer),
        }[act]()
        assert answer.status == 200, answer.body
        costs.append(list(calls))
    assert costs[0] == costs[1]


def test_a_rename_moves_nothing_in_the_tree(ada: Client, tenant: Tenant) -> None:
    """F13.5: so that it waits for nobody who moves folders."""
    outer, inner = folder(ada, "outer"), folder(ada, "inner")
    assert moved(ada, inner, outer).status == 200
    before = folders.tree_of(tenant.tenant_id).revision
    assert change(ada, inner, name="renamed").status == 200
    assert folders.tree_of(tenant.tenant_id).revision == before
    assert moved(ada, inner, None).status == 200
    assert folders.tree_of(tenant.tenant_id).revision == before + 1


def test_a_file_for_whose_folder_nothing_can_be_found_is_in_none(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F8.20: a folder is never a reason to refuse a file."""

    def unavailable(*_: Any) -> None:
        raise Unavailable("the table is busy; try again shortly")

    monkeypatch.setattr(FolderName, "read", unavailable)
    assert stored(ada, "photos/a.jpg")["folderId"] is None


def test_counts_of_more_folders_than_are_read_say_that_they_are_not_whole(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.3"""
    monkeypatch.setattr(newest, "MAX_COUNTED", 3)
    for number in range(3):
        folder(service, str(number))
    counted = service("GET", "/api/storage/folder-counts").json()
    assert (len(counted["byFolderId"]), counted["complete"]) == (3, True)
    folder(service, "one more")
    counted = service("GET", "/api/storage/folder-counts").json()
    assert (len(counted["byFolderId"]), counted["complete"]) == (3, False)


def test_a_total_is_never_less_than_nothing(tenant: Tenant, service: Client) -> None:
    """F13.3: the stream may tell of what goes before it tells of what came."""
    folder_id = folder(service, "f")
    Folder(tenant.tenant_id, folder_id).change([Folder.object_count.set(-2)], Folder.folder_id.exists())
    assert listed(service, f"folderId={folder_id}")["meta"]["total"] == 0
    assert service("GET", "/api/storage/folder-counts").json()["byFolderId"] == {folder_id: 0}


def test_what_an_index_shows_too_long_is_waited_for(
    ada: Client, tenant: Tenant, clock: Clock, woken: list[tuple[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13.6: files that are taken out of a folder may still be shown in it, and children in one that they have left."""
    gone = folder(ada, "gone")
    folder(ada, "inner", gone)
    stored(ada, "a.txt", query=f"?folderId={gone}")
    children, files = folders.children(tenant.tenant_id, gone, 9), [row_of(tenant, "a.txt")]
    removed_alone(ada, gone)
    job_id = woken[-1][0]
    monkeypatch.setattr(
        folders, "children", lambda tenant_id, folder_id, most: folders._read(tenant_id, [each.folder_id for each in children])
    )
    monkeypatch.setattr(folder_ends, "_filed_in", lambda bucket, folder_id: list(files))
    for shown_too_long in (children, files):
        run_job(job_id)
        assert woken[-1] == (job_id, folder_ends.INDEX_LAG)
        shown_too_long.clear()
    settle(tenant, clock)
    job = ada("GET", f"/jobs/{job_id}").json()
    assert (job["status"], job["done"], folder_of(ada, "a.txt")) == ("done", 2, None)


def test_a_folder_that_is_met_under_two_names_is_one(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13.1: one that is renamed while names are read."""
    ids = {folder(ada, "a"), folder(ada, "b")}
    real = FolderName.pages
    monkeypatch.setattr(FolderName, "pages", lambda **query: ([*page, *page] for page in real(**query)))
    assert sorted(each["id"] for each in all_of(ada)) == sorted(ids)
