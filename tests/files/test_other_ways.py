"""Files written by other ways than the drive's own PUT: the storage surface reaches the bucket `.files` too (FEATURES F8.12, F8.13, F8.20).

However bytes come, they are under the same rules: nobody takes another's file over, what the service key writes over stays its
owner's, and a new file is private and in the folder that its key names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import quote

import pytest

from chalicelib.providers.s3 import S3
from chalicelib.tables.buckets import FILES
from tests.api import test_direct as direct
from tests.api.test_objects import FORM, form
from tests.api.test_objects import encoded as as_header
from tests.api.test_resumable import Uploads as Resumable
from tests.api.tus_client import Tus, encoded, id_of, session
from tests.client import Answer, Client
from tests.conftest import Tenant, run_job
from tests.files.conftest import ROOT, TEXT, delete, file_of, folder, get, keys, listed, row_of, stored, uid_of
from tests.files.test_import import at, fetched, head, sending
from tests.files.test_uploads import Uploads
from tests.issuer import Web

KEY = "docs/x"
# The longer one comes in two parts of the storage, see `small_parts`.
SHORT, LONG = b"bytes", b"more than one part of the storage"
# What no overwrite changes of a file that says nothing of it.
KEPT = ("id", "key", "ownerId", "acl", "folderId", "metadata", "uploadedAt")


@dataclass(frozen=True)
class Attempt:
    """Bytes that somebody writes under a key; `meanwhile` happens when all but the last request of it are answered."""

    web: Web
    client: Client
    body: bytes
    key: str = KEY
    meanwhile: Callable[[], object] = lambda: None

    def seen(self) -> Answer:
        """What the client is told of the file, for ways whose end nobody answers."""
        return self.client("GET", f"/storage/object-info/{FILES}/{quote(self.key)}")


# ---- the ways ------------------------------------------------------------------------------------------
def by_body(attempt: Attempt) -> Answer:
    return attempt.client.put(FILES, attempt.key, attempt.body, "text/plain")


def by_form(attempt: Attempt) -> Answer:
    return attempt.client("POST", f"/storage/object/{FILES}/{quote(attempt.key)}", form(("file", "x", "text/plain", attempt.body)), FORM)


def by_copy(attempt: Attempt) -> Answer:
    stored(attempt.client, "source", attempt.body, f"?folderId={ROOT}")
    wanted = {"bucket": FILES, "from": "source", "to": attempt.key}
    return attempt.client("POST", "/storage/object/copy", wanted, {"x-upsert": "true"})


def by_signed_url(attempt: Attempt) -> Answer:
    signed = attempt.client("POST", "/storage/signed-upload-url", {"bucket": FILES, "path": attempt.key, "upsert": True})
    assert signed.status == 200, signed.body
    attempt.meanwhile()
    return attempt.client.using("")("PUT", signed.json()["signed_url"], attempt.body, TEXT)


def by_resumable(attempt: Attempt) -> Answer:
    uploads, half = Resumable(attempt.client), len(attempt.body) // 2
    begun = uploads.create(bucket=FILES, path=attempt.key, size=len(attempt.body))
    if begun.status != 201:
        return begun
    upload_id = begun.json()["upload_id"]
    for start, chunk in ((0, attempt.body[:half]), (half, attempt.body[half:])):
        assert uploads.append(upload_id, start, chunk).status == 200
    attempt.meanwhile()
    return uploads.complete(upload_id)


def _put_directly(attempt: Attempt, **fields: Any) -> tuple[Answer, dict[str, Any]]:
    """The answer to the beginning of a direct upload, and what it says, once the bytes lie in the storage."""
    answer = direct.ask(attempt.client, attempt.key, len(attempt.body), bucket=FILES, content_type="text/plain", **fields)
    begun: dict[str, Any] = answer.json()
    if answer.status != 201:
        return answer, begun
    if "url" in begun:
        assert direct.put(begun, attempt.body) == 200
    for place, part in enumerate(begun.get("parts", ())):
        start = place * begun["part_size"]
        assert direct.put_part(part, attempt.body[start : start + part["size"]])[0] == 200
    attempt.meanwhile()
    return answer, begun


def by_direct(attempt: Attempt, **fields: Any) -> Answer:
    answer, begun = _put_directly(attempt, **fields)
    return direct.confirm(attempt.client, begun) if answer.status == 201 else answer


def by_event(attempt: Attempt) -> Answer:
    """A direct upload that nobody confirms: the bucket tells of it."""
    answer, begun = _put_directly(attempt)
    if answer.status != 201:
        return answer
    direct.deliver(direct.key_of(begun))
    return attempt.seen()


def _by_chunks(attempt: Attempt, tus: Tus, metadata: str) -> Answer:
    half = len(attempt.body) // 2
    begun = tus.create(len(attempt.body), upload_metadata=metadata)
    if begun.status != 201:
        return begun
    assert tus.patch(id_of(begun), 0, attempt.body[:half]).status == 204
    attempt.meanwhile()
    return tus.patch(id_of(begun), half, attempt.body[half:])


def by_tus(attempt: Attempt) -> Answer:
    return _by_chunks(attempt, Tus(attempt.client), encoded(bucket=FILES, filename=attempt.key))


def by_tus_of_files(attempt: Attempt) -> Answer:
    return _by_chunks(attempt, Uploads(attempt.client), encoded(key=attempt.key))


def by_tus_at_once(attempt: Attempt) -> Answer:
    return Tus(attempt.client).create(len(attempt.body), attempt.body, upload_metadata=encoded(bucket=FILES, filename=attempt.key))


def by_joining(attempt: Attempt) -> Answer:
    """Two partial uploads, which a job joins."""
    tus = Tus(attempt.client)
    begun = tus.join(tus.partial(attempt.body[:2]), tus.partial(attempt.body[2:]), upload_metadata=encoded(bucket=FILES, path=attempt.key))
    if begun.status != 201:
        return begun
    attempt.meanwhile()
    run_job(session(id_of(begun)).job_id)
    return attempt.seen()


def by_import(attempt: Attempt) -> Answer:
    def answering(request: BaseHTTPRequestHandler) -> None:
        attempt.meanwhile()
        sending(head(f"Content-Length: {len(attempt.body)}", "Content-Type: text/plain") + attempt.body)(request)

    attempt.web.handler = answering
    return fetched(attempt.client, at(attempt.web, "/x"), key=attempt.key)


@dataclass(frozen=True)
class Way:
    """A way to write a file; `refused` is what is told where that is only at its end."""

    act: Callable[[Attempt], Answer]
    body: bytes = SHORT
    refused: int = 403


AT_ONCE = {"body": Way(by_body), "form": Way(by_form), "copy": Way(by_copy), "tus at once": Way(by_tus_at_once)}
IN_STEPS = {
    "signed url": Way(by_signed_url),
    "resumable": Way(by_resumable),
    "resumable in parts": Way(by_resumable, LONG),
    "direct": Way(by_direct),
    "direct in parts": Way(partial(by_direct, parts=2), LONG),
    "event": Way(by_event, refused=404),
    "tus": Way(by_tus),
    "tus in parts": Way(by_tus, LONG),
    "tus joined": Way(by_joining, refused=404),
    "tus of files": Way(by_tus_of_files),
    "tus of files in parts": Way(by_tus_of_files, LONG),
    "import": Way(by_import),
}
WAYS = AT_ONCE | IN_STEPS
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
every_way_in_steps = pytest.mark.parametrize("way", IN_STEPS.values(), ids=IN_STEPS)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage takes so small parts that LONG makes two."""
    monkeypatch.setattr(S3, "min_part_bytes", 10)


def of_ada(ada: Client) -> dict[str, Any]:
    """A file that ada stores, of which everything is another than a new one's by default."""
    return stored(ada, KEY, b"of ada", f"?acl=public&folderId={folder(ada, 'label')}", x_metadata=as_header({"of": "ada"}))


def is_as_it_was(tenant: Tenant, ada: Client, before: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether nothing at all has changed of ada's file."""
    after = row_of(tenant, KEY)
    assert after is not None
    assert after.attribute_values == row
    assert file_of(ada, KEY) == before
    return get(ada, KEY).body == b"of ada"


def attributes(tenant: Tenant) -> dict[str, Any]:
    """All that the row of the file says."""
    row = row_of(tenant, KEY)
    assert row is not None
    found: dict[str, Any] = row.attribute_values
    return found


# ---- over what others have -----------------------------------------------------------------------------
@every_way
def test_nobody_takes_a_file_over_by_writing_over_it(tenant: Tenant, ada: Client, bob: Client, web: Web, way: Way) -> None:
    """F8.13"""
    before = of_ada(ada)
    row = attributes(tenant)
    answer = way.act(Attempt(web, bob, way.body))
    assert answer.status == 403, answer.body
    assert is_as_it_was(tenant, ada, before, row)
    assert get(bob, KEY).status == 404


@pytest.mark.parametrize("had_one", [False, True], ids=["nothing before", "own file before"])
@every_way_in_steps
def test_a_file_that_another_stores_while_one_writes_is_not_taken_over(
    tenant: Tenant, ada: Client, bob: Client, web: Web, way: Way, had_one: bool
) -> None:
    """F8.13: what was there when it began says nothing of who may end it."""
    came: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def meanwhile() -> None:
        if had_one:
            assert delete(bob, KEY).status == 200
        came.append((of_ada(ada), attributes(tenant)))

    if had_one:
        stored(bob, KEY, b"of bob")
    answer = way.act(Attempt(web, bob, way.body, meanwhile=meanwhile))
    assert answer.status == way.refused, answer.body
    ((before, row),) = came
    assert is_as_it_was(tenant, ada, before, row)
    assert get(bob, KEY).status == 404


# ---- by the service key --------------------------------------------------------------------------------
@every_way
def test_a_file_that_the_service_key_writes_over_stays_its_owners_and_as_it_was_filed(
    ada: Client, service: Client, web: Web, way: Way
) -> None:
    """F8.13"""
    before = of_ada(ada)
    answer = way.act(Attempt(web, service, way.body))
    assert answer.status < 300, answer.body
    after = file_of(ada, KEY)
    expected = before | ({"acl": "private", "metadata": None} if way == WAYS["copy"] else {})  # a copy is nobody's to see yet
    assert {name: after[name] for name in KEPT} == {name: expected[name] for name in KEPT}
    assert (after["size"], after["version"] > before["version"]) == (len(way.body), True)
    assert get(ada, KEY).body == way.body


@every_way_in_steps
def test_a_file_that_came_while_the_service_key_wrote_stays_its_owners(ada: Client, service: Client, web: Web, way: Way) -> None:
    """F8.13"""
    came: list[dict[str, Any]] = []
    answer = way.act(Attempt(web, service, way.body, meanwhile=lambda: came.append(of_ada(ada))))
    assert answer.status < 300, answer.body
    (before,), after = came, file_of(ada, KEY)
    assert {name: after[name] for name in KEPT} == {name: before[name] for name in KEPT}
    assert get(ada, KEY).body == way.body


# ---- what is new ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("who", ["ada", "service"])
@every_way
def test_a_new_file_is_private_in_its_owners_folder_and_listed(
    tenant: Tenant, ada: Client, bob: Client, web: Web, way: Way, who: str
) -> None:
    """F8.12, F8.20"""
    client, owner_id = (ada, uid_of(tenant, "ada")) if who == "ada" else (tenant.service, None)
    theirs = stored(bob, "docs/of bob")["folderId"]
    answer = way.act(Attempt(web, client, way.body))
    assert answer.status < 300, answer.body
    file = file_of(client, KEY)
    assert (file["ownerId"], file["acl"], file["metadata"], file["size"]) == (owner_id, "private", None, len(way.body))
    (made,) = [each for each in client("GET", "/api/folders").json()["data"] if each["id"] != theirs]
    assert (made["name"], made["ownerId"], made["id"]) == ("docs", owner_id, file["folderId"])
    assert keys(client, f"folderId={made['id']}") == [KEY]
    assert get(client, KEY).body == way.body
    assert keys(bob) == ["docs/of bob"]


# ---- what is no way ------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_the_storage_surface_takes_objects_by_post_alone(ada: Client, method: str) -> None:
    """F8.1"""
    answer = ada(method, f"/storage/object/{FILES}/{KEY}", SHORT, TEXT)
    assert (answer.status, answer.code) == (405, "MethodNotAllowed")
    assert "POST" in answer.headers["allow"]
    assert listed(ada)["data"] == []
