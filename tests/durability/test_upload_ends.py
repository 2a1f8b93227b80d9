"""The ends of uploads under faults that take longer, or come from further away, than a request."""

from typing import Any

import pytest

from chalicelib import providers, workers
from chalicelib.core import cleanup, direct, objects, parts, sessions, uploads
from chalicelib.errors import UploadExpired
from chalicelib.tables.jobs import Job
from chalicelib.tables.uploads import PartsPage, UploadSession
from tests.api.tus_client import Tus, allow, encoded, holds, id_of, refused, session
from tests.client import Client
from tests.conftest import Clock, Context, Tenant, run_job

DAY = 24 * 3600
PART = 32


@pytest.fixture
def tus(tenant: Tenant, alone: None, monkeypatch: pytest.MonkeyPatch) -> Tus:
    """A bucket `b` on a storage of small parts."""
    monkeypatch.setattr(type(providers.internal()), "min_part_bytes", PART)
    monkeypatch.setattr(sessions, "PARTS_PER_PAGE", 2)
    tenant.service.bucket("b")
    return Tus(tenant.service)


# ---- records of parts ----------------------------------------------------------------------------------
def test_the_record_of_parts_outlasts_any_upload(tus: Tus, clock: Clock) -> None:
    """A month of chunks, one each 20 hours: no lifetime may take the first of them away."""
    body = bytes(range(256)) * PART
    upload_id = tus.begin(len(body))
    for start in range(0, len(body), len(body) // 32):
        assert tus.patch(upload_id, start, body[start : start + len(body) // 32]).status == 204
        clock.advance(20 * 3600)
    assert all("forget_at" not in row.attribute_values for row in PartsPage.query(upload_id, PartsPage.item.startswith(PartsPage.PREFIX)))
    assert holds(tus.client, body)


def test_an_upload_whose_record_of_parts_is_not_whole_ends_and_makes_no_object(tus: Tus) -> None:
    upload_id = tus.begin(10 * PART)
    tus.send(upload_id, b"x" * 9 * PART, PART)
    PartsPage(upload_id, f"{PartsPage.PREFIX}00001").delete()
    assert "begin a new one" in refused(tus.patch(upload_id, 9 * PART, b"y" * PART), 410)
    assert tus.head(upload_id).status == 410
    assert tus.client.names("b") == []


def test_an_upload_whose_parts_are_gone_from_the_storage_ends(tus: Tus) -> None:
    upload_id = tus.begin(10 * PART)
    tus.send(upload_id, b"x" * 2 * PART, PART)
    found = session(upload_id)
    providers.internal().abort_multipart(found.physical_key, found.multipart_id)  # type: ignore[attr-defined]
    assert tus.patch(upload_id, 2 * PART, b"y" * PART).status == 410
    assert tus.head(upload_id).status == 410


def test_an_object_of_another_size_than_its_upload_is_not_believed(tus: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_id = tus.begin(3 * PART)
    tus.send(upload_id, b"x" * 2 * PART, PART)
    kind = type(providers.internal())
    real = kind.complete_multipart

    def losing(self: Any, key: str, multipart_id: str, parts: Any) -> None:
        real(self, key, multipart_id, parts[1:])

    monkeypatch.setattr(kind, "complete_multipart", losing)
    assert tus.patch(upload_id, 2 * PART, b"y" * PART).status == 410
    assert tus.client.names("b") == []


def test_a_refusal_uses_up_no_part_number(tus: Tus, tenant: Tenant) -> None:
    tenant.service("PUT", "/storage/buckets/b", {"allowed_mime_types": ["text/plain"]})
    upload_id = tus.begin(10 * PART, upload_metadata=encoded(bucket="b", filename="o", filetype="text/plain"))
    for _ in range(3):
        assert tus.patch(upload_id, 0, b"\x89PNG\r\n\x1a\n" + bytes(50)).status == 415
    assert (session(upload_id).next_part, session(upload_id).litter) == (1, False)


# ---- the loser of two finishers ------------------------------------------------------------------------
@pytest.fixture
def overtaken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has something happen right after the next look at bucket and object."""

    def arm(happening: Any) -> None:
        real = objects.read_current

        def looked(*arguments: Any) -> Any:
            monkeypatch.setattr(objects, "read_current", real)
            happening()
            return real(*arguments)

        monkeypatch.setattr(objects, "read_current", looked)

    return arm


@pytest.fixture
def whole(tus: Tus, monkeypatch: pytest.MonkeyPatch) -> str:
    """An upload that may not replace and lacks nothing but its end."""
    upload_id = tus.begin(3 * PART, x_upsert="false")
    tus.send(upload_id, b"x" * 2 * PART, PART)
    with monkeypatch.context() as patched:
        patched.setattr(uploads, "_finish", lambda session: session)
        assert tus.patch(upload_id, 2 * PART, b"x" * PART).status == 204
    return upload_id


def test_a_finisher_that_is_overtaken_is_told_what_the_other_was(tus: Tus, whole: str, overtaken: Any) -> None:
    overtaken(lambda: tus.head(whole))
    answer = tus.head(whole)
    assert (answer.status, answer.headers["upload-offset"]) == (200, str(3 * PART))
    assert holds(tus.client, b"x" * 3 * PART)


def test_a_confirmation_that_the_event_overtakes_needs_no_further_permission(tenant: Tenant, tus: Tus, overtaken: Any) -> None:
    """Whoever may only INSERT must not be asked for UPDATE of what his own upload has made."""
    allow(tenant, "INSERT")
    user = tenant.user()
    begun = user("POST", "/storage/upload/direct", {"bucket": "b", "path": "d", "size": 4, "upsert": False}).json()
    key = session(begun["upload_id"]).physical_key
    providers.internal().put(key, b"four", "application/octet-stream")
    overtaken(lambda: workers.bucket_objects({"Records": [{"s3": {"object": {"key": key.replace("~", "%7E")}}}]}, Context()))
    confirmed = user("POST", f"/storage/upload/{begun['upload_id']}/confirm")
    assert confirmed.status == 200
    assert confirmed.json()["id"] == tenant.service("GET", "/storage/object-info/b/d").json()["id"]


# ---- joins ---------------------------------------------------------------------------------------------
@pytest.fixture
def joined(tus: Tus) -> tuple[str, list[str]]:
    """A join that waits for its job, and its partial uploads."""
    partials = [tus.partial(b"a" * 5), tus.partial(b"b" * 6)]
    answer = tus.join(*partials)
    assert answer.status == 201
    return id_of(answer), partials


def test_partial_uploads_live_on_for_the_job_that_joins_them(tus: Tus, clock: Clock) -> None:
    partials = [tus.partial(b"a" * 5), tus.partial(b"b" * 6)]
    clock.advance(DAY - 60)
    final = id_of(tus.join(*partials))
    clock.advance(120)
    assert cleanup.run(lambda: 600)["uploads"]["freed"] == 0
    run_job(session(final).job_id)
    assert tus.client.get("b", "o").body == b"a" * 5 + b"b" * 6


def test_partial_uploads_cannot_be_given_up_while_they_are_joined(tus: Tus, joined: tuple[str, list[str]]) -> None:
    final, partials = joined
    answer = tus.delete(partials[0])
    assert refused(answer, 423) == "this upload is being joined with others; try again later\n"
    run_job(session(final).job_id)
    assert tus.delete(partials[0]).status == 204
    cleanup.run(lambda: 600)
    assert tus.client.get("b", "o").body == b"a" * 5 + b"b" * 6


def test_a_partial_upload_that_the_cleanup_is_freeing_is_joined_no_more(tus: Tus, clock: Clock) -> None:
    partial = session(tus.partial(b"a" * 5))
    stale = UploadSession(**partial.attribute_values)
    clock.advance(DAY + 3600)
    cleanup.run(lambda: 600)
    with pytest.raises(UploadExpired):
        sessions.extend(stale)


def test_a_join_whose_row_is_lost_has_no_job_left(tus: Tus, joined: tuple[str, list[str]]) -> None:
    final, _ = joined
    assert tus.delete(final).status == 204
    run_job(session(final).job_id)
    ended = Job.read(session(final).job_id)
    assert ended is not None
    assert (ended.status, ended.error) == ("failed", "the upload was given up")
    assert tus.client.names("b") == []


@pytest.mark.parametrize("metadata", [None, "bucket Yg==,filename bw=="])
def test_a_partial_upload_by_an_anon_key_is_asked_where_it_is_to_go(tus: Tus, tenant: Tenant, metadata: str | None) -> None:
    anon = Tus(tenant.anon)
    refused(anon.create(5, upload_concat="partial", upload_metadata=metadata), 403)
    allow(tenant, "INSERT")
    allow(tenant, "SELECT")
    answer = anon.create(5, upload_concat="partial", upload_metadata=metadata)
    assert answer.status == (201 if metadata else 403)


# ---- direct --------------------------------------------------------------------------------------------
def test_a_direct_upload_whose_parts_are_signed_again_lives_on(tenant: Tenant, tus: Tus, clock: Clock) -> None:
    service: Client = tenant.service
    begun = service("POST", "/storage/upload/direct", {"bucket": "b", "path": "d", "size": 3 * PART, "parts": 3}).json()
    for _ in range(3):
        clock.advance(20 * 3600)
        assert service("GET", f"/storage/upload/{begun['upload_id']}/parts?from=2&count=1").status == 200
    assert cleanup.run(lambda: 600)["uploads"]["freed"] == 0
    assert direct.URL_LIFETIME < sessions.LIFETIME


def test_an_upload_that_has_lost_its_part_numbers_ends_before_it_fills_the_memory(tus: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(providers.internal()), "max_parts", 1000)
    monkeypatch.setattr(parts, "MAX_PART", 16 * PART)
    upload_id = tus.begin(100 * PART)
    UploadSession(upload_id, UploadSession.SESSION).change([UploadSession.next_part.set(899)], UploadSession.offset == 0)
    assert tus.patch(upload_id, 0, b"x").status == 410
    assert tus.head(upload_id).status == 410
