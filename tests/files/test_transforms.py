"""Transforms of files: what may be asked for, what comes, and how it is validated and kept (seed 003 "Image transform", FEATURES F11)."""

import re
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from chalicelib import providers
from chalicelib.core import publishing, transforms
from chalicelib.tables.buckets import FILES, Bucket
from tests.client import Answer, Client
from tests.conftest import Call, Tenant
from tests.files.conftest import get, patch, refused, stored
from tests.images import pictures

Choose = Callable[[str, str], None]

INVOKE = Call("lambda", "Invoke")
PROPERTY = hypothesis_settings(
    deadline=None, max_examples=80, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
KEY = "albums/photo.png"
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
TEXT = b"these are words"
TAG = re.compile(r'W/"[0-9a-f]{24}"')
YEAR = "max-age=31536000, immutable"


def halves(left: pictures.Colour = RED, right: pictures.Colour = BLUE, size: tuple[int, int] = (80, 40)) -> Image.Image:
    """A picture whose left half is of one colour and whose right half is of another."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


PICTURE = pictures.saved(halves(), "PNG")


def shown(answer: Answer) -> Image.Image:
    assert answer.status == 200, answer.body
    return pictures.opened(answer.body)


def tag_of(client: Client, query: str, key: str = KEY) -> str:
    """The validator of a transform, which HEAD tells too."""
    answer = get(client, key, query, "HEAD")
    assert answer.status == 200, query
    tag = answer.headers["etag"]
    assert TAG.fullmatch(tag)
    return tag


@pytest.fixture
def photo(image_function: Any, ada: Client) -> Client:
    """Ada's client, with her private picture KEY, 80 pixels by 40, half red and half blue."""
    stored(ada, KEY, PICTURE, content_type="image/png")
    return ada


# ---- what each parameter does --------------------------------------------------------------------------
SIZES = {
    "?width=40": (40, 20),
    "?width=1": (1, 1),
    "?width=4096": (80, 40),
    "?height=10": (20, 10),
    "?height=4096": (80, 40),
    "?width=40&height=40": (40, 20),
    "?width=30&height=20&fit=contain": (30, 15),
    "?width=30&height=30&fit=cover": (30, 30),
    "?width=30&height=30&fit=cover&focal=0,100": (30, 30),
    "?width=30&fit=cover": (30, 15),
    "?quality=1": (80, 40),
    "?quality=100": (80, 40),
    "?fit=cover": (80, 40),
    "?focal=0,0": (80, 40),
}


def test_the_size_is_what_was_asked_for_and_never_distorted(photo: Client) -> None:
    """F11.6: sides from 1 to 4,096, quality from 1 to 100, `cover` or `contain`, a focal point in percent."""
    for query, size in SIZES.items():
        answer = get(photo, KEY, query)
        assert (shown(answer).size, shown(answer).format, answer.headers["content-type"]) == (size, "PNG", "image/png"), query


@pytest.mark.parametrize(("form", "kind"), [("webp", "WEBP"), ("jpeg", "JPEG"), ("png", "PNG"), ("avif", "AVIF")])
def test_the_format_is_the_one_asked_for(photo: Client, form: str, kind: str) -> None:
    """F11.6"""
    answer = get(photo, KEY, f"?width=20&format={form}")
    assert (shown(answer).format, shown(answer).size, answer.headers["content-type"]) == (kind, (20, 10), f"image/{form}")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF", "GIF"])
def test_the_format_is_the_files_own_if_none_is_asked_for(photo: Client, form: str) -> None:
    """F11.6"""
    stored(photo, "other", pictures.saved(halves(), form), content_type=f"image/{form.lower()}")
    answer = get(photo, "other", "?width=20")
    assert (shown(answer).format, answer.headers["content-type"]) == (form, f"image/{form.lower()}")


@pytest.mark.parametrize(
    ("focal", "left", "right"),
    [("", RED, BLUE), ("&focal=50,50", RED, BLUE), ("&focal=0,50", RED, RED), ("&focal=100,50", BLUE, BLUE), ("&focal=12.5,0", RED, RED)],
)
def test_the_focal_point_is_what_a_filled_frame_keeps(photo: Client, focal: str, left: Any, right: Any) -> None:
    """F11.16: here, where no edge service crops."""
    image = shown(get(photo, KEY, "?width=20&height=20&fit=cover" + focal)).convert("RGB")
    assert (image.getpixel((1, 10)), image.getpixel((18, 10))) == (left, right)


@pytest.mark.parametrize(("focal", "top", "bottom"), [("50,0", RED, RED), ("50,100", BLUE, BLUE), ("0,50", RED, BLUE)])
def test_the_focal_point_says_up_and_down_as_well(photo: Client, focal: str, top: Any, bottom: Any) -> None:
    """F11.16"""
    stored(photo, "tall", pictures.saved(halves().transpose(Image.Transpose.ROTATE_270), "PNG"), content_type="image/png")
    image = shown(get(photo, "tall", f"?width=20&height=20&fit=cover&focal={focal}")).convert("RGB")
    assert (image.getpixel((10, 1)), image.getpixel((10, 18))) == (top, bottom)


@pytest.mark.parametrize("form", ["jpeg", "webp", "avif"])
def test_a_higher_quality_costs_more_bytes(photo: Client, form: str) -> None:
    """F11.20: where a format has one, 80 by default."""
    stored(photo, "structured", pictures.saved(pictures.photograph(64, 64), "PNG"), content_type="image/png")
    sizes = [len(get(photo, "structured", f"?format={form}&quality={quality}").body) for quality in (5, 80, 100)]
    assert sizes == sorted(set(sizes))
    assert tag_of(photo, f"?format={form}", "structured") == tag_of(photo, f"?format={form}&quality=80", "structured")


def test_a_lossless_format_has_no_quality(photo: Client, calls: list[Call]) -> None:
    """F11.20: so it says nothing, and makes no other picture; but what is none is refused there too."""
    answers = [get(photo, KEY, f"?width=20&format=png{quality}") for quality in ("", "&quality=1", "&quality=80", "&quality=100")]
    assert len({answer.body for answer in answers}) == len({answer.headers["etag"] for answer in answers}) == 1
    assert calls.count(INVOKE) == 1
    refused(get(photo, KEY, "?width=20&format=png&quality=101"), 422, "VALIDATION")


# ---- what is refused -----------------------------------------------------------------------------------
NUMBERS = [
    "0",
    "00",
    "-1",
    "1.5",
    "1.0",
    "abc",
    "",
    "%205",
    "5%20",
    "%2B5",
    "1e2",
    "0x10",
    "10px",
    "%D9%A3",
    "9" * 30,
    "null",
    "NaN",
    "1,2",
]
BAD = {
    "width": [*NUMBERS, "4097"],
    "height": [*NUMBERS, "4097"],
    "quality": [*NUMBERS, "101"],
    "fit": ["fill", "Cover", "", "inside", "outside", "cover,contain"],
    "format": ["gif", "auto", "jpg", "WEBP", "", "source", "svg", "tiff", "image/webp"],
    "focal": [
        "1/1",
        "101,1",
        "1,101",
        "a,b",
        "",
        ",",
        "50",
        "50,",
        ",50",
        "50,50,50",
        "-1,5",
        "nan,nan",
        "1e1,5",
        "50;50",
        "%2050,50",
        "..,1",
    ],
    "preset": ["none", ""],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_and_nothing_is_made(photo: Client, calls: list[Call], name: str) -> None:
    """F11.7: alone and beside good ones, by GET and HEAD; to drop it silently would hide mistakes."""
    other = "height=10" if name == "width" else "width=10"
    for value in BAD[name]:
        for query in (f"?{name}={value}", f"?{other}&{name}={value}", f"?{name}={value}&{other}"):
            error = refused(get(photo, KEY, query), 422, "VALIDATION")
            assert error["details"]["reason"] == "InvalidRequest"
            assert get(photo, KEY, query, "HEAD").status == 422
    assert INVOKE not in calls


@pytest.mark.parametrize("query", ["?width=10&width=20", "?format=webp&format=png", "?width=%ff"])
def test_a_parameter_that_says_two_things_or_nothing_is_refused(photo: Client, query: str) -> None:
    """F11.7"""
    refused(get(photo, KEY, query), 422, "VALIDATION")


@PROPERTY
@given(st.sampled_from(["width", "height", "quality"]), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
@example("width", "٣")
@example("height", "1_0")
@example("quality", "²")
def test_no_text_is_a_number_but_a_number_within_its_bounds(photo: Client, name: str, text: str) -> None:
    """F11.7"""
    most = 100 if name == "quality" else 4096
    good = re.fullmatch("[0-9]+", text) is not None and 1 <= int(text) <= most
    answer = get(photo, KEY, f"?{name}={quote(text, safe='')}", "HEAD")
    assert answer.status == (200 if good else 422)


ANY = ["?width=10", "?height=9", "?format=webp", "?quality=80", "?fit=cover", "?focal=50,50", "?width=abc", "?format=auto", "?preset=none"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", TEXT),
        ("application/octet-stream", PICTURE),
        ("application/pdf", b"%PDF-1.7"),
        ("video/mp4", TEXT),
        ("image/svg+xml", SVG),
        ("IMAGE/SVG+XML; charset=utf-8", SVG),
    ],
)
def test_what_is_no_image_has_no_transforms_whatever_is_asked(photo: Client, calls: list[Call], content_type: str, body: bytes) -> None:
    """F11.7: good values do not help, and an SVG is a document; without any the file is given as it is."""
    stored(photo, "other", body, content_type=content_type)
    for query in ANY:
        refused(get(photo, "other", query), 422, "VALIDATION")
        assert get(photo, "other", query, "HEAD").status == 422
    assert get(photo, "other").body == get(photo, "other", "?w=10").body == body
    assert INVOKE not in calls


def test_other_parameters_ask_for_no_transform(photo: Client, calls: list[Call]) -> None:
    """F11.6"""
    assert get(photo, KEY, "?w=10&Width=5&blur=3&rotate=90&utm_source=a").body == PICTURE
    assert INVOKE not in calls
    assert tag_of(photo, "?width=20&rotate=90") == tag_of(photo, "?width=20")


@pytest.mark.parametrize(
    "body", [pictures.saved(pictures.photograph(64, 64), "PNG")[:900], TEXT, b"", SVG, b"\x89PNG\r\n\x1a\n"], ids=range(5)
)
def test_an_image_that_cannot_be_decoded_is_refused(photo: Client, calls: list[Call], body: bytes) -> None:
    """F11.7: tried once, and remembered."""
    stored(photo, "broken.png", body, content_type="image/png")
    calls.clear()
    first, second = (refused(get(photo, "broken.png", "?width=20"), 422, "VALIDATION") for _ in range(2))
    assert first == second
    assert calls.count(INVOKE) == 1
    assert get(photo, "broken.png").body == body


def test_an_image_that_is_too_large_is_refused_unseen(photo: Client, choose: Choose, calls: list[Call]) -> None:
    """F11.7"""
    choose("STOWAGE_MAX_TRANSFORM_SIZE", str(len(PICTURE) - 1))
    error = refused(get(photo, KEY, "?width=20"), 422, "VALIDATION")
    assert error["details"]["limit"] == len(PICTURE) - 1
    assert INVOKE not in calls
    assert get(photo, KEY).body == PICTURE


@pytest.mark.parametrize("acl", ["private", "public"])
def test_an_installation_without_an_image_function_refuses(photo: Client, choose: Choose, acl: str) -> None:
    """F11.10: and still gives the file; what is wrong of itself is told first."""
    patch(photo, KEY, acl=acl)
    choose("STOWAGE_IMAGE_FUNCTION", "")
    assert "STOWAGE_IMAGE_FUNCTION" in refused(get(photo, KEY, "?width=20"), 422, "VALIDATION")["message"]
    assert get(photo, KEY, "?width=20", "HEAD").status == 422
    assert refused(get(photo, KEY, "?width=0"), 422, "VALIDATION")["details"]["reason"] == "InvalidRequest"
    assert get(photo, KEY).body == PICTURE


# ---- who may have one ----------------------------------------------------------------------------------
@pytest.mark.parametrize("query", ["?width=20", "?width=0"])
def test_anothers_image_is_not_there_to_be_transformed(
    tenant: Tenant, photo: Client, bob: Client, new_tenant: Any, calls: list[Call], query: str
) -> None:
    """F11.18: whatever is asked of it, and even for a copy at hand."""
    tag = tag_of(photo, "?width=20")
    calls.clear()
    for client in (bob, new_tenant().service):
        theirs = refused(get(client, KEY, query, if_none_match=tag), 404, "NOT_FOUND")
        absent = refused(get(client, "absent.png", query), 404, "NOT_FOUND")
        assert theirs["message"].replace(KEY, "absent.png") == absent["message"]
    refused(get(tenant.anon, KEY, query), 403, "FORBIDDEN")
    refused(get(tenant.nobody, KEY, query), 401, "UNAUTHORIZED")
    assert INVOKE not in calls


@pytest.mark.parametrize("origin", ["", "https://img.example.com"])
def test_a_private_image_is_transformed_here_whether_there_is_a_public_origin_or_not(
    tenant: Tenant, photo: Client, choose: Choose, origin: str
) -> None:
    """F11.18: where the seed's edge-only runtimes refuse it; and it is never handed to the origin."""
    choose("STOWAGE_PUBLIC_BASE_URL", origin)
    for client in (photo, tenant.service):
        answer = get(client, KEY, "?width=20")
        assert (shown(answer).size, answer.headers["cache-control"]) == ((20, 10), f"private, {YEAR}")
        assert "location" not in answer.headers


def test_a_public_image_is_transformed_here_where_there_is_no_public_origin(tenant: Tenant, photo: Client, bob: Client) -> None:
    """F11.18: for those who may read it, for `public` alone opens nothing then."""
    patch(photo, KEY, acl="public")
    for client in (photo, tenant.service):
        assert shown(get(client, KEY, "?width=20")).size == (20, 10)
    refused(get(bob, KEY, "?width=20"), 404, "NOT_FOUND")


# ---- validators and caches -----------------------------------------------------------------------------
@pytest.mark.parametrize(("acl", "scope"), [("private", "private"), ("public", "public")])
def test_a_transform_may_be_kept_for_good_by_those_whom_its_file_is_for(photo: Client, acl: str, scope: str) -> None:
    """F11.8: the seed calls every one public; one of a private file is for the asker's own cache."""
    patch(photo, KEY, acl=acl)
    got, head = get(photo, KEY, "?width=20"), get(photo, KEY, "?width=20", "HEAD")
    unchanged = get(photo, KEY, "?width=20", if_none_match=got.headers["etag"])
    for answer in (got, head, unchanged):
        assert answer.headers["cache-control"] == f"{scope}, {YEAR}"
        assert TAG.fullmatch(answer.headers["etag"])
    assert get(photo, KEY).headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    "queries",
    [
        ["?width=20&height=10&format=webp", "?format=webp&height=10&width=20", "?height=10&format=webp&width=20&a=b"],
        ["?width=20", "?width=020", "?width=20&fit=contain", "?width=20&quality=80", "?width=20&focal=50,50", "?width=20&fit=cover"],
        ["?width=20&height=20&fit=cover", "?fit=cover&focal=50,50&height=20&width=20", "?width=20&height=20&fit=cover&focal=50.0,50.00"],
        ["?format=png", "?format=png&quality=7", "?quality=100&format=png"],
    ],
)
def test_the_validator_is_the_same_however_the_options_are_written(photo: Client, calls: list[Call], queries: list[str]) -> None:
    """F11.8: of the canonical options, and one picture is made."""
    assert len({tag_of(photo, query) for query in queries}) == 1
    assert calls.count(INVOKE) == 1


def test_the_validator_differs_where_the_picture_may(photo: Client) -> None:
    """F11.8: between options and between files, were they the same bytes."""
    stored(photo, "same.png", PICTURE, content_type="image/png")
    queries = ["?width=20", "?width=21", "?height=20", "?width=20&height=20", "?width=20&height=20&fit=cover", "?width=20&format=webp"]
    queries += ["?width=20&format=jpeg", "?width=20&format=webp&quality=79", "?width=20&height=20&fit=cover&focal=0,50"]
    tags = {tag_of(photo, query, key) for query in queries for key in (KEY, "same.png")}
    assert len(tags) == 2 * len(queries)
    assert get(photo, KEY).headers["etag"] not in tags


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_picture_at_hand_is_not_sent_again(photo: Client, calls: list[Call], method: str) -> None:
    """F11.8: 304 with the same validator and no body, by weak comparison, without a look at the storage."""
    tag = tag_of(photo, "?width=20&format=webp")
    for named in (tag, tag.removeprefix("W/"), f'"a", {tag}', "*"):
        calls.clear()
        answer = get(photo, KEY, "?format=webp&width=20", method, if_none_match=named)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
        assert not {call.service for call in calls} & {"s3", "lambda"}
    for other in ('W/"0123456789abcdef01234567"', get(photo, KEY).headers["etag"], tag_of(photo, "?width=20")):
        assert get(photo, KEY, "?width=20&format=webp", method, if_none_match=other).status == 200


def test_an_overwrite_is_another_picture_at_once(photo: Client) -> None:
    """F11.9: the seed's validator, of key and options alone, answers 304 with the picture of before."""
    before = get(photo, KEY, "?width=20")
    stored(photo, KEY, pictures.saved(halves(left=GREEN), "PNG"), content_type="image/png")
    after = get(photo, KEY, "?width=20", if_none_match=before.headers["etag"])
    assert shown(before).convert("RGB").getpixel((1, 1)) == RED
    assert shown(after).convert("RGB").getpixel((1, 1)) == GREEN
    assert TAG.fullmatch(after.headers["etag"])
    assert after.headers["etag"] != before.headers["etag"]
    assert get(photo, KEY, "?width=20", if_none_match=after.headers["etag"]).status == 304


def test_what_is_stored_anew_after_a_deletion_is_another_picture(photo: Client) -> None:
    """F11.9: even of the same bytes."""
    before = tag_of(photo, "?width=20")
    photo("DELETE", f"/api/storage/{KEY}")
    refused(get(photo, KEY, "?width=20", if_none_match=before), 404, "NOT_FOUND")
    stored(photo, KEY, PICTURE, content_type="image/png")
    assert get(photo, KEY, "?width=20", if_none_match=before).status == 200


def test_the_picture_stays_the_same_while_only_what_is_said_of_the_file_changes(photo: Client, calls: list[Call]) -> None:
    """F11.9"""
    before = get(photo, KEY, "?width=20")
    patch(photo, KEY, metadata={"title": "a"})
    calls.clear()
    after = get(photo, KEY, "?width=20")
    assert (after.body, after.headers["etag"]) == (before.body, before.headers["etag"])
    assert INVOKE not in calls


def test_head_tells_everything_but_the_bytes(photo: Client) -> None:
    """F11.6"""
    query = "?width=20&format=webp&download"
    head, got = get(photo, KEY, query, "HEAD"), get(photo, KEY, query)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == head.headers["x-object-size"] == str(len(got.body))
    assert head.headers["content-disposition"].endswith("filename*=UTF-8''photo.webp")
    for either in (head, got):
        for name in ("content-length", "x-request-id"):
            either.headers.pop(name, None)
    assert head.headers == got.headers


def test_a_picture_is_made_once_for_all_who_ask(tenant: Tenant, photo: Client, calls: list[Call]) -> None:
    """F11.6"""
    bodies = {get(client, KEY, "?width=20").body for client in (photo, tenant.service, photo)}
    assert len(bodies) == calls.count(INVOKE) == 1


@pytest.mark.parametrize("origin", ["", "https://img.example.com"])
def test_pictures_of_private_files_lie_where_no_origin_shows_them(tenant: Tenant, photo: Client, choose: Choose, origin: str) -> None:
    """F11.18"""
    choose("STOWAGE_PUBLIC_BASE_URL", origin)
    get(photo, KEY, "?width=20")
    bucket = Bucket.read(tenant.tenant_id, FILES)
    assert bucket is not None
    assert pictures_below(f"{transforms.FOLDER}{bucket.bucket_id}/") == 1
    assert pictures_below(f"{publishing.FOLDER}{bucket.bucket_id}/") == 0


def pictures_below(folder: str) -> int:
    """How many results lie there."""
    return len(list(providers.internal().list(folder)))


# ---- what becomes of what a file says of itself --------------------------------------------------------
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_file_says_before_it_is_scaled(photo: Client, orientation: int) -> None:
    """F11.11: width and height are those of the picture that is seen, and nothing is left to be turned."""
    upright = halves(RED, BLUE)
    stored(photo, "turned.jpg", pictures.turned(upright, "JPEG", orientation, quality=95), content_type="image/jpeg")
    for query in ("?width=40", "?height=20"):
        image = shown(get(photo, "turned.jpg", query + "&format=png"))
        assert image.size == (40, 20)
        assert pictures.ORIENTATION not in image.getexif()
        assert pictures.distance(pictures.pixels(image), pictures.pixels(upright.resize((40, 20), Image.Resampling.BOX))) < 12


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_what_a_file_tells_of_its_maker_is_left_out(photo: Client, form: str) -> None:
    """F11.11: places, names and cameras do not go along."""
    exif = Image.Exif()
    exif[0x010F], exif[0x013B] = "MakerOfCameras", "NameOfSomeone"
    exif.get_ifd(0x8825)[1] = "N"
    source = pictures.saved(halves(), form, exif=exif)
    assert b"NameOfSomeone" in source
    stored(photo, "told", source, content_type=f"image/{form.lower()}")
    for query in ("?width=20", "?quality=90", "?format=avif"):
        answer = get(photo, "told", query)
        assert not dict(shown(answer).getexif())
        assert not any(word in answer.body for word in (b"NameOfSomeone", b"MakerOfCameras"))


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "avif"])
def test_the_colours_of_a_profile_stay_what_they_are(photo: Client, form: str) -> None:
    """F11.11: whether the profile goes along or its colours are brought to sRGB, they are seen as they were."""
    upright, profile = halves(pictures.RED, pictures.BLUE), pictures.built_in_profile("p3")
    numbers = pictures.in_profile(upright, profile)
    stored(photo, "wide.png", pictures.saved(numbers, "PNG", icc_profile=profile), content_type="image/png")
    made = shown(get(photo, "wide.png", f"?width=40&quality=100&format={form}"))
    kept = made.info.get("icc_profile")
    if kept:
        made = ImageCms.profileToProfile(made, ImageCms.ImageCmsProfile(BytesIO(kept)), ImageCms.createProfile("sRGB")) or made
    wanted, faded = (pictures.pixels(image.resize((40, 20), Image.Resampling.BOX)) for image in (upright, numbers))
    assert pictures.distance(pictures.pixels(made), wanted) < 4 < pictures.distance(faded, wanted)


# ---- the same files by the storage surface ---------------------------------------------------------------
OF_OBJECT = f"/storage/object/.files/{KEY}"


@pytest.mark.parametrize("acl", ["private", "public"])
@pytest.mark.parametrize("query", ["?width=20", "?width=20&version={version}", "?format=auto"])
def test_no_shared_cache_keeps_what_the_storage_surface_gives_of_a_file(
    tenant: Tenant, new_tenant: Any, photo: Client, acl: str, query: str
) -> None:
    """F11.18: its URLs name no tenant, so that another's picture of the same key has the same one."""
    patch(photo, KEY, acl=acl)
    other = new_tenant().user(sub="ada")
    stored(other, KEY, PICTURE, f"?acl={acl}", content_type="image/png")
    for client, size in ((photo, (20, 10)), (other, (20, 10))):
        path = OF_OBJECT + query.format(version=client("GET", "/api/storage").json()["data"][0]["version"])
        got = client("GET", path)
        for answer in (got, client("HEAD", path), client("GET", path, headers={"if-none-match": got.headers["etag"]})):
            assert answer.headers["cache-control"].startswith("private")
            assert ("immutable" in answer.headers["cache-control"]) == ("version" in query)
        if "width" in query:
            assert shown(got).size == size


def test_how_strict_it_is_goes_by_the_surface_that_is_asked(photo: Client, ada: Client) -> None:
    """CONTRACT: what is no image is given as it is by the one, and 422 by the other."""
    stored(ada, "notes.txt", b"words")
    refused(get(ada, "notes.txt", "?width=20"), 422, "VALIDATION")
    refused(get(photo, KEY, "?format=auto"), 422, "VALIDATION")
    assert ada("GET", "/storage/object/.files/notes.txt?width=20").body == b"words"
    assert photo("GET", f"{OF_OBJECT}?format=auto", headers={"accept": "image/webp"}).headers["content-type"] == "image/webp"
