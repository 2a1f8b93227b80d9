"""Public files: whom their pictures are for, where those lie, and that they go when they are not to be seen (FEATURES F11.17, F11.18)."""

import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
from PIL import Image

from chalicelib import providers, seam
from chalicelib.access.cache import forget_everything
from chalicelib.access.principals import Principal, Role
from chalicelib.core import cleanup, jobs, publishing, tenants
from chalicelib.settings import settings
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.jobs import Job
from chalicelib.tables.table import scan
from chalicelib.tables.transforms import Published
from infra import stack
from tests.api.tus_client import encoded
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Tenant, run_job
from tests.durability.conftest import Stream
from tests.files.conftest import get, patch, put, refused, row_of, run_pending, stored
from tests.files.test_import import at, imported
from tests.files.test_uploads import Uploads
from tests.images import pictures
from tests.issuer import Web

Choose = Callable[[str, str], None]

KEY = "albums/photo.jpg"
INVOKE = Call("lambda", "Invoke")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
PRESETS = {"thumb": {"width": 20, "height": 20, "fit": "cover"}, "auto": {"width": 30, "format": "auto"}}


def camera_picture(seed: int = 7) -> bytes:
    """A picture of 80 by 40 pixels that says who made it, which no transform does."""
    exif = Image.Exif()
    exif[0x013B] = "NameOfSomeone"
    return pictures.saved(pictures.photograph(80, 40, seed), "JPEG", exif=exif)


PICTURE, OTHER = camera_picture(), camera_picture(8)


# ---- short ways ----------------------------------------------------------------------------------------
def anybody(tenant: Tenant, query: str = "?width=20", key: str = KEY, method: str = "GET", tenant_id: str = "") -> Answer:
    """A request without a credential to the public route."""
    return tenant.nobody(method, f"/api/public/{tenant_id or tenant.tenant_id}/{quote(key)}{query}")


def location_of(answer: Answer) -> str:
    assert (answer.status, answer.body) == (302, b""), answer.body
    return answer.headers["location"]


def fetched(url: str) -> Any:
    """What the origin answers to anybody."""
    return urllib3.request("GET", url, retries=False)


def picture_at(url: str) -> Image.Image:
    answer = fetched(url)
    assert answer.status == 200, answer.data
    return pictures.opened(answer.data)


def is_gone(url: str) -> bool:
    return bool(fetched(url).status in (403, 404))


def folder_of(tenant: Tenant) -> str:
    """Where what is published of the tenant's files lies."""
    bucket = Bucket.read(tenant.tenant_id, FILES)
    assert bucket is not None
    return f"public/{bucket.bucket_id}/"


def published(tenant: Tenant) -> list[str]:
    """The keys of all that anybody may fetch of the tenant's, wherever below `public/` it lies."""
    folder = folder_of(tenant)
    return [listed.key for listed in providers.internal().list("public/") if folder in listed.key or tenant.tenant_id in listed.key]


def withdrawals(tenant: Tenant) -> list[Job]:
    """The jobs that remove what was published of the tenant's files."""
    jobs = [Job.from_raw_data(item) for page in scan(Job) for item in page]
    return [job for job in jobs if job.tenant_id == tenant.tenant_id and job.kind == publishing.JOB]


def by_storage(client: Client, method: str, path: str, body: Any = None, **headers: str) -> None:
    """A request to the storage surface, of the bucket of files, which must succeed."""
    answer = client(method, f"/storage/{path}", body, {name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status == 200, answer.body


@pytest.fixture
def photo(image_function: Any, ada: Client) -> Client:
    """Ada's client, with her public picture KEY of 80 by 40 pixels."""
    stored(ada, KEY, PICTURE, "?acl=public", content_type="image/jpeg")
    return ada


@pytest.fixture
def origin(embedded: stack.EmbeddedAWS, image_function: Any, choose: Choose) -> str:
    """An origin that shows what lies below `public/` in the internal bucket, as the installation's."""
    url = f"{embedded.endpoint}/{settings().s3_bucket}/public"
    choose("STOWAGE_PUBLIC_BASE_URL", url)
    return url


# ---- what public does not open -------------------------------------------------------------------------
@pytest.mark.parametrize("has_origin", [False, True])
def test_public_opens_no_original(tenant: Tenant, photo: Client, bob: Client, choose: Choose, has_origin: bool) -> None:
    """F11.17: neither without a credential nor with one of somebody who may not read the file."""
    if has_origin:
        choose("STOWAGE_PUBLIC_BASE_URL", "https://img.example.com")
    for method in ("GET", "HEAD"):
        assert get(tenant.nobody, KEY, method=method).status == 401
        assert get(bob, KEY, method=method).status == 404
        assert get(tenant.anon, KEY, method=method).status == 403
        assert anybody(tenant, "", method=method).status == (422 if has_origin else 404)
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    for query in ("", "?download", "?w=20", "?version=1"):
        assert get(tenant.nobody, KEY, query).status in (401, 404)
        assert anybody(tenant, query).status in (404, 422)
    assert tenant.nobody("GET", f"/storage/public/{tenant.tenant_id}/.files/{KEY}").status == 404
    assert tenant.nobody("GET", f"/storage/object/.files/{KEY}").status == 401
    assert get(photo, KEY).headers["cache-control"].startswith("private")


def test_without_an_origin_nothing_is_public(tenant: Tenant, photo: Client, bob: Client, choose: Choose, calls: list[Call]) -> None:
    """F11.17"""
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    for query in ("", "?width=20", "?width=0", "?preset=x"):
        refused(anybody(tenant, query), 404, "NOT_FOUND")
        assert anybody(tenant, query, method="HEAD").status == 404
        refused(get(tenant.nobody, KEY, query), 401, "UNAUTHORIZED")
        refused(get(bob, KEY, query), 404, "NOT_FOUND")
    assert INVOKE not in calls
    assert get(photo, KEY, "?width=20").status == 200
    assert published(tenant) == []


# ---- what it opens -------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_anybody_is_sent_to_the_origin_for_a_transform(tenant: Tenant, photo: Client, origin: str, method: str) -> None:
    """F11.17: and finds the picture there, as what it is."""
    answer = anybody(tenant, "?width=20&format=webp", method=method)
    url = location_of(answer)
    assert url.startswith(origin + "/")
    assert answer.headers["cache-control"] == "public, max-age=60"
    there = fetched(url)
    image = pictures.opened(there.data)
    assert (image.size, image.format, there.headers["content-type"]) == ((20, 10), "WEBP", "image/webp")
    assert pictures.distance(pictures.pixels(image), pictures.pixels(pictures.photograph(80, 40).resize((20, 10)))) < 25


@pytest.mark.parametrize("who", ["owner", "another", "anon", "service", "nobody"])
def test_whoever_is_in_the_tenant_is_sent_there_too(
    tenant: Tenant, photo: Client, bob: Client, origin: str, choose: Choose, who: str
) -> None:
    """F11.17: by the files' own route; without a credential in the tenant that such requests have."""
    clients = {"owner": photo, "another": bob, "anon": tenant.anon, "service": tenant.service, "nobody": tenant.nobody}
    if who == "nobody":
        refused(get(tenant.nobody, KEY, "?width=20"), 401, "UNAUTHORIZED")
        choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    for method in ("GET", "HEAD"):
        url = location_of(get(clients[who], KEY, "?width=20", method))
        assert url == location_of(anybody(tenant, method=method))
        assert picture_at(url).size == (20, 10)


def test_a_bad_credential_is_refused_although_none_would_do(tenant: Tenant, photo: Client, origin: str, choose: Choose) -> None:
    """F11.17"""
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    refused(get(tenant.nobody.using("sk_none"), KEY, "?width=20"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "key", ["photo.jpg", "a/b/c/d/e/f/g/h.jpg", "a b+c.jpg", "100%.jpg", "a%2Fb.jpg", "ü/日本.jpg", "a/sign", "api/public/x"]
)
def test_a_public_file_of_any_key_is_found(tenant: Tenant, ada: Client, origin: str, key: str) -> None:
    """F11.17: and its place at the origin does not tell the key."""
    stored(ada, key, PICTURE, "?acl=public", content_type="image/jpeg")
    url = location_of(anybody(tenant, key=key))
    assert picture_at(url).size == (20, 10)
    assert key not in url
    assert url == location_of(get(ada, key, "?width=20"))


def test_options_that_mean_the_same_have_one_place_and_others_another(
    tenant: Tenant, photo: Client, origin: str, calls: list[Call]
) -> None:
    """F11.17"""
    same = {location_of(anybody(tenant, query)) for query in ("?width=20&height=10", "?height=10&width=20&fit=contain&quality=80")}
    others = {
        location_of(anybody(tenant, query)) for query in ("?width=21", "?width=20&format=png", "?width=20&height=20&fit=cover&focal=9.5,0")
    }
    assert (len(same), len(others), len(same & others)) == (1, 3, 0)
    assert all(picture_at(url) for url in others)
    assert calls.count(INVOKE) == 4


BAD = [
    "?width=0",
    "?width=abc",
    "?width=",
    "?height=4097",
    "?quality=101",
    "?fit=fill",
    "?format=gif",
    "?format=auto",
    "?focal=1/1",
    "?preset=x",
]


def test_bad_options_are_refused_and_nothing_is_published(tenant: Tenant, photo: Client, bob: Client, origin: str) -> None:
    """F11.17"""
    for query in BAD:
        for answer in (anybody(tenant, query), get(bob, KEY, query), get(photo, KEY, query)):
            refused(answer, 422, "VALIDATION")
        assert anybody(tenant, query, method="HEAD").status == 422
    assert published(tenant) == []


@pytest.mark.parametrize(("content_type", "body"), [("text/plain", b"words"), ("image/svg+xml", SVG), ("image/png", b"words")])
def test_what_is_no_image_is_not_published(tenant: Tenant, ada: Client, origin: str, content_type: str, body: bytes) -> None:
    """F11.17"""
    stored(ada, "other", body, "?acl=public", content_type=content_type)
    refused(anybody(tenant, key="other"), 422, "VALIDATION")
    refused(anybody(tenant, "", key="other"), 422, "VALIDATION")
    assert published(tenant) == []


def test_without_an_image_function_nothing_is_published(tenant: Tenant, photo: Client, origin: str, choose: Choose) -> None:
    """F11.17"""
    choose("STOWAGE_IMAGE_FUNCTION", "")
    refused(anybody(tenant), 422, "VALIDATION")
    assert published(tenant) == []


def test_strangers_have_only_so_many_new_ones_made_a_minute(
    tenant: Tenant, photo: Client, origin: str, choose: Choose, calls: list[Call]
) -> None:
    """F11.17: what has been made is to be had all the same."""
    choose("STOWAGE_TRANSFORMS_PER_MINUTE", "1")
    location_of(anybody(tenant, "?width=20"))
    answer = anybody(tenant, "?width=21")
    refused(answer, 429, "RATE_LIMITED")
    assert int(answer.headers["retry-after"]) > 0
    assert picture_at(location_of(anybody(tenant, "?width=20"))).size == (20, 10)
    assert calls.count(INVOKE) == 1


def test_a_picture_that_no_answer_could_carry_is_published_too(tenant: Tenant, photo: Client, origin: str, choose: Choose) -> None:
    """F11.17"""
    choose("STOWAGE_MAX_BODY", "100")
    for _ in ("made", "found"):
        assert picture_at(location_of(anybody(tenant))).size == (20, 10)


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_the_public_route_changes_nothing(tenant: Tenant, photo: Client, origin: str, method: str) -> None:
    """F11.17: whoever asks."""
    for client in (tenant.nobody, photo, tenant.service):
        answer = client(method, f"/api/public/{tenant.tenant_id}/{KEY}?width=20", b"{}")
        refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert get(photo, KEY).body == PICTURE


# ---- what is not there ---------------------------------------------------------------------------------
@pytest.mark.parametrize("query", ["", "?width=20", "?width=0"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_public_is_not_there_and_told_alike(
    tenant: Tenant, new_tenant: Any, ada: Client, origin: str, calls: list[Call], query: str, method: str
) -> None:
    """F11.18: private, absent, of another tenant, of a tenant that is none."""
    stored(ada, KEY, PICTURE, content_type="image/jpeg")
    stored(tenant.service, "public.jpg", PICTURE, "?acl=public", content_type="image/jpeg")
    other, gone = new_tenant(), new_tenant()
    tenants.delete_tenant(Principal(Role.ADMIN, ""), gone.tenant_id)
    asked = [tenant.tenant_id, other.tenant_id, gone.tenant_id, str(uuid.uuid4()), "x", tenant.tenant_id.upper(), "..", "%00", "a" * 300]
    answers = [anybody(tenant, query, KEY, method, tenant_id) for tenant_id in asked]
    answers += [anybody(tenant, query, KEY, method, other.tenant_id)]
    assert {answer.status for answer in answers} == {404}
    assert {answer.headers.get("cache-control") for answer in answers} == {"private, no-cache"}
    if method == "GET":
        errors = [refused(answer, 404, "NOT_FOUND") for answer in answers]
        assert all(error == errors[0] for error in errors)
        refused(anybody(tenant, query, "public.jpg", tenant_id=other.tenant_id), 404, "NOT_FOUND")
    assert INVOKE not in calls
    assert published(tenant) == []


def test_a_credential_beside_opens_no_more_on_the_public_route(tenant: Tenant, ada: Client, origin: str) -> None:
    """F11.18"""
    stored(ada, KEY, PICTURE, content_type="image/jpeg")
    for client in (ada, tenant.service):
        refused(client("GET", f"/api/public/{tenant.tenant_id}/{KEY}?width=20"), 404, "NOT_FOUND")


def test_a_private_file_is_hidden_from_others_as_one_that_is_not_there(
    tenant: Tenant, ada: Client, bob: Client, origin: str, choose: Choose
) -> None:
    """F11.18: with its transforms, by the files' own route."""
    stored(ada, KEY, PICTURE, content_type="image/jpeg")
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    for client, status in ((bob, 404), (tenant.anon, 403), (tenant.nobody, 401)):
        theirs, absent = get(client, KEY, "?width=20"), get(client, "absent", "?width=20")
        assert (theirs.status, absent.status) == (status, status)
        assert theirs.json()["error"]["message"].replace(KEY, "absent") == absent.json()["error"]["message"]


@pytest.mark.parametrize("key", ["tenants/x", "_sign/x", "folder-counts", "a/../b", "x" * 701])
def test_a_key_that_no_file_can_have_is_refused(tenant: Tenant, photo: Client, origin: str, key: str) -> None:
    """F11.17"""
    refused(anybody(tenant, key=key), 422, "VALIDATION")


# ---- what lies there -----------------------------------------------------------------------------------
def test_only_transforms_of_public_files_lie_below_public(tenant: Tenant, photo: Client, bob: Client, origin: str) -> None:
    """F11.17: never an original, and never anything of a private file."""
    stored(photo, "private.jpg", OTHER, content_type="image/jpeg")
    for query in ("?width=20", "?width=4096", "?quality=100", "?fit=cover", "?format=jpeg&quality=100", "?enlarge=false"):
        assert get(photo, "private.jpg", query).status == 200
        assert picture_at(location_of(get(bob, KEY, query))).size in ((20, 10), (80, 40))
    token = photo("POST", "/api/storage/_sign/private.jpg").json()["path"]
    assert tenant.nobody("GET", f"{token}&width=30").status == 200
    get(photo, KEY), get(photo, "private.jpg"), get(tenant.service, KEY)
    row = row_of(tenant, KEY)
    assert row is not None
    assert published(tenant)
    for key in published(tenant):
        assert key.startswith(f"{folder_of(tenant)}{row.version}/")
        body = fetched(f"{origin}/{key.removeprefix('public/')}").data
        assert pictures.opened(body).format == "JPEG"
        assert b"NameOfSomeone" not in body
        assert body not in (PICTURE, OTHER)


def test_a_private_file_that_turns_public_is_published_from_then_on(tenant: Tenant, ada: Client, origin: str) -> None:
    """F11.17: what was made of it before stays where it is."""
    stored(ada, KEY, PICTURE, content_type="image/jpeg")
    assert get(ada, KEY, "?width=20").status == 200
    assert published(tenant) == []
    patch(ada, KEY, acl="public")
    assert picture_at(location_of(anybody(tenant))).size == (20, 10)
    assert len(published(tenant)) == 1


def test_a_copy_of_a_public_file_is_private(tenant: Tenant, photo: Client, origin: str) -> None:
    """F11.17: nobody has opened it."""
    by_storage(photo, "POST", "object/copy", {"bucket": ".files", "from": KEY, "to": "copy.jpg"})
    refused(anybody(tenant, key="copy.jpg"), 404, "NOT_FOUND")
    assert get(photo, "copy.jpg", "?width=20").headers["cache-control"].startswith("private")


def test_a_token_gives_the_picture_of_a_public_file_itself(tenant: Tenant, photo: Client, origin: str) -> None:
    """F11.17, F11.19: a signed URL is answered where it is asked, for as long as it lives."""
    path = photo("POST", f"/api/storage/_sign/{KEY}").json()["path"]
    answer = tenant.nobody("GET", f"{path}&width=20")
    assert (answer.status, pictures.opened(answer.body).size) == (200, (20, 10))
    assert answer.headers["cache-control"].startswith("private, max-age=")


# ---- when it is not to be seen any more ----------------------------------------------------------------
def make_private(client: Client) -> None:
    assert patch(client, KEY, acl="private").status == 200


def overwrite(client: Client) -> None:
    assert put(client, KEY, OTHER, content_type="image/jpeg").status == 200


def overwrite_privately(client: Client) -> None:
    assert put(client, KEY, OTHER, "?acl=private", content_type="image/jpeg").status == 200


def delete(client: Client) -> None:
    assert client("DELETE", f"/api/storage/{KEY}").status == 200


def move(client: Client) -> None:
    by_storage(client, "POST", "object/move", {"bucket": ".files", "from": KEY, "to": "moved.jpg"})


def move_another_over_it(client: Client) -> None:
    stored(client, "draft.jpg", OTHER, content_type="image/jpeg")
    by_storage(client, "POST", "object/move", {"bucket": ".files", "from": "draft.jpg", "to": KEY}, x_upsert="true")


def delete_by_storage(client: Client) -> None:
    by_storage(client, "DELETE", f"object/.files/{KEY}")


def delete_many_by_storage(client: Client) -> None:
    by_storage(client, "DELETE", "objects/.files", {"paths": [KEY]})


def overwrite_by_storage(client: Client) -> None:
    by_storage(client, "POST", f"object/.files/{KEY}", OTHER, content_type="image/jpeg")


def overwrite_by_tus(client: Client) -> None:
    Uploads(client).begin(len(OTHER), OTHER, upload_metadata=encoded(key=KEY, contentType="image/jpeg"))


def overwrite_by_import(client: Client) -> None:
    site = Web()
    site.body, site.headers = OTHER, {"Content-Type": "image/jpeg"}
    try:
        imported(client, at(site, "/other.jpg"), key=KEY)
    finally:
        site.stop()


def move_to_another_bucket(client: Client) -> None:
    by_storage(client, "POST", "object/move", {"bucket": ".files", "from": KEY, "to_bucket": "elsewhere", "to": KEY})


ENDINGS = [make_private, overwrite, overwrite_privately, delete, move_another_over_it]
ENDINGS += [delete_by_storage, delete_many_by_storage, overwrite_by_storage]
ENDINGS += [overwrite_by_tus, overwrite_by_import, move_to_another_bucket]


@pytest.fixture
def elsewhere(tenant: Tenant, choose: Choose) -> None:
    """What some endings lead to, or come from: a bucket that users store in, and sites on loopback."""
    choose("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true")
    tenant.service.bucket("elsewhere")
    anything = {"bucket": "elsewhere", "name": "anything", "operation": "INSERT", "definition": "true"}
    assert tenant.service("POST", "/storage/policies", anything).status == 201


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("end", ENDINGS)
def test_what_was_published_goes_when_its_file_does_not_show_it_any_more(
    tenant: Tenant, photo: Client, origin: str, stream: Stream, clock: Clock, end: Callable[[Client], None]
) -> None:
    """F11.18: its URL stops working; and a minute later there is another look for what came late."""
    urls = [location_of(anybody(tenant, query)) for query in ("?width=20", "?width=30&format=webp")]
    late = published(tenant)[0]
    assert [picture_at(url).size for url in urls] == [(20, 10), (30, 15)]
    end(photo)
    stream.deliver()
    run_pending(tenant)
    assert all(is_gone(url) for url in urls)
    assert published(tenant) == []
    (job,) = withdrawals(tenant)
    assert (job.status, job.done) == ("queued", 2)
    # A request that was under way took the file for public.
    providers.internal().put(late, PICTURE, "image/jpeg")
    clock.advance(61)
    run_pending(tenant)
    assert published(tenant) == []
    (job,) = withdrawals(tenant)
    assert (job.status, job.done) == ("done", 3)
    assert run_pending(tenant) == []


@pytest.mark.parametrize("end", [make_private, overwrite_privately, delete, move, move_another_over_it, delete_by_storage])
def test_from_the_moment_of_the_change_nobody_is_sent_there(
    tenant: Tenant, photo: Client, bob: Client, origin: str, calls: list[Call], end: Callable[[Client], None]
) -> None:
    """F11.18: though what was published is yet to be removed."""
    location_of(anybody(tenant))
    end(photo)
    calls.clear()
    refused(anybody(tenant), 404, "NOT_FOUND")
    refused(get(bob, KEY, "?width=20"), 404, "NOT_FOUND")
    assert INVOKE not in calls


def test_an_overwritten_public_file_is_shown_as_it_is_now(tenant: Tenant, photo: Client, origin: str, stream: Stream) -> None:
    """F11.18: at another URL, which stays when that of before goes."""
    before = location_of(anybody(tenant))
    overwrite(photo)
    after = location_of(anybody(tenant))
    stream.deliver()
    run_pending(tenant)
    assert after != before
    assert is_gone(before)
    seen, wanted = pictures.pixels(picture_at(after)), pictures.pixels(pictures.photograph(80, 40, 8).resize((20, 10)))
    assert pictures.distance(seen, wanted) < 25


def test_a_moved_public_file_is_published_under_its_new_key(
    tenant: Tenant, photo: Client, origin: str, stream: Stream, clock: Clock
) -> None:
    """F11.18: what is withdrawn with the old key is made anew."""
    location_of(anybody(tenant))
    move(photo)
    stream.deliver()
    for _ in range(2):
        run_pending(tenant)
        assert picture_at(location_of(anybody(tenant, key="moved.jpg"))).size == (20, 10)
        clock.advance(61)


def test_a_file_that_turns_public_again_is_published_again(
    tenant: Tenant, photo: Client, origin: str, stream: Stream, clock: Clock
) -> None:
    """F11.18: and withdrawn again, by another job."""
    for number in (1, 2):
        assert picture_at(location_of(anybody(tenant))).size == (20, 10)
        make_private(photo)
        stream.deliver()
        run_pending(tenant)
        clock.advance(61)
        run_pending(tenant)
        assert published(tenant) == []
        assert [job.status for job in withdrawals(tenant)] == ["done"] * number
        patch(photo, KEY, acl="public")
        stream.deliver()


def test_a_private_files_end_withdraws_nothing(tenant: Tenant, ada: Client, origin: str, stream: Stream) -> None:
    """F11.18"""
    stored(ada, KEY, PICTURE, content_type="image/jpeg")
    patch(ada, KEY, metadata={"a": 1})
    overwrite(ada)
    delete(ada)
    stream.deliver()
    assert withdrawals(tenant) == []


def test_a_file_that_stays_public_keeps_its_transforms(
    tenant: Tenant, photo: Client, origin: str, stream: Stream, calls: list[Call]
) -> None:
    """F11.18: whatever else is changed of it."""
    url, folder = location_of(anybody(tenant)), photo("POST", "/api/folders", {"name": "f"}).json()["data"]["id"]
    for changes in ({"metadata": {"a": 1}}, {"folderId": folder}, {"acl": "public"}, {"folderId": None, "metadata": None}):
        assert patch(photo, KEY, **changes).status == 200
    by_storage(photo, "POST", "signed-url/revoke", {"bucket": ".files", "path": KEY})
    stream.deliver()
    assert run_pending(tenant) == []
    assert withdrawals(tenant) == []
    calls.clear()
    assert location_of(anybody(tenant)) == url
    assert picture_at(url).size == (20, 10)
    assert INVOKE not in calls


@pytest.mark.parametrize("has_run", [False, True])
def test_a_change_that_is_told_twice_is_one_job(
    tenant: Tenant, photo: Client, origin: str, stream: Stream, clock: Clock, has_run: bool
) -> None:
    """F11.18: also once that has ended."""
    location_of(anybody(tenant))
    make_private(photo)
    records = stream.deliver()
    if has_run:
        run_pending(tenant)
        clock.advance(61)
        run_pending(tenant)
    stream.deliver(records + records)
    stream.deliver(records)
    (job,) = withdrawals(tenant)
    assert job.status == ("done" if has_run else "queued")
    assert len(run_pending(tenant)) == (0 if has_run else 1)
    assert published(tenant) == []


def test_a_change_that_is_told_late_leaves_what_is_published_of_the_file_now(
    tenant: Tenant, photo: Client, origin: str, stream: Stream, clock: Clock
) -> None:
    """F11.18: of a file that was stored anew under the key meanwhile."""
    location_of(anybody(tenant))
    delete(photo)
    stored(photo, KEY, OTHER, "?acl=public", content_type="image/jpeg")
    url = location_of(anybody(tenant))
    stream.deliver()
    for _ in range(2):
        run_pending(tenant)
        clock.advance(61)
    assert picture_at(url).size == (20, 10)
    assert len(published(tenant)) == 1


def test_the_owner_sees_the_picture_of_a_file_that_turned_private(tenant: Tenant, photo: Client, origin: str, stream: Stream) -> None:
    """F11.18: made where only the API reads it."""
    location_of(anybody(tenant))
    make_private(photo)
    stream.deliver()
    run_pending(tenant)
    answer = get(photo, KEY, "?width=20")
    assert (answer.status, pictures.opened(answer.body).size) == (200, (20, 10))
    assert answer.headers["cache-control"].startswith("private, ")
    assert published(tenant) == []


def test_more_than_a_page_of_transforms_goes(
    tenant: Tenant, photo: Client, origin: str, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11.18"""
    monkeypatch.setattr(publishing, "REMOVED_AT_ONCE", 2)
    urls = [location_of(anybody(tenant, f"?width={width}")) for width in range(20, 25)]
    make_private(photo)
    stream.deliver()
    run_pending(tenant)
    assert all(is_gone(url) for url in urls)
    assert published(tenant) == []


def test_what_was_published_of_a_tenant_ends_with_it(tenant: Tenant, photo: Client, origin: str, stream: Stream, clock: Clock) -> None:
    """F11.18"""
    url, folder = location_of(anybody(tenant)), folder_of(tenant)
    job = tenants.delete_tenant(Principal(Role.ADMIN, ""), tenant.tenant_id)
    forget_everything()
    refused(anybody(tenant), 404, "NOT_FOUND")
    for _ in range(3):
        run_job(job.job_id)
        run_pending(tenant)
        stream.deliver()
        run_pending(tenant)
        clock.advance(121)
    assert is_gone(url)
    assert list(providers.internal().list(folder)) == []


# ---- presets -------------------------------------------------------------------------------------------
@pytest.fixture
def held(tenant: Tenant, photo: Client, origin: str) -> Callable[[str], Client]:
    """Holds the bucket of files to a mode, with presets; gives the client of the file's owner."""

    def hold(mode: str) -> Client:
        by_storage(tenant.service, "PUT", "buckets/.files", {"transforms": mode, "transform_presets": PRESETS})
        return photo

    return hold


def test_a_bucket_of_presets_publishes_nothing_else(tenant: Tenant, held: Callable[[str], Client], bob: Client, calls: list[Call]) -> None:
    """F11.17: nor does it give other transforms to who may read the file, or holds a token of it."""
    owner = held("presets")
    signed = owner("POST", f"/api/storage/_sign/{KEY}").json()["path"].partition("?")[2]
    ways: list[Callable[[str], Answer]] = [
        lambda query: anybody(tenant, query),
        lambda query: get(owner, KEY, query),
        lambda query: get(bob, KEY, query),
        lambda query: get(tenant.anon, KEY, query),
        lambda query: tenant.service("GET", f"/api/public/{tenant.tenant_id}/{KEY}{query}"),
        lambda query: get(tenant.nobody, KEY, f"{query}&{signed}"),
        lambda query: get(tenant.service, KEY, f"{query}&{signed}"),
    ]
    for way in ways:
        calls.clear()
        for query in ("?width=20", "?format=webp"):
            refused(way(query), 403, "FORBIDDEN")
        for query in ("?preset=none", "?preset=", "?preset=thumb&width=20"):
            refused(way(query), 422, "VALIDATION")
        assert INVOKE not in calls
        answer = way("?preset=thumb")
        assert answer.status == (200 if way in ways[5:] else 302)
        image = pictures.opened(answer.body) if answer.body else picture_at(location_of(answer))
        assert image.size == (20, 20)
    assert len(published(tenant)) == 1


def test_a_private_file_is_held_to_presets_too(tenant: Tenant, held: Callable[[str], Client]) -> None:
    """F11.17: and what a preset means may change, so it is asked for again each time."""
    owner = held("presets")
    patch(owner, KEY, acl="private")
    refused(get(owner, KEY, "?width=20"), 403, "FORBIDDEN")
    answer = get(owner, KEY, "?preset=thumb")
    assert (pictures.opened(answer.body).size, answer.headers["cache-control"]) == ((20, 20), "private, no-cache")
    refused(anybody(tenant, "?preset=thumb"), 404, "NOT_FOUND")


def test_a_bucket_of_signed_transforms_publishes_none(tenant: Tenant, held: Callable[[str], Client], bob: Client) -> None:
    """F11.17"""
    owner = held("signed")
    for query in ("?width=20", "?preset=thumb"):
        for answer in (anybody(tenant, query), get(owner, KEY, query), get(bob, KEY, query)):
            refused(answer, 403, "FORBIDDEN")
    assert published(tenant) == []


def test_a_preset_that_goes_by_what_is_accepted_says_so_to_caches(tenant: Tenant, held: Callable[[str], Client]) -> None:
    """F11.17: a shared cache must not send one browser to the format of another."""
    held("presets")
    path = f"/api/public/{tenant.tenant_id}/{KEY}?preset=auto"
    answers = [tenant.nobody("GET", path, headers={"accept": accept}) for accept in ("image/webp", "image/avif", "image/png")]
    assert [picture_at(location_of(answer)).format for answer in answers] == ["WEBP", "AVIF", "JPEG"]
    assert ["accept" in answer.headers.get("vary", "").lower() for answer in answers] == [True, True, True]


def test_the_bucket_of_files_itself_cannot_be_made_public(tenant: Tenant, photo: Client, origin: str) -> None:
    """F11.17: that would open every original."""
    for fields in ({"public": True}, {"visibility": "public"}):
        assert tenant.service("PUT", "/storage/buckets/.files", fields).status in (400, 403, 409)
    assert tenant.nobody("GET", f"/storage/public/{tenant.tenant_id}/.files/{KEY}").status == 404


# ---- what only some may have ---------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["presets", "signed"])
def test_what_the_service_key_may_have_beyond_a_buckets_mode_is_not_published(
    tenant: Tenant, held: Callable[[str], Client], mode: str
) -> None:
    """F11.17: nobody else could ask for it."""
    held(mode)
    answer = get(tenant.service, KEY, "?width=21")
    assert (answer.status, pictures.opened(answer.body).width) == (200, 21)
    assert answer.headers["cache-control"].startswith("private")
    assert published(tenant) == []
    refused(anybody(tenant, "?width=21"), 403, "FORBIDDEN")


def test_strangers_use_up_nothing_that_the_tenants_own_have(tenant: Tenant, photo: Client, origin: str, choose: Choose) -> None:
    """F11.17"""
    choose("STOWAGE_TRANSFORMS_PER_MINUTE", "1")
    location_of(anybody(tenant, "?width=20"))
    refused(anybody(tenant, "?width=21"), 429, "RATE_LIMITED")
    patch(photo, KEY, acl="private")
    assert get(photo, KEY, "?width=22").status == 200


# ---- marks ---------------------------------------------------------------------------------------------
def test_where_the_origin_lies_by_now_does_not_matter_to_what_was_published(
    tenant: Tenant, photo: Client, origin: str, choose: Choose, stream: Stream
) -> None:
    """F11.18: the consumer of the stream knows what was published by its mark."""
    url = location_of(anybody(tenant))
    choose("STOWAGE_PUBLIC_BASE_URL", "")
    make_private(photo)
    stream.deliver()
    run_pending(tenant)
    assert is_gone(url)


def test_a_public_file_of_which_nothing_was_published_ends_without_a_job(
    tenant: Tenant, photo: Client, origin: str, stream: Stream
) -> None:
    """F11.18"""
    delete(photo)
    stream.deliver()
    assert withdrawals(tenant) == []


@pytest.mark.parametrize("end", [make_private, overwrite, delete])
def test_a_file_that_changes_while_a_stranger_asks_is_not_published(
    tenant: Tenant, photo: Client, origin: str, calls: list[Call], monkeypatch: pytest.MonkeyPatch, end: Callable[[Client], None]
) -> None:
    """F11.18: between the look at the file and the mark, after which the stream would tell of it."""
    real = Published.put

    def late(row: Published, *arguments: Any) -> None:
        end(photo)
        real(row, *arguments)

    monkeypatch.setattr(Published, "put", late)
    refused(anybody(tenant), 404, "NOT_FOUND")
    assert INVOKE not in calls
    assert published(tenant) == []


def is_mark(tenant: Tenant, key: str) -> bool:
    return key.startswith(folder_of(tenant)) and key.endswith("/")


def test_a_mark_outlives_what_it_tells_of(tenant: Tenant, photo: Client, origin: str, stream: Stream, clock: Clock) -> None:
    """F11.18: which is a day old at most: it is renewed while it has more than that left."""
    for _ in range(4):
        location_of(anybody(tenant))
        (row,) = (Published.from_raw_data(item) for page in scan(Published) for item in page if is_mark(tenant, item["result_key"]["S"]))
        assert row.expires_at > seam.timestamp() + 2 * publishing.DAY - 60
        for listed in published(tenant):
            providers.internal().delete([listed])
        clock.advance(publishing.DAY)


def test_a_job_whose_waking_was_lost_is_woken_when_the_stream_tells_again(
    tenant: Tenant, photo: Client, origin: str, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11.18: the process died between the job's row and its message."""
    location_of(anybody(tenant))
    make_private(photo)
    woken: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "wake", lambda job_id, delay=0: None)
        records = stream.deliver()
    monkeypatch.setattr(jobs, "wake", lambda job_id, delay=0: woken.append(job_id))
    stream.deliver(records)
    assert woken == [job.job_id for job in withdrawals(tenant)]
    run_pending(tenant)
    woken.clear()
    for job in withdrawals(tenant):
        job.change([Job.pending.remove()], Job.job_id.exists())
    stream.deliver(records)
    assert woken == []


def test_a_folder_that_serves_as_storage_drops_what_is_a_day_old(
    tenant: Tenant, on_filesystem: Any, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """F11.18: where no lifecycle rule does."""
    providers.internal().put("public/b/v/w20", b"picture", "image/webp")
    clock.advance(publishing.DAY + 1)
    assert cleanup.expire_copies() == 1
    assert list(providers.internal().list("public/")) == []
