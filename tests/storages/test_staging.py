"""Large downloads from servers that hand out no URLs: copies in the internal storage, made once, kept for a day (`core/staging.py`)."""

import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib import providers, seam
from chalicelib.core import jobs, keeping, staging
from chalicelib.core.jobs import Step
from chalicelib.errors import BytesMissing
from chalicelib.settings import settings
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import scan
from tests.api.tus_client import noise
from tests.client import Answer, Client
from tests.conftest import Clock, Tenant, run_job
from tests.images.pictures import photograph, saved

HOUR = 3600
BODY = b"0123456789"
KINDS = ("sftp", "ftp")
ON = {"*": KINDS}
Choose = Callable[[str, str], None]


class Killed(BaseException):
    """The worker's process ends here."""


@pytest.fixture
def large(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Client:
    """An object `o` of ten bytes in a public bucket `b`, where one answer carries five."""
    tenant.service.bucket("b", public=True)
    assert tenant.service.put("b", "o", BODY, "text/plain").status == 201
    limit(monkeypatch, 5)
    return tenant.service


@contextmanager
def unlimited() -> Iterator[None]:
    """What is sent may be as large as ever."""
    with pytest.MonkeyPatch.context() as patched:
        limit(patched, 4_400_000)
        yield
    settings.cache_clear()


def limit(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """As `choose` does it, which would take back the settings that storages need here."""
    monkeypatch.setenv("STOWAGE_MAX_BODY", str(size))
    settings.cache_clear()


def row_of(tenant: Tenant, name: str = "o") -> StoredObject:
    found = Bucket.read(tenant.tenant_id, "b")
    assert found is not None
    row = StoredObject.read(found.partition, name)
    assert row is not None
    return row


def jobs_of(tenant: Tenant) -> list[Job]:
    rows = (Job.from_raw_data(item) for page in scan(Job) for item in page)
    return [row for row in rows if row.tenant_id == tenant.tenant_id and row.kind == staging.JOB]


def run_staging(tenant: Tenant) -> None:
    for job in jobs_of(tenant):
        if job.pending:
            run_job(job.job_id)


def is_staging(answer: Answer) -> bool:
    if answer.status != 503:
        return False
    assert answer.code == "Staging"
    assert int(answer.headers["retry-after"]) >= 1
    return True


def follow(answer: Answer) -> tuple[bytes, str]:
    assert answer.status == 302, answer.body
    assert answer.headers["cache-control"] == "no-store"
    with urllib.request.urlopen(answer.headers["location"], timeout=10) as got:
        return got.read(), got.headers["Content-Type"]


def staged(tenant: Tenant, name: str = "o") -> list[str]:
    return [listed.key for listed in providers.internal().list(staging.key_of(row_of(tenant, name)))]


def parts_of(job: Job, tenant: Tenant) -> int | None:
    """How many parts the internal storage holds of the copy that a job makes, None: there is no such upload any more."""
    internal: Any = providers.internal()
    with suppress(BytesMissing):
        return len(internal.list_parts(staging.key_of(row_of(tenant)), job.checkpoint["upload_id"]))
    return None


# ---- the way of a download -----------------------------------------------------------------------------------------
def test_ranges_within_the_limit_need_no_copy(large: Client, tenant: Tenant) -> None:
    for header, part in (("bytes=0-4", BODY[:5]), ("bytes=-3", BODY[-3:]), ("bytes=7-", BODY[7:])):
        answer = large.get("b", "o", Range=header)
        assert (answer.status, answer.body) == (206, part)
    head = large("HEAD", "/storage/object/b/o")
    assert (head.status, head.headers["x-object-size"]) == (200, "10")
    assert large.get("b", "o", If_None_Match=head.headers["etag"]).status == 304
    assert large.get("b", "o", Range="bytes=99-").status == 416
    assert (jobs_of(tenant), staged(tenant)) == ([], [])


def test_the_whole_is_staged_once_and_then_redirected_to(large: Client, tenant: Tenant) -> None:
    assert is_staging(large.get("b", "o"))
    assert is_staging(large.get("b", "o"))
    assert is_staging(large.get("b", "o", Range="bytes=1-8"))
    (job,) = jobs_of(tenant)
    run_job(job.job_id)
    assert follow(large.get("b", "o")) == (BODY, "text/plain")
    location = large.get("b", "o", Range="bytes=1-8").headers["location"]
    with urllib.request.urlopen(urllib.request.Request(location, headers={"Range": "bytes=1-8"}), timeout=10) as got:
        assert (got.status, got.read()) == (206, BODY[1:9])
    assert len(staged(tenant)) == 1
    assert [each.status for each in jobs_of(tenant)] == ["done"]
    assert large("HEAD", "/storage/object/b/o").status == 200


def test_the_url_tells_nothing_of_the_tenants_storage(large: Client, tenant: Tenant) -> None:
    large.get("b", "o")
    run_staging(tenant)
    parts = urlsplit(large.get("b", "o").headers["location"])
    assert parts.path == f"/{settings().s3_bucket}/{staging.key_of(row_of(tenant))}"
    shown = tenant.service("GET", f"/api/v1/backups/storage-configs/{row_of(tenant).storage_id}").json()
    assert str(shown["port"]) != str(parts.port)


def test_many_at_once_start_one_job(large: Client, tenant: Tenant) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: large.get("b", "o"), range(16)))
    assert all(is_staging(answer) for answer in answers)
    assert len(jobs_of(tenant)) == 1
    run_staging(tenant)
    with ThreadPoolExecutor(8) as pool:
        assert {follow(answer)[0] for answer in pool.map(lambda _: large.get("b", "o"), range(8))} == {BODY}


def test_public_and_signed_urls_are_staged_too(large: Client, tenant: Tenant) -> None:
    public = f"/storage/public/{tenant.tenant_id}/b/o"
    with unlimited():
        signed = large("POST", "/storage/signed-url", {"bucket": "b", "path": "o", "expires_in": 60}).json()
    path = signed["signed_url"]
    for way in (public, path):
        assert is_staging(tenant.nobody("GET", way))
        assert tenant.nobody("HEAD", way).status == 200
    assert len(jobs_of(tenant)) == 1
    run_staging(tenant)
    for way in (public, path):
        assert follow(tenant.nobody("GET", way)) == (BODY, "text/plain")
    location = tenant.nobody("GET", path).headers["location"]
    assert int(parse_qs(urlsplit(location).query)["X-Amz-Expires"][0]) <= 60


def test_the_copy_is_served_as_safely_as_the_object(large: Client, tenant: Tenant) -> None:
    with unlimited():
        large.put("b", "page.html", b"<script>x</script>", "text/javascript")
    large.get("b", "page.html")
    run_staging(tenant)
    answer = large.get("b", "page.html")
    with urllib.request.urlopen(answer.headers["location"], timeout=10) as got:
        assert got.headers["Content-Type"] == "application/octet-stream"
        assert got.headers["Content-Disposition"].startswith("attachment")


def test_who_may_not_read_starts_no_job(large: Client, tenant: Tenant) -> None:
    with unlimited():
        large("PUT", "/storage/buckets/b", {"visibility": "private"})
    assert tenant.nobody("GET", f"/storage/public/{tenant.tenant_id}/b/o").status == 404
    assert tenant.user().get("b", "o").status in (403, 404)
    assert large.get("b", "absent").status == 404
    assert jobs_of(tenant) == []


# ---- what a copy is of, and for how long ---------------------------------------------------------------------------
def test_an_overwritten_object_gets_a_copy_of_its_own(large: Client, tenant: Tenant) -> None:
    large.get("b", "o")
    run_staging(tenant)
    first = large.get("b", "o")
    with unlimited():
        assert large.put("b", "o", b"another ten", "text/csv").status == 200
    assert is_staging(large.get("b", "o"))
    run_staging(tenant)
    assert follow(large.get("b", "o")) == (b"another ten", "text/csv")
    assert follow(first)[0] == BODY  # a URL that was handed out goes on to mean what it meant
    assert len(jobs_of(tenant)) == 2


def test_a_move_needs_no_other_copy(large: Client, tenant: Tenant) -> None:
    large.get("b", "o")
    run_staging(tenant)
    with unlimited():
        large("POST", "/storage/object/move", {"bucket": "b", "from": "o", "to": "p"})
    assert follow(large.get("b", "p"))[0] == BODY


def test_a_copy_is_not_used_when_it_may_soon_be_gone(large: Client, tenant: Tenant, clock: Clock) -> None:
    large.get("b", "o")
    run_staging(tenant)
    clock.advance(19 * HOUR)
    assert follow(large.get("b", "o"))[0] == BODY
    clock.advance(1 * HOUR + 60)
    assert is_staging(large.get("b", "o"))
    assert [job.status for job in jobs_of(tenant)] == ["queued"]  # the one that was done, begun anew
    run_staging(tenant)
    assert [job.status for job in jobs_of(tenant)] == ["done"]


def test_a_copy_that_is_gone_or_not_whole_is_made_again(large: Client, tenant: Tenant) -> None:
    large.get("b", "o")
    run_staging(tenant)
    for spoil in (
        lambda key: providers.internal().delete([key]),
        lambda key: providers.internal().put(key, BODY[:-1], "text/plain"),
    ):
        spoil(staging.key_of(row_of(tenant)))
        assert is_staging(large.get("b", "o"))
        run_staging(tenant)
        assert follow(large.get("b", "o"))[0] == BODY


# ---- the job -------------------------------------------------------------------------------------------------------
STEPS = 4


@pytest.mark.parametrize("effect", ["lost", "kept"])
@pytest.mark.parametrize("killed_at", range(STEPS))
def test_a_job_that_was_killed_goes_on(
    large: Client, tenant: Tenant, clock: Clock, monkeypatch: pytest.MonkeyPatch, effect: str, killed_at: int
) -> None:
    """Begin, two parts, the end."""
    monkeypatch.setattr(staging, "PART_BYTES", 6)
    assert is_staging(large.get("b", "o"))
    (job,) = jobs_of(tenant)
    steps = 0

    def step(held: Job) -> Step:
        nonlocal steps
        steps += 1
        if steps - 1 != killed_at:
            return staging.step(held)
        if effect == "kept":
            staging.step(held)
        raise Killed

    with pytest.raises(Killed):
        jobs.work(job.job_id, {staging.JOB: jobs.Kind(step)}, lambda: 600.0)
    assert large.get("b", "o").status == (302 if (effect, killed_at) == ("kept", STEPS - 1) else 503)
    clock.advance(jobs.LEASE + 1)
    run_job(job.job_id)
    assert [each.status for each in jobs_of(tenant)] == ["done"]
    assert follow(large.get("b", "o"))[0] == BODY


def test_an_object_of_many_parts_arrives_whole(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PART_BYTES", 1 << 20)
    tenant.service.bucket("b")
    body = noise((3 << 20) + 7)
    tenant.service.put("b", "o", body)
    limit(monkeypatch, 1 << 20)
    assert is_staging(tenant.service.get("b", "o"))
    run_staging(tenant)
    assert follow(tenant.service.get("b", "o"))[0] == body


def lose(tenant: Tenant) -> None:
    """Take the bytes from the tenant's server."""
    row = row_of(tenant)
    assert keeping.holding(row).delete([row.physical_key]) == {}


@pytest.mark.parametrize("after", [1, 2])
def test_a_source_that_was_deleted_ends_the_job_and_frees_what_it_stored(
    large: Client, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(staging, "PART_BYTES", 6)
    assert is_staging(large.get("b", "o"))
    (job,) = jobs_of(tenant)
    for _ in range(after):
        jobs.work(job.job_id, {staging.JOB: jobs.Kind(staging.step)}, lambda: 0.0)
    (begun,) = jobs_of(tenant)
    assert parts_of(begun, tenant) == after - 1
    lose(tenant)
    run_job(job.job_id)
    (ended,) = jobs_of(tenant)
    assert (ended.status, ended.error, ended.pending) == ("failed", "the object was deleted meanwhile", None)
    assert (parts_of(begun, tenant), staged(tenant)) == (None, [])


def test_a_job_that_failed_tells_why_and_is_begun_anew_minutes_later(large: Client, tenant: Tenant, clock: Clock) -> None:
    row = row_of(tenant)
    large.get("b", "o")
    lose(tenant)
    run_staging(tenant)
    keeping.holding(row).put(row.physical_key, BODY, "text/plain")
    answer = large.get("b", "o")
    assert (answer.status, answer.code) == (503, "StorageUnavailable")
    assert "the object was deleted meanwhile" in answer.json()["message"]
    clock.advance(301)
    assert is_staging(large.get("b", "o"))
    (job,) = jobs_of(tenant)
    assert (job.status, job.error) == ("queued", None)
    run_staging(tenant)
    assert follow(large.get("b", "o"))[0] == BODY


def test_a_worker_that_was_thought_dead_cannot_disturb_the_job_that_began_anew(large: Client, tenant: Tenant, clock: Clock) -> None:
    large.get("b", "o")
    (job,) = jobs_of(tenant)

    def stalled(held: Job) -> Step:
        clock.advance(jobs.LEASE + 1)
        run_job(job.job_id)
        clock.advance(21 * HOUR)
        assert is_staging(large.get("b", "o"))
        return Step({"upload_id": "of a zombie", "etags": []}, 0, 10)

    with suppress(Killed):
        jobs.work(job.job_id, {staging.JOB: jobs.Kind(stalled)}, lambda: 600.0)
    (left,) = jobs_of(tenant)
    assert (left.status, left.checkpoint.get("upload_id")) == ("queued", None)
    run_staging(tenant)
    assert [each.status for each in jobs_of(tenant)] == ["done"]


def test_an_object_that_was_deleted_is_not_found_whatever_is_staged(large: Client, tenant: Tenant) -> None:
    large.get("b", "o")
    run_staging(tenant)
    large.delete("b", "o")
    assert large.get("b", "o").status == 404


# ---- images --------------------------------------------------------------------------------------------------------
def test_a_transform_reads_a_copy_and_is_told_of_nothing_else(tenant: Tenant, image_function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from chalicelib.core import transforms

    told: list[str] = []
    real = transforms._asked

    def overheard(invocation: dict[str, Any]) -> Any:
        told.append(invocation["Payload"].decode())
        return real(invocation)

    monkeypatch.setattr(transforms, "_asked", overheard)
    tenant.service.bucket("b")
    tenant.service.put("b", "o", saved(photograph(60, 40), "jpeg"), "image/jpeg")
    for width in (20, 30):
        answer = tenant.service("GET", f"/storage/object/b/o?width={width}&format=png")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        assert answer.body.startswith(b"\x89PNG")
    row = row_of(tenant)
    assert len(told) == 2
    for event in told:
        assert f'"key": "{staging.key_of(row)}"' in event
        assert row.physical_key not in event
        assert "objects/" not in event
        shown = tenant.service("GET", f"/api/v1/backups/storage-configs/{row.storage_id}").json()
        assert str(shown["port"]) not in event
        assert str(row.storage_id) not in event
    assert len(staged(tenant)) == 1
    tenant.service.put("b", "o", b"no image", "image/jpeg")
    assert tenant.service("GET", "/storage/object/b/o?width=20").status == 422


# ---- a folder as the internal storage ------------------------------------------------------------------------------
def test_where_the_internal_storage_hands_out_no_urls_either_it_is_streamed(
    tenant: Tenant, on_filesystem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.service.bucket("b")
    body = noise((2 << 20) + 5)
    tenant.service.put("b", "o", body)
    limit(monkeypatch, 1000)
    answer = tenant.service.get("b", "o")
    assert (answer.status, answer.body) == (200, body)
    part = tenant.service.get("b", "o", Range="bytes=100-1999999")
    assert (part.status, part.body) == (206, body[100:2_000_000])
    assert (jobs_of(tenant), staged(tenant)) == ([], [])


def test_nothing_is_staged_of_storages_that_hand_out_urls(tenant_on: Callable[[str], Tenant], monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("azure", "strict_s3"):
        other = tenant_on(kind)
        other.service.bucket("b")
        other.service.put("b", "o", BODY, "text/plain")
        limit(monkeypatch, 5)
        assert follow(other.service.get("b", "o")) == (BODY, "text/plain")
        assert jobs_of(other) == []
        limit(monkeypatch, 4_400_000)


def test_a_copy_is_as_old_as_the_storage_says(large: Client, tenant: Tenant) -> None:
    large.get("b", "o")
    run_staging(tenant)
    found = providers.internal().inspect(staging.key_of(row_of(tenant)), 1)
    assert found is not None
    assert abs(found.stored - seam.timestamp()) < 60
