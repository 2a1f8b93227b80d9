"""Images on demand: what may be asked for, what comes, who may have it, and what each costs (FEATURES F11, CONTRACT "Transforms")."""

import io
import random
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from PIL import Image

from chalicelib import providers
from chalicelib.core import cleanup, transforms
from chalicelib.images.options import PARAMETERS, parse
from chalicelib.tables.transforms import Transform
from tests.client import Answer, Client
from tests.conftest import Call, Clock, Tenant

BATCH_GET, GET_OBJECT, PUT_OBJECT = Call("dynamodb", "BatchGetItem"), Call("s3", "GetObject"), Call("s3", "PutObject")
PUT_ITEM, UPDATE_ITEM, INVOKE = Call("dynamodb", "PutItem"), Call("dynamodb", "UpdateItem"), Call("lambda", "Invoke")
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
TEXT = b"these are words"
PRESETS = {"thumb": {"width": 20, "height": 20, "fit": "cover"}, "auto": {"width": 30, "format": "auto"}}
Choose = Callable[[str, str], None]


def drawn(size: tuple[int, int] = (80, 40), left: Any = RED, right: Any = BLUE) -> Image.Image:
    """A picture whose left half is of one colour and whose right half is of another."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def noise(side: int) -> Image.Image:
    """A picture that no format makes small."""
    return Image.frombytes("RGB", (side, side), random.Random(1).randbytes(side * side * 3))


def written(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def shown(answer: Answer) -> Image.Image:
    assert answer.status == 200, answer.body
    image = Image.open(io.BytesIO(answer.body))
    image.load()
    return image


def size_of(answer: Answer) -> tuple[int, int]:
    return shown(answer).size


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code if answer.status >= 400 else ""


def ask(client: Client, query: str = "", name: str = "photo.png", method: str = "GET", bucket: str = "b", **headers: str) -> Answer:
    sent = {header.replace("_", "-"): value for header, value in headers.items()}
    return client(method, f"/storage/object/{bucket}/{quote(name)}{query}", headers=sent)


def version_of(client: Client, name: str = "photo.png") -> str:
    return str(client("GET", f"/storage/object-info/b/{name}").json()["version"])


@pytest.fixture
def photo(image_function: Any, service: Client) -> Client:
    """The service's client, with the picture `photo.png`, 80 pixels by 40, half red and half blue, in the private bucket `b`."""
    service.bucket("b")
    service.put("b", "photo.png", written(drawn()), "image/png")
    return service


# ---- what each parameter does --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("?width=40", (40, 20)),
        ("?height=10", (20, 10)),
        ("?width=40&height=40", (40, 20)),
        ("?width=80&height=10", (20, 10)),
        ("?width=1", (1, 1)),
        ("?width=4096", (80, 40)),
        ("?width=160&enlarge=false", (80, 40)),
        ("?width=160&enlarge=true", (160, 80)),
        ("?height=80&enlarge=1", (160, 80)),
        ("?enlarge=true", (80, 40)),
        ("?width=30&height=20&fit=contain", (30, 15)),
        ("?width=30&height=30&fit=cover", (30, 30)),
        ("?width=80&height=80&fit=cover", (40, 40)),
        ("?width=80&height=80&fit=cover&enlarge=true", (80, 80)),
        ("?width=30&fit=cover", (30, 15)),
        ("?fit=cover&focal=0,0", (80, 40)),
        ("?quality=50", (80, 40)),
    ],
)
def test_the_size_is_what_was_asked_for_and_never_distorted(photo: Client, query: str, size: tuple[int, int]) -> None:
    answer = ask(photo, query)
    assert (size_of(answer), shown(answer).format, answer.headers["content-type"]) == (size, "PNG", "image/png")


@pytest.mark.parametrize(
    ("focal", "left", "right"),
    [("", RED, BLUE), ("&focal=50,50", RED, BLUE), ("&focal=0,50", RED, RED), ("&focal=100,50", BLUE, BLUE), ("&focal=12.5,0", RED, RED)],
)
def test_the_focal_point_is_what_a_filled_frame_keeps(photo: Client, focal: str, left: Any, right: Any) -> None:
    image = shown(ask(photo, "?width=20&height=20&fit=cover" + focal)).convert("RGB")
    assert (image.getpixel((1, 10)), image.getpixel((18, 10))) == (left, right)


@pytest.mark.parametrize(("form", "kind"), [("webp", "WEBP"), ("jpeg", "JPEG"), ("png", "PNG"), ("avif", "AVIF")])
def test_the_format_is_the_one_asked_for(photo: Client, form: str, kind: str) -> None:
    answer = ask(photo, f"?width=20&format={form}")
    assert (shown(answer).format, size_of(answer), answer.headers["content-type"]) == (kind, (20, 10), f"image/{form}")


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "gif", "avif"])
def test_the_format_is_the_sources_by_default(photo: Client, form: str) -> None:
    photo.put("b", "other", written(drawn(), form), f"image/{form}")
    answer = ask(photo, "?width=20", "other")
    assert (shown(answer).format, answer.headers["content-type"], size_of(answer)) == (form.upper(), f"image/{form}", (20, 10))


@pytest.mark.parametrize("form", ["jpeg", "webp", "avif"])
def test_a_higher_quality_costs_more_bytes(photo: Client, form: str) -> None:
    photo.put("b", "noise", written(noise(32)), "image/png")
    sizes = [len(ask(photo, f"?format={form}&quality={quality}", "noise").body) for quality in (10, 80, 100)]
    assert sizes == sorted(set(sizes))
    assert ask(photo, f"?format={form}", "noise").headers["x-object-size"] == str(sizes[1])


def test_a_transformed_image_is_told_as_what_it_is(photo: Client) -> None:
    answer = ask(photo, "?width=20&format=webp")
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-object-size"] == str(len(answer.body))
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not {"content-disposition", "last-modified", "vary"} & answer.headers.keys()


NUMBERS = ["0", "-1", "1.5", "abc", "", "%205", "%2B5", "1e2", "0x10", "10px", "%D9%A3", "99999999999999999999", "null"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("width", [*NUMBERS, "4097", "10&width=20"]),
        ("height", [*NUMBERS, "4097"]),
        ("quality", [*NUMBERS, "101"]),
        ("fit", ["fill", "Cover", "", "inside"]),
        ("focal", ["", "50", "50,", "50,50,50", "101,0", "0,-1", "a,b", "nan,nan", "1e1,5", "50;50", "%2050,50"]),
        ("enlarge", ["yes", "TRUE", "", "2"]),
        ("format", ["gif", "jpg", "WEBP", "", "source", "svg", "image/webp"]),
        ("preset", ["none", "", "none&width=10"]),
    ],
)
def test_a_bad_value_is_refused_and_nothing_is_made(photo: Client, calls: list[Call], name: str, values: list[str]) -> None:
    others = "height=10" if name == "width" else "width=10"
    for value in values:
        for query in (f"?{name}={value}", f"?{others}&{name}={value}"):
            assert told(ask(photo, query)) == (400, "InvalidRequest"), query
    assert INVOKE not in calls


def test_other_parameters_are_none_of_its_business(photo: Client, calls: list[Call]) -> None:
    assert ask(photo, "?w=10&blur=3&Width=x&utm_source=a").body == written(drawn())
    assert INVOKE not in calls
    first = ask(photo, "?width=20&cache=1&rotate=90")
    assert (size_of(first), first.headers["etag"]) == ((20, 10), ask(photo, "?width=20").headers["etag"])
    assert calls.count(INVOKE) == 1


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", TEXT),
        ("application/octet-stream", TEXT),
        ("video/mp4", TEXT),
        ("image/svg+xml", SVG),
        ("IMAGE/SVG+XML; charset=utf-8", SVG),
    ],
)
def test_what_is_no_image_is_given_as_it_is(photo: Client, calls: list[Call], content_type: str, body: bytes) -> None:
    photo.put("b", "other", body, content_type)
    plain = ask(photo, "", "other")
    for query in ("?width=10", "?width=abc", "?preset=none", "?preset=a&width=0&format=x", "?format=auto"):
        answer = ask(photo, query, "other")
        assert (answer.status, answer.body, answer.headers["etag"]) == (200, body, plain.headers["etag"])
        assert answer.headers["content-type"] == plain.headers["content-type"]
        assert ask(photo, query, "other", Range="bytes=1-3").body == body[1:4]
    assert INVOKE not in calls


# ---- by the Accept header ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("image/avif,image/webp,image/apng,*/*;q=0.8", "image/avif"),
        ("image/webp,*/*", "image/webp"),
        ("image/avif;q=0, image/webp;q=0.1", "image/webp"),
        ("IMAGE/AVIF", "image/avif"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/avifx", "image/png"),
        ("", "image/png"),
    ],
)
def test_the_automatic_format_is_the_smallest_that_is_accepted_by_name(photo: Client, accept: str, content_type: str) -> None:
    answer = ask(photo, "?width=20&format=auto", Accept=accept)
    assert (answer.headers["content-type"], f"image/{(shown(answer).format or '').lower()}") == (content_type, content_type)
    assert answer.headers["vary"] == "Accept"


def test_what_moves_goes_on_moving_in_the_automatic_format(photo: Client) -> None:
    file = io.BytesIO()
    drawn().save(file, "GIF", save_all=True, append_images=[drawn(left=GREEN)], duration=50, loop=0)
    for name, body, form, frames in (("moving", file.getvalue(), "WEBP", 2), ("still", written(drawn(), "GIF"), "AVIF", 1)):
        photo.put("b", name, body, "image/gif")
        image: Any = shown(ask(photo, "?width=20&format=auto", name, Accept="image/avif,image/webp"))
        assert (image.format, image.n_frames, image.size) == (form, frames, (20, 10))


def test_caches_are_told_that_the_answer_varies(photo: Client, choose: Choose) -> None:
    photo("PUT", "/storage/buckets/b", {"transform_presets": PRESETS})
    for query in ("?width=20&format=auto", "?preset=auto"):
        choose("STOWAGE_CORS_ORIGINS", "*")
        tag = ask(photo, query, Accept="image/webp").headers["etag"]
        unchanged = ask(photo, query, Accept="image/webp", If_None_Match=tag)
        assert (unchanged.status, unchanged.headers["vary"]) == (304, "Accept")
        assert ask(photo, query, Accept="image/avif", If_None_Match=tag).status == 200
        choose("STOWAGE_CORS_ORIGINS", "https://app.test")
        for headers in ({}, {"If_None_Match": tag}, {"Origin": "https://app.test"}):
            varies = ask(photo, query, Accept="image/webp", **headers).headers["vary"]
            assert {name.strip() for name in varies.split(",")} == {"Accept", "Origin"}
    assert ask(photo, "?width=20").headers["vary"] == "Origin"
    assert ask(photo, "?preset=thumb").headers["vary"] == "Origin"


# ---- validators and conditions -------------------------------------------------------------------------
def tag_of(client: Client, query: str, **headers: str) -> str:
    return ask(client, query, method="HEAD", **headers).headers["etag"]


def test_the_validator_is_weak_and_of_its_own(photo: Client) -> None:
    tag = tag_of(photo, "?width=20")
    assert tag.startswith('W/"')
    assert tag.endswith('"')
    assert version_of(photo) not in tag


@pytest.mark.parametrize(
    "queries",
    [
        [
            "?width=20&height=10",
            "?height=10&width=20",
            "?width=020&height=10&fit=contain&enlarge=false&quality=80&focal=50,50",
            "?width=20&height=10&enlarge=0",
        ],
        ["?width=20&format=png", "?width=20&format=png&quality=7"],
        ["?width=20", "?width=20&fit=cover", "?width=20&fit=cover&focal=1,2"],
        ["?width=20&height=20&fit=cover", "?width=20&height=20&fit=cover&focal=50.0,50.001"],
        ["?format=webp", "?format=webp&enlarge=true", "?format=webp&quality=80"],
    ],
)
def test_the_validator_is_the_same_however_the_options_are_written(photo: Client, calls: list[Call], queries: list[str]) -> None:
    assert len({tag_of(photo, query) for query in queries}) == 1
    assert calls.count(INVOKE) == 1


def test_the_validator_differs_where_the_picture_may(photo: Client) -> None:
    queries = ["?width=20", "?width=21", "?height=20", "?width=20&enlarge=true", "?width=20&format=webp", "?width=20&format=jpeg"]
    queries += ["?width=20&format=webp&quality=79", "?width=20&height=20", "?width=20&height=20&fit=cover"]
    queries += ["?width=20&height=20&fit=cover&focal=0,50", "?width=20&height=20&fit=cover&focal=50,0"]
    tags = [tag_of(photo, query) for query in queries]
    assert len(set(tags)) == len(queries)
    assert tag_of(photo, "?width=20&format=auto", Accept="image/webp") == tags[4]
    assert tag_of(photo, "?width=20&format=auto", Accept="image/png") == tags[0]


def test_an_overwrite_is_another_picture_at_once(photo: Client) -> None:
    before = ask(photo, "?width=20")
    photo.put("b", "photo.png", written(drawn(left=GREEN)), "image/png")
    after = ask(photo, "?width=20", If_None_Match=before.headers["etag"])
    assert shown(before).convert("RGB").getpixel((1, 1)) == RED
    assert shown(after).convert("RGB").getpixel((1, 1)) == GREEN
    assert after.headers["etag"] != before.headers["etag"]


def test_a_move_keeps_the_validator_and_the_picture(photo: Client, calls: list[Call]) -> None:
    before = ask(photo, "?width=20")
    photo("POST", "/storage/object/move", {"bucket": "b", "from": "photo.png", "to": "moved.png"})
    calls.clear()
    after = ask(photo, "?width=20", "moved.png")
    assert (after.body, after.headers["etag"]) == (before.body, before.headers["etag"])
    assert INVOKE not in calls


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_at_hand_is_spared(photo: Client, calls: list[Call], method: str) -> None:
    got = ask(photo, "?width=20")
    tag = got.headers["etag"]
    for named in (tag, tag.removeprefix("W/"), f'"a", {tag}', "*"):
        calls.clear()
        answer = ask(photo, "?width=20", method=method, If_None_Match=named)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
        assert answer.headers["cache-control"] == got.headers["cache-control"]
        assert "content-length" not in answer.headers
        assert calls == [BATCH_GET]
    assert ask(photo, "?width=20", method=method, If_None_Match='W/"other"').status == 200
    assert ask(photo, "?width=21", method=method, If_None_Match=tag).status == 200
    assert ask(photo, "?width=20", method=method, If_None_Match=ask(photo).headers["etag"]).status == 200
    assert ask(photo, "?width=20", method=method, If_Modified_Since=ask(photo).headers["last-modified"]).status == 200


def test_nothing_matches_strongly_but_a_star(photo: Client, calls: list[Call]) -> None:
    tag = tag_of(photo, "?width=20")
    calls.clear()
    for named in (tag, tag.removeprefix("W/"), ask(photo).headers["etag"], '"other"'):
        assert told(ask(photo, "?width=20", If_Match=named)) == (412, "PreconditionFailed")
    assert INVOKE not in calls
    assert size_of(ask(photo, "?width=20", If_Match="*")) == (20, 10)


def test_head_tells_everything_but_the_bytes(photo: Client) -> None:
    head, got = ask(photo, "?width=20&format=auto&download", method="HEAD"), ask(photo, "?width=20&format=auto&download")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == head.headers["x-object-size"] == str(len(got.body))
    for either in (head, got):
        for name in ("content-length", "x-request-id"):
            either.headers.pop(name, None)
    assert head.headers == got.headers


@pytest.mark.parametrize("header", ["bytes=0-9", "bytes=-1", "bytes=999999-", "bytes=0-1,3-4"])
def test_a_range_of_a_transformed_image_is_all_of_it(photo: Client, header: str) -> None:
    whole, answer = ask(photo, "?width=20"), ask(photo, "?width=20", Range=header)
    assert (answer.status, answer.body) == (200, whole.body)
    assert not {"content-range", "accept-ranges"} & answer.headers.keys()


# ---- as an attachment ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "query", "saved_as"),
    [
        ("photo.png", "width=20", "photo.png"),
        ("photo.png", "format=webp", "photo.webp"),
        ("folder.d/näme", "format=jpeg", "näme.jpeg"),
        ("a.b.png", "format=avif", "a.b.avif"),
        (".hidden", "format=webp", ".hidden.webp"),
    ],
)
def test_it_is_saved_under_the_objects_name_with_the_ending_of_what_it_is(photo: Client, name: str, query: str, saved_as: str) -> None:
    photo.put("b", name, written(drawn()), "image/png")
    for method in ("GET", "HEAD"):
        disposition = ask(photo, f"?{query}&download", name, method).headers["content-disposition"]
        assert disposition.startswith("attachment; ")
        assert disposition.endswith("filename*=UTF-8''" + quote(saved_as))


def test_it_is_saved_under_the_name_asked_for(photo: Client) -> None:
    disposition = ask(photo, f"?format=webp&download={quote('my ü.bin')}").headers["content-disposition"]
    assert disposition == f"attachment; filename=\"my _.bin\"; filename*=UTF-8''{quote('my ü.bin')}"


# ---- who may keep it, and who may have it --------------------------------------------------------------
@pytest.mark.parametrize(("public", "scope"), [(True, "public"), (False, "private")])
@pytest.mark.parametrize("query", ["", "&width=20"])
def test_a_url_that_names_the_version_may_be_kept_for_good(photo: Client, public: bool, scope: str, query: str) -> None:
    photo("PUT", "/storage/buckets/b", {"public": public})
    named = f"?version={version_of(photo)}{query}"
    tag = ask(photo, named).headers["etag"]
    for answer in (ask(photo, named), ask(photo, named, method="HEAD"), ask(photo, named, If_None_Match=tag)):
        assert answer.headers["cache-control"] == f"{scope}, max-age=31536000, immutable"
    assert [ask(photo, named, If_None_Match=tag).status, ask(photo, named).status] == [304, 200]
    assert ask(photo, query.replace("&", "?")).headers["cache-control"] == f"{scope}, no-cache"


def test_what_a_preset_means_may_change_and_is_asked_for_each_time(tenant: Tenant, photo: Client) -> None:
    photo("PUT", "/storage/buckets/b", {"transform_presets": PRESETS})
    version = version_of(photo)
    for url in (f"/storage/object/b/photo.png?preset=thumb&version={version}", f"{sign(photo, {'preset': 'thumb'})}?version={version}"):
        answer = tenant.service("GET", url)
        assert answer.headers["cache-control"] == "private, no-cache"
        photo("PUT", "/storage/buckets/b", {"transform_presets": {"thumb": {"width": 10}}})
        changed = tenant.service("GET", url, headers={"If-None-Match": answer.headers["etag"]})
        assert (size_of(answer), size_of(changed)) == ((20, 20), (10, 5))
        photo("PUT", "/storage/buckets/b", {"transform_presets": PRESETS})


@pytest.mark.parametrize("query", ["", "&width=20"])
def test_a_url_that_names_another_version_finds_nothing(photo: Client, calls: list[Call], query: str) -> None:
    old = version_of(photo)
    tag = ask(photo, f"?version={old}{query}").headers["etag"]
    photo.put("b", "photo.png", written(drawn()), "image/png")
    calls.clear()
    for version in (old, "", "x", version_of(photo).lower()):
        for headers in ({}, {"If_None_Match": tag}, {"If_None_Match": "*"}):
            assert told(ask(photo, f"?version={version}{query}", **headers)) == (404, "ObjectNotFound")
    assert INVOKE not in calls


def test_a_public_buckets_images_are_for_everyone(tenant: Tenant, photo: Client, choose: Choose) -> None:
    photo("PUT", "/storage/buckets/b", {"public": True})
    path = f"/storage/public/{tenant.tenant_id}/b/photo.png?width=20"
    answer = tenant.nobody("GET", path)
    assert (size_of(answer), answer.headers["cache-control"]) == ((20, 10), "public, no-cache")
    assert tenant.nobody("HEAD", path).headers["content-length"] == str(len(answer.body))
    assert tenant.nobody("GET", path, headers={"If-None-Match": answer.headers["etag"]}).status == 304
    assert size_of(ask(tenant.anon, "?width=20")) == (20, 10)
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    assert size_of(ask(tenant.nobody, "?width=20")) == (20, 10)


def test_a_private_buckets_images_are_hidden_as_its_objects_are(tenant: Tenant, photo: Client, calls: list[Call]) -> None:
    for query in ("", "?width=20", "?width=x"):
        assert told(ask(tenant.anon, query)) == told(ask(tenant.user(), query)) == (404, "ObjectNotFound")
        assert told(ask(tenant.nobody, query)) == (401, "Unauthorized")
        assert told(tenant.nobody("GET", f"/storage/public/{tenant.tenant_id}/b/photo.png{query}")) == (404, "ObjectNotFound")
    assert told(ask(photo, "?width=20", "absent.png")) == (404, "ObjectNotFound")
    assert INVOKE not in calls


def test_a_policy_opens_an_images_transforms_with_it(tenant: Tenant, photo: Client) -> None:
    definition = "auth_email() = 'ada@example.com'"
    photo("POST", "/storage/policies", {"bucket": "b", "name": "p", "operation": "SELECT", "definition": definition})
    ada, bob = tenant.user(email="ada@example.com"), tenant.user(email="bob@example.com")
    assert size_of(ask(ada, "?width=20")) == (20, 10)
    assert told(ask(bob, "?width=20")) == (404, "ObjectNotFound")
    assert told(ask(bob, "?width=20", If_None_Match="*")) == (404, "ObjectNotFound")


# ---- signed URLs ---------------------------------------------------------------------------------------
def asked(client: Client, transform: Any = None, path: str = "photo.png", **more: Any) -> Answer:
    given = {} if transform is None else {"transform": transform}
    return client("POST", "/storage/signed-url", {"bucket": "b", "path": path, **given, **more})


def sign(client: Client, transform: Any = None, path: str = "photo.png", **more: Any) -> str:
    answer = asked(client, transform, path, **more)
    assert answer.status == 200, answer.body
    return str(answer.json()["signed_url"])


def test_a_signed_url_takes_options_in_its_query(tenant: Tenant, photo: Client) -> None:
    url = sign(photo)
    answer = tenant.nobody("GET", f"{url}?width=20&format=webp")
    assert (size_of(answer), shown(answer).format, answer.headers["cache-control"]) == ((20, 10), "WEBP", "private, no-cache")
    assert tenant.nobody("HEAD", f"{url}?width=20&format=webp").headers["content-length"] == str(len(answer.body))
    assert answer.headers["etag"] == ask(photo, "?width=20&format=webp").headers["etag"]
    assert told(tenant.nobody("GET", f"{url}?width=x")) == (400, "InvalidRequest")
    assert size_of(tenant.nobody("GET", url)) == (80, 40)


def test_a_url_signed_for_a_transform_opens_that_and_nothing_else(tenant: Tenant, photo: Client, calls: list[Call]) -> None:
    url = sign(photo, {"width": 20, "height": 20, "fit": "cover", "focal": "0,50", "enlarge": False, "format": "webp", "quality": 90})
    answer = tenant.nobody("GET", url)
    assert (size_of(answer), shown(answer).format) == ((20, 20), "WEBP")
    assert answer.headers["etag"] == tag_of(photo, "?width=20&height=20&fit=cover&focal=0,50&format=webp&quality=90")
    assert answer.headers["cache-control"] == "private, no-cache"
    assert tenant.nobody("GET", url, headers={"If-None-Match": answer.headers["etag"]}).status == 304
    calls.clear()
    for name in sorted(PARAMETERS):
        assert told(tenant.nobody("GET", f"{url}?{name}=20")) == (400, "InvalidRequest")
    assert INVOKE not in calls
    assert tenant.nobody("GET", f"{url}?download=x.webp&other=1").body == answer.body


def test_a_url_signed_for_the_automatic_format_varies(tenant: Tenant, photo: Client) -> None:
    url = sign(photo, {"format": "auto", "width": 20})
    for accept, form in (("image/avif", "AVIF"), ("image/webp", "WEBP"), ("*/*", "PNG")):
        answer = tenant.nobody("GET", url, headers={"Accept": accept})
        assert (shown(answer).format, answer.headers["vary"]) == (form, "Accept")


def test_a_url_is_signed_for_a_transform_of_an_image_alone(tenant: Tenant, photo: Client) -> None:
    photo.put("b", "words", TEXT, "text/plain")
    photo.put("b", "drawing", SVG, "image/svg+xml")
    for name in ("words", "drawing"):
        assert told(asked(photo, {"width": 20}, name)) == (400, "InvalidRequest")
    url = sign(photo, {"width": 20})
    photo.put("b", "photo.png", TEXT, "text/plain")
    assert told(tenant.nobody("GET", url)) == (422, "UnprocessableImage")
    assert tenant.nobody("GET", sign(photo)).body == TEXT


def test_a_url_signed_for_a_preset_opens_what_the_preset_says(tenant: Tenant, photo: Client) -> None:
    photo("PUT", "/storage/buckets/b", {"transform_presets": PRESETS})
    url = sign(photo, {"preset": "thumb"})
    assert size_of(tenant.nobody("GET", url)) == (20, 20)
    assert told(tenant.nobody("GET", f"{url}?preset=auto")) == (400, "InvalidRequest")
    photo("PUT", "/storage/buckets/b", {"transform_presets": {"thumb": {"width": 10}}})
    assert size_of(tenant.nobody("GET", url)) == (10, 5)


@pytest.mark.parametrize(("transform", "query"), [(None, "&width=20"), ({"width": 20}, "")])
def test_what_is_kept_dies_with_the_url(tenant: Tenant, photo: Client, clock: Clock, transform: Any, query: str) -> None:
    photo("PUT", "/storage/buckets/b", {"public": True})
    url = f"{sign(photo, transform, expires_in=600)}?version={version_of(photo)}{query}"
    for left in (600, 310, 20):
        answer = tenant.nobody("GET", url)
        scope, age, immutable = answer.headers["cache-control"].split(", ")
        assert (scope, immutable, size_of(answer)) == ("private", "immutable", (20, 10))
        assert left - 15 <= int(age.removeprefix("max-age=")) <= left
        clock.advance(290)
    assert told(tenant.nobody("GET", url)) == (401, "ExpiredToken")


def test_a_token_for_a_transform_ends_as_any_other(tenant: Tenant, photo: Client) -> None:
    url = sign(photo, {"width": 20})
    photo("POST", "/storage/signed-url/revoke", {"bucket": "b", "path": "photo.png"})
    assert told(tenant.nobody("GET", url)) == (401, "InvalidSignature")


UNASKABLE: list[Any] = [
    *({}, {"blur": 3}, {"width": 20, "blur": 3}, "thumb", ["thumb"]),
    *({"width": value} for value in (0, 4097, "20", True, 1.5, None)),
    *({"quality": 101}, {"fit": "fill"}, {"format": "gif"}, {"focal": "101,0"}, {"focal": "centre"}, {"enlarge": "true"}),
]


def test_no_url_is_signed_for_what_could_not_be_asked(photo: Client) -> None:
    photo("PUT", "/storage/buckets/b", {"transform_presets": PRESETS})
    for transform in [*UNASKABLE, {"preset": ""}, {"preset": "none"}, {"preset": "thumb", "width": 20}]:
        many = photo("POST", "/storage/signed-urls", {"bucket": "b", "paths": ["photo.png"], "transform": transform})
        assert told(asked(photo, transform)) == told(many) == (400, "InvalidRequest"), transform


def test_many_urls_are_signed_for_one_transform(tenant: Tenant, photo: Client) -> None:
    photo.put("b", "second.png", written(drawn((40, 40))), "image/png")
    paths = ["photo.png", "absent.png", "second.png"]
    outcomes = photo("POST", "/storage/signed-urls", {"bucket": "b", "paths": paths, "transform": {"width": 20}}).json()
    assert [each["path"] for each in outcomes] == paths
    assert outcomes[1]["error"]["code"] == "ObjectNotFound"
    assert [size_of(tenant.nobody("GET", outcomes[index]["signed_url"])) for index in (0, 2)] == [(20, 10), (20, 20)]
    assert told(tenant.nobody("GET", outcomes[0]["signed_url"] + "?width=30")) == (400, "InvalidRequest")


def test_who_may_not_read_signs_no_transform(tenant: Tenant, photo: Client) -> None:
    for client in (tenant.anon, tenant.user()):
        assert told(asked(client, {"width": 20})) == (404, "ObjectNotFound")


# ---- buckets that are held to their presets ------------------------------------------------------------
@pytest.fixture
def held(photo: Client) -> Callable[[str], Client]:
    """Makes the bucket public, gives it presets and holds it to a mode; gives the service's client."""

    def hold(mode: str) -> Client:
        assert photo("PUT", "/storage/buckets/b", {"public": True, "transforms": mode, "transform_presets": PRESETS}).status == 200
        return photo

    return hold


def ways(tenant: Tenant, photo: Client) -> list[Callable[[str], Answer]]:
    """Every way to ask without the service key's rights: with keys, without one, on the public route, by a signed URL."""
    signed, public = sign(photo), f"/storage/public/{tenant.tenant_id}/b/photo.png"
    return [
        lambda query: ask(tenant.anon, query),
        lambda query: ask(tenant.user(), query),
        lambda query: tenant.nobody("GET", public + query),
        lambda query: tenant.service("GET", public + query),
        lambda query: tenant.nobody("GET", signed + query),
        lambda query: tenant.service("GET", signed + query),
    ]


def test_a_bucket_of_presets_gives_nothing_else(tenant: Tenant, held: Callable[[str], Client], calls: list[Call]) -> None:
    for way in ways(tenant, held("presets")):
        calls.clear()
        for query in ("?width=20", "?format=webp", "?width=abc"):
            answer = way(query)
            assert told(answer) == (403, "Forbidden")
            assert "auto, thumb" in answer.json()["message"]
        for query in ("?preset=none", "?preset=", "?preset=thumb&width=20", "?preset=thumb&quality=1"):
            assert told(way(query)) == (400, "InvalidRequest")
        assert INVOKE not in calls
        assert size_of(way("?preset=thumb")) == (20, 20)
        assert size_of(way("")) == (80, 40)


def test_a_preset_is_the_picture_that_its_options_are(held: Callable[[str], Client]) -> None:
    photo = held("any")
    assert tag_of(photo, "?preset=thumb") == tag_of(photo, "?width=20&height=20&fit=cover")
    assert told(ask(photo, "?preset=thumb&width=20")) == (400, "InvalidRequest")
    answer = ask(photo, "?preset=auto", Accept="image/webp")
    assert (shown(answer).format, size_of(answer)) == ("WEBP", (30, 15))


def test_a_bucket_of_signed_transforms_gives_nothing_else(tenant: Tenant, held: Callable[[str], Client], calls: list[Call]) -> None:
    photo = held("signed")
    for way in ways(tenant, photo):
        calls.clear()
        for query in ("?width=20", "?preset=thumb", "?preset=none", "?width=abc"):
            assert told(way(query)) == (403, "Forbidden")
        assert INVOKE not in calls
        assert size_of(way("")) == (80, 40)
    assert size_of(tenant.nobody("GET", sign(photo, {"width": 20}))) == (20, 10)
    assert size_of(tenant.nobody("GET", sign(photo, {"preset": "thumb"}))) == (20, 20)


@pytest.mark.parametrize("mode", ["presets", "signed"])
def test_a_service_key_is_held_to_nothing(tenant: Tenant, held: Callable[[str], Client], mode: str) -> None:
    photo = held(mode)
    assert size_of(ask(photo, "?width=20")) == (20, 10)
    assert size_of(ask(photo, "?preset=thumb")) == (20, 20)
    assert size_of(tenant.nobody("GET", sign(photo, {"width": 30}))) == (30, 15)


@pytest.mark.parametrize("mode", ["presets", "signed"])
def test_who_is_held_to_a_mode_cannot_sign_a_way_around_it(tenant: Tenant, held: Callable[[str], Client], mode: str) -> None:
    held(mode)
    for client in (tenant.anon, tenant.user()):
        for width in (11, 12):
            signed = asked(client, {"width": width})
            opened = tenant.nobody("GET", signed.json()["signed_url"]) if signed.status == 200 else signed
            assert told(opened) == (403, "Forbidden")
        many = client("POST", "/storage/signed-urls", {"bucket": "b", "paths": ["photo.png"], "transform": {"width": 11}})
        assert b"/storage/signed/" not in many.body
        assert asked(client, {"preset": "thumb"}).status == (200 if mode == "presets" else 403)
        assert size_of(tenant.nobody("GET", sign(client))) == (80, 40)


@pytest.mark.parametrize("mode", ["presets", "signed"])
def test_what_others_signed_before_is_held_to_the_mode_too(tenant: Tenant, photo: Client, held: Callable[[str], Client], mode: str) -> None:
    held("any")
    theirs, ours = sign(tenant.anon, {"width": 20}), sign(photo, {"width": 20})
    assert size_of(tenant.nobody("GET", theirs)) == (20, 10)
    held(mode)
    assert told(tenant.nobody("GET", theirs)) == (403, "Forbidden")
    assert size_of(tenant.nobody("GET", ours)) == (20, 10)


@pytest.mark.parametrize("mode", ["presets", "signed"])
def test_what_is_no_image_is_given_in_any_mode(tenant: Tenant, held: Callable[[str], Client], mode: str) -> None:
    held(mode).put("b", "words", TEXT, "text/plain")
    assert ask(tenant.anon, "?width=20", "words").body == TEXT


# ---- a bucket's presets --------------------------------------------------------------------------------
def test_a_bucket_shows_how_its_images_may_be_asked_for(service: Client) -> None:
    created = service.bucket("b", transforms="presets", transform_presets=PRESETS)
    for answer in (created, service("GET", "/storage/buckets/b").json(), *service("GET", "/storage/buckets").json()):
        assert answer["transforms"] == "presets"
        assert answer["transform_presets"].keys() == PRESETS.keys()
        assert {name: str(value) for name, value in answer["transform_presets"]["auto"].items()} == {"width": "30", "format": "auto"}
    changed = service("PUT", "/storage/buckets/b", {"transforms": "signed"}).json()
    assert (changed["transforms"], changed["transform_presets"].keys()) == ("signed", PRESETS.keys())
    replaced = service("PUT", "/storage/buckets/b", {"transform_presets": {"one": {"quality": 5}}}).json()
    assert (replaced["transforms"], list(replaced["transform_presets"])) == ("signed", ["one"])


def test_what_a_bucket_shows_of_its_presets_may_be_given_back(service: Client) -> None:
    shown_presets = service.bucket("b", transform_presets={"p": {"width": 20, "enlarge": True}})["transform_presets"]
    answer = service("PUT", "/storage/buckets/b", {"transform_presets": shown_presets})
    assert (answer.status, answer.json().get("transform_presets")) == (200, shown_presets)


def test_null_lifts_what_a_bucket_was_held_to(service: Client) -> None:
    fresh = service.bucket("a")
    assert (fresh["transforms"], fresh["transform_presets"]) == ("any", {})
    service.bucket("b", transforms="presets", transform_presets=PRESETS)
    lifted = service("PUT", "/storage/buckets/b", {"transforms": None}).json()
    assert (lifted["transforms"], lifted["transform_presets"].keys()) == ("any", PRESETS.keys())
    lifted = service("PUT", "/storage/buckets/b", {"transform_presets": None}).json()
    assert (lifted["transforms"], lifted["transform_presets"]) == ("any", {})


def test_a_bucket_takes_no_mode_and_no_presets_that_there_cannot_be(service: Client) -> None:
    before = service.bucket("b")
    many = {f"p{number}": {"width": 20} for number in range(51)}
    named = [{name: {"width": 20}} for name in ("", "x" * 41, "a\nb", "a\x00")]
    options = [{"good": {"width": 20}, "bad": options} for options in [*UNASKABLE, {"preset": "good"}, None]]
    wrong: list[dict[str, Any]] = [{"transforms": mode} for mode in ("none", "", True, ["presets"])]
    for fields in [*wrong, *({"transform_presets": presets} for presets in (many, [], "x", *named, *options))]:
        assert told(service("POST", "/storage/buckets", {"name": "new", **fields})) == (400, "InvalidRequest"), fields
        assert told(service("PUT", "/storage/buckets/b", fields)) == (400, "InvalidRequest"), fields
    assert service("GET", "/storage/buckets").json() == [before]


def test_a_bucket_takes_as_many_presets_with_names_as_long_as_it_says(photo: Client) -> None:
    names = ["x" * 40, "ü 日", *(f"p{number}" for number in range(48))]
    answer = photo("PUT", "/storage/buckets/b", {"transform_presets": {name: {"width": 20} for name in names}})
    assert (answer.status, sorted(answer.json()["transform_presets"])) == (200, sorted(names))
    for name in names[:3]:
        assert size_of(ask(photo, f"?preset={quote(name)}")) == (20, 10)


# ---- what is refused -----------------------------------------------------------------------------------
def claims_of(photo: Client, query: dict[str, str], name: str = "photo.png") -> Any:
    """The row of a transform that was asked for with these options, or None."""
    bucket_id = photo("GET", "/storage/buckets/b").json()["id"]
    return Transform.read(f"{transforms.FOLDER}{bucket_id}/{version_of(photo, name)}/{parse(query)}")


def test_a_source_that_is_too_large_is_refused_unseen(photo: Client, choose: Choose, calls: list[Call]) -> None:
    size = len(written(drawn()))
    choose("STOWAGE_MAX_TRANSFORM_SIZE", str(size - 1))
    answer = ask(photo, "?width=20")
    assert told(answer) == (422, "UnprocessableImage")
    assert answer.json()["details"] == {"limit": size - 1}
    assert INVOKE not in calls
    assert ask(photo).status == 200
    choose("STOWAGE_MAX_TRANSFORM_SIZE", str(size))
    assert ask(photo, "?width=20").status == 200


@pytest.mark.parametrize(
    "body", [written(noise(32))[:900], TEXT, b"", SVG, b"\x89PNG\r\n\x1a\n"], ids=["cut short", "text", "empty", "svg", "a signature"]
)
def test_what_cannot_be_decoded_is_refused_and_remembered(photo: Client, calls: list[Call], body: bytes) -> None:
    photo.put("b", "bad.png", body, "image/png")
    calls.clear()
    first = ask(photo, "?width=20", "bad.png")
    assert told(first) == (422, "UnprocessableImage")
    assert calls.count(INVOKE) == 1
    second = ask(photo, "?width=20", "bad.png")
    assert (told(second), second.json()["message"]) == (told(first), first.json()["message"])
    assert ask(photo, "?width=20", "bad.png", "HEAD").status == 422
    assert calls.count(INVOKE) == 1
    assert ask(photo, "", "bad.png").body == body


def test_a_refusal_is_of_one_version_and_for_an_hour(photo: Client, calls: list[Call], clock: Clock) -> None:
    photo.put("b", "photo.png", TEXT, "image/png")
    assert ask(photo, "?width=20").status == 422
    photo.put("b", "photo.png", written(drawn()), "image/png")
    assert size_of(ask(photo, "?width=20")) == (20, 10)
    photo.put("b", "photo.png", TEXT, "image/png")
    assert ask(photo, "?width=20").status == 422
    calls.clear()
    clock.advance(3590)
    assert (ask(photo, "?width=20").status, calls.count(INVOKE)) == (422, 0)
    clock.advance(20)
    assert (ask(photo, "?width=20").status, calls.count(INVOKE)) == (422, 1)


def test_an_installation_without_an_image_function_says_so(photo: Client, choose: Choose) -> None:
    choose("STOWAGE_IMAGE_FUNCTION", "")
    answer = ask(photo, "?width=20")
    assert told(answer) == (422, "UnprocessableImage")
    assert "STOWAGE_IMAGE_FUNCTION" in answer.json()["message"]
    assert claims_of(photo, {"width": "20"}) is None
    assert ask(photo).status == 200


def test_a_tenant_makes_only_so_many_new_ones_a_minute(
    photo: Client, new_tenant: Any, choose: Choose, clock: Clock, calls: list[Call]
) -> None:
    choose("STOWAGE_TRANSFORMS_PER_MINUTE", "2")
    for width in (20, 21):
        assert ask(photo, f"?width={width}").status == 200
    calls.clear()
    refused = ask(photo, "?width=22")
    assert told(refused) == (429, "Throttled")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert INVOKE not in calls
    assert claims_of(photo, {"width": "22"}) is None
    assert [ask(photo, f"?width={width}").status for width in (20, 21) * 3] == [200] * 6  # what is there costs nothing
    assert told(ask(photo, "?width=x")) == (400, "InvalidRequest")
    other = new_tenant().service
    other.bucket("b")
    other.put("b", "photo.png", written(drawn()), "image/png")
    assert size_of(ask(other, "?width=22")) == (22, 11)
    clock.advance(int(refused.headers["retry-after"]))
    assert size_of(ask(photo, "?width=22")) == (22, 11)
    assert told(ask(photo, "?width=23")) == (429, "Throttled")


# ---- what it costs -------------------------------------------------------------------------------------
def test_a_first_time_costs_a_look_a_claim_a_token_and_an_invocation(photo: Client, calls: list[Call], choose: Choose) -> None:
    choose("STOWAGE_TRANSFORMS_PER_MINUTE", "2")  # so that none has come back when the second is taken
    ask(photo)
    calls.clear()
    ask(photo, "?width=20")
    assert calls == [BATCH_GET, GET_OBJECT, PUT_ITEM, UPDATE_ITEM, INVOKE, PUT_ITEM]
    calls.clear()
    ask(photo, "?width=21")
    assert calls == [BATCH_GET, GET_OBJECT, PUT_ITEM, UPDATE_ITEM, UPDATE_ITEM, INVOKE, PUT_ITEM]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_there_costs_a_look(tenant: Tenant, photo: Client, calls: list[Call], method: str) -> None:
    first = ask(photo, "?width=20")
    url = sign(photo, {"width": 20})
    tenant.nobody("HEAD", url)  # by now this process knows that there is such a tenant
    for client, path in ((photo, "/storage/object/b/photo.png?width=20"), (tenant.nobody, url)):
        calls.clear()
        answer = client(method, path)
        assert calls == [BATCH_GET, GET_OBJECT]
        assert (answer.status, answer.body) == (200, first.body if method == "GET" else b"")
        assert answer.headers["content-type"] == first.headers["content-type"]


def test_what_is_not_allowed_costs_the_row_alone(tenant: Tenant, photo: Client, calls: list[Call]) -> None:
    ask(photo)
    for client, query, status in ((photo, "?width=x", 400), (photo, "?version=x&width=20", 404)):
        calls.clear()
        assert ask(client, query).status == status
        assert calls == [BATCH_GET]


# ---- how long it is kept -------------------------------------------------------------------------------
def kept(photo: Client) -> list[str]:
    """The keys of all results in the storage."""
    bucket_id = photo("GET", "/storage/buckets/b").json()["id"]
    return [listed.key for listed in providers.internal().list(f"{transforms.FOLDER}{bucket_id}/")]


@pytest.mark.parametrize(("chosen", "seconds"), [("", 3600), ("60", 60)])
def test_a_result_that_is_too_old_is_made_again(
    photo: Client, calls: list[Call], clock: Clock, choose: Choose, chosen: str, seconds: int
) -> None:
    choose("STOWAGE_TRANSFORM_TTL", chosen)
    first = ask(photo, "?width=20")
    clock.advance(seconds - 10)
    assert ask(photo, "?width=20").body == first.body
    assert calls.count(INVOKE) == 1
    clock.advance(11)
    again = ask(photo, "?width=20")
    assert calls.count(INVOKE) == 2
    assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_result_that_the_storage_lost_is_made_again(photo: Client, calls: list[Call], clock: Clock, seconds: int) -> None:
    first = ask(photo, "?width=20")
    clock.advance(seconds)
    assert providers.internal().delete(kept(photo)) == {}
    assert ask(photo, "?width=20").body == first.body
    assert calls.count(INVOKE) == 2
    assert len(kept(photo)) == 1


# ---- beyond what one answer carries --------------------------------------------------------------------
@pytest.fixture
def large(photo: Client, choose: Choose) -> Client:
    """The service's client, with a picture `noise` that is larger than one answer, in whatever format."""
    photo.put("b", "noise", written(noise(64)), "image/png")
    choose("STOWAGE_MAX_BODY", "1000")
    return photo


def test_beyond_the_limit_a_redirect_leads_to_the_image(large: Client, calls: list[Call]) -> None:
    for _ in range(2):  # made, and then found
        answer = ask(large, f"?format=webp&download={quote('ä.webp')}", "noise")
        assert (answer.status, answer.body, answer.headers["cache-control"]) == (302, b"", "no-store")
        with urllib.request.urlopen(answer.headers["location"], timeout=10) as got:
            image = Image.open(io.BytesIO(got.read()))
            assert (image.format, image.size, got.headers["Content-Type"]) == ("WEBP", (64, 64), "image/webp")
            assert got.headers["Content-Disposition"].endswith(quote("ä.webp"))
    assert calls.count(INVOKE) == 1


def test_conditions_and_head_need_no_redirect(large: Client) -> None:
    head = ask(large, "?format=webp", "noise", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", head.headers["x-object-size"])
    assert int(head.headers["x-object-size"]) > 1000
    assert ask(large, "?format=webp", "noise", If_None_Match=head.headers["etag"]).status == 304
    assert size_of(ask(large, "?width=8", "noise")) == (8, 8)  # small enough


@pytest.mark.parametrize(("lifetime", "most"), [(60, 60), (7200, 3600)])
def test_a_redirect_lives_no_longer_than_its_token(tenant: Tenant, large: Client, lifetime: int, most: int) -> None:
    answer = tenant.nobody("GET", sign(large, {"format": "webp"}, "noise", expires_in=lifetime))
    seconds = int(parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"][0])
    assert most - 5 <= seconds <= most


# ---- on a folder ---------------------------------------------------------------------------------------
@pytest.fixture
def on_folder(on_filesystem: Path, new_image_function: Any, service: Client) -> Client:
    """As `photo`, where the internal storage is a folder."""
    new_image_function(concurrency=1, patience=30)
    service.bucket("b")
    service.put("b", "photo.png", written(drawn()), "image/png")
    return service


def test_a_folder_keeps_results_as_s3_does(on_folder: Client, calls: list[Call], clock: Clock) -> None:
    ask(on_folder)
    calls.clear()
    first = ask(on_folder, "?width=20&format=webp")
    assert (size_of(first), shown(first).format, first.headers["content-type"]) == ((20, 10), "WEBP", "image/webp")
    assert calls == [BATCH_GET, PUT_ITEM, UPDATE_ITEM, INVOKE, PUT_ITEM]
    calls.clear()
    again, head = ask(on_folder, "?width=20&format=webp"), ask(on_folder, "?width=20&format=webp", method="HEAD")
    assert (again.body, again.headers["content-type"], again.headers["etag"]) == (first.body, "image/webp", first.headers["etag"])
    assert head.headers["content-length"] == str(len(first.body))
    assert ask(on_folder, "?width=20&format=webp", If_None_Match=first.headers["etag"]).status == 304
    assert calls == [BATCH_GET] * 3
    for unkept in (lambda: clock.advance(3601), lambda: providers.internal().delete(kept(on_folder))):
        unkept()
        calls.clear()
        assert ask(on_folder, "?width=20&format=webp").body == first.body
        assert calls.count(INVOKE) == 1


def test_a_folder_refuses_what_s3_refuses(on_folder: Client, calls: list[Call], choose: Choose) -> None:
    choose("STOWAGE_TRANSFORMS_PER_MINUTE", "1")
    on_folder.put("b", "bad.png", TEXT, "image/png")
    assert [told(ask(on_folder, "?width=20", "bad.png")) for _ in range(2)] == [(422, "UnprocessableImage")] * 2
    assert told(ask(on_folder, "?width=0")) == (400, "InvalidRequest")
    assert told(ask(on_folder, "?width=20")) == (429, "Throttled")
    assert calls.count(INVOKE) == 1


def test_a_folder_streams_what_is_beyond_the_limit(on_folder: Client, choose: Choose, calls: list[Call]) -> None:
    source = noise(640)
    on_folder.put("b", "noise", written(source), "image/png")
    choose("STOWAGE_MAX_BODY", "1000")
    for _ in range(2):
        answer = ask(on_folder, "?format=png&download", "noise")
        assert len(answer.body) > 1 << 20  # more than a piece of the stream
        assert shown(answer).tobytes() == source.tobytes()
        assert answer.headers["x-object-size"] == str(len(answer.body))
    assert calls.count(INVOKE) == 1


def test_a_folder_forgets_results_after_a_day(on_folder: Client, clock: Clock) -> None:
    ask(on_folder, "?width=20")
    clock.advance(86_390)
    assert cleanup.expire_copies() == 0
    assert len(kept(on_folder)) == 1
    clock.advance(20)
    assert cleanup.expire_copies() == 1
    assert kept(on_folder) == []
    assert ask(on_folder).status == 200
