"""Downloads: ranges, conditions, HEAD, safe headers, redirects, the public route (CONTRACT, RFC 9110)."""

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib import seam
from chalicelib.tables.objects import StoredObject
from tests.api.held import storage_of
from tests.client import Answer, Client
from tests.conftest import Clock, Tenant

PROPERTY = hypothesis_settings(
    deadline=None, max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
DIGITS = b"0123456789"
# https://mimesniff.spec.whatwg.org/#javascript-mime-type: what a browser takes for a script, `nosniff` or not.
JAVASCRIPT = [
    "application/ecmascript",
    "application/javascript",
    "application/x-ecmascript",
    "application/x-javascript",
    "text/ecmascript",
    "text/javascript",
    "text/javascript1.0",
    "text/javascript1.1",
    "text/javascript1.2",
    "text/javascript1.3",
    "text/javascript1.4",
    "text/javascript1.5",
    "text/jscript",
    "text/livescript",
    "text/x-ecmascript",
    "text/x-javascript",
]


@pytest.fixture
def digits(service: Client, clock: Clock) -> Client:
    """The service's client, with an object `d` of ten bytes in bucket `b`, some seconds old."""
    service.bucket("b")
    service.put("b", "d", DIGITS, "text/plain")
    clock.advance(5)
    return service


def fetch(client: Client, headers: dict[str, Any] | None = None, method: str = "GET", query: str = "") -> Answer:
    return client(method, f"/storage/object/b/d{query}", headers=headers)


# ---- the whole -----------------------------------------------------------------------------------------
def test_a_download_gives_the_bytes_and_what_they_are(digits: Client) -> None:
    answer = fetch(digits)
    version = digits("GET", "/storage/object-info/b/d").json()["version"]
    assert (answer.status, answer.body) == (200, DIGITS)
    shown = {name: answer.headers[name] for name in ("content-type", "etag", "accept-ranges", "x-object-size")}
    assert shown == {"content-type": "text/plain", "etag": f'"{version}"', "accept-ranges": "bytes", "x-object-size": "10"}
    assert abs(parsedate_to_datetime(answer.headers["last-modified"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert answer.headers["last-modified"].endswith(" GMT")


def test_what_is_not_there_is_not_found(digits: Client) -> None:
    assert (digits.get("b", "x").status, digits.get("b", "x").code) == (404, "ObjectNotFound")
    assert (digits.get("x", "d").status, digits.get("x", "d").code) == (404, "BucketNotFound")


def test_head_tells_everything_but_the_bytes(digits: Client) -> None:
    got, head = fetch(digits), fetch(digits, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == head.headers["x-object-size"] == "10"
    for name in ("content-type", "etag", "last-modified", "accept-ranges", "cache-control", "content-security-policy"):
        assert head.headers[name] == got.headers[name]


def test_head_of_what_is_not_there_has_no_body(digits: Client) -> None:
    answer = digits("HEAD", "/storage/object/b/absent")
    assert (answer.status, answer.body) == (404, b"")


def test_head_ignores_a_range(digits: Client) -> None:
    head = fetch(digits, {"Range": "bytes=0-1"}, method="HEAD")
    assert (head.status, head.headers["content-length"]) == (200, "10")


def test_an_empty_object_is_an_empty_answer(service: Client) -> None:
    service.bucket("b")
    service.put("b", "d", b"", "text/plain")
    answer = fetch(service)
    assert (answer.status, answer.body, answer.headers["x-object-size"]) == (200, b"", "0")
    assert fetch(service, method="HEAD").headers["content-length"] == "0"


@pytest.mark.parametrize(("visibility", "scope"), [("public", "public"), ("private", "private")])
def test_shared_caches_keep_only_what_is_public_and_all_ask_again(service: Client, visibility: str, scope: str) -> None:
    service.bucket("b", visibility=visibility)
    service.put("b", "d", DIGITS)
    directives = {directive.strip() for directive in fetch(service).headers["cache-control"].split(",")}
    assert directives == {scope, "no-cache"}


# ---- ranges --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=9-9", 9, 9),
        ("bytes=0-9", 0, 9),
        ("bytes=5-", 5, 9),
        ("bytes=0-", 0, 9),
        ("bytes=-1", 9, 9),
        ("bytes=-10", 0, 9),
        ("bytes=-999", 0, 9),
        ("bytes=5-999", 5, 9),
        ("bytes=5-99999999999999999999999999", 5, 9),
        ("bytes=-99999999999999999999999999", 0, 9),
        ("bytes=002-05", 2, 5),
        ("bytes=" + "0" * 25 + "2-" + "0" * 25 + "5", 2, 5),
        ("bytes=-" + "0" * 25 + "3", 7, 9),
    ],
)
def test_a_range_gives_that_part(digits: Client, header: str, first: int, last: int) -> None:
    answer = fetch(digits, {"Range": header})
    assert (answer.status, answer.body) == (206, DIGITS[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/10"
    assert answer.headers["x-object-size"] == "10"
    assert answer.headers["etag"] == fetch(digits).headers["etag"]


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-1,3-4",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=1-2x",
        "bytes=--1",
        "bytes=1",
        "bytes 1-2",
        "1-2",
        "items=0-1",
        "",
        "bytes=1.0-2",
        "bytes=+1-2",
        "bytes=0x1-2",
    ],
)
def test_several_ranges_and_malformed_ones_give_the_whole(digits: Client, header: str) -> None:
    answer = fetch(digits, {"Range": header})
    assert (answer.status, answer.body) == (200, DIGITS)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=99999999999999999999999999-", "bytes=-0", "bytes=-000"])
def test_a_range_beyond_the_end_is_told_the_size(digits: Client, header: str) -> None:
    answer = fetch(digits, {"Range": header})
    assert (answer.status, answer.code) == (416, "RangeNotSatisfiable")
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=1-2", "bytes=-5", "bytes=-0"])
def test_nothing_of_an_empty_object_can_be_a_range(service: Client, header: str) -> None:
    service.bucket("b")
    service.put("b", "d", b"")
    answer = fetch(service, {"Range": header})
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */0")


SIZES = (0, 1, 2, 10, 255, 4097)


@PROPERTY
@given(
    size=st.sampled_from(SIZES),
    first=st.none() | st.integers(0, 5000) | st.integers(0, 12),
    last=st.none() | st.integers(0, 5000) | st.integers(0, 12),
    zeros=st.integers(0, 3),
)
def test_any_range_of_any_size_is_what_slicing_gives(tenant: Tenant, size: int, first: int | None, last: int | None, zeros: int) -> None:
    client, whole = tenant.service, bytes(number % 251 for number in range(size))
    if client("HEAD", f"/storage/object/b/{size}").status == 404:
        client("POST", "/storage/buckets", {"name": "b"})
        client.put("b", str(size), whole)
    low, high = ("" if bound is None else "0" * zeros + str(bound) for bound in (first, last))
    answer = client.get("b", str(size), Range=f"bytes={low}-{high}")
    if first is None and last is None:
        expected: tuple[int, bytes] = (200, whole)
    elif first is None:
        expected = (206, whole[-last:]) if last and size else (416, b"")  # type: ignore[operator]  # one of them is there
    elif last is not None and last < first:
        expected = (200, whole)
    else:
        expected = (206, whole[first : None if last is None else last + 1]) if first < size else (416, b"")
    assert answer.status == expected[0]
    if answer.status != 416:
        assert answer.body == expected[1]
    if answer.status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers["content-range"])
        assert match is not None
        begin, end, total = map(int, match.groups())
        assert (whole[begin : end + 1], total) == (expected[1], size)


def test_a_range_holds_only_while_the_object_is_the_one_named(digits: Client) -> None:
    etag, modified = (fetch(digits).headers[name] for name in ("etag", "last-modified"))
    for condition, status in (
        (etag, 206),
        (modified, 206),
        ('"other"', 200),
        (f"W/{etag}", 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("nonsense", 200),
    ):
        answer = fetch(digits, {"Range": "bytes=2-3", "If-Range": condition})
        assert (answer.status, answer.body) == (status, DIGITS[2:4] if status == 206 else DIGITS)


def test_an_if_range_without_a_range_changes_nothing(digits: Client) -> None:
    assert fetch(digits, {"If-Range": '"other"'}).status == 200


# ---- conditions ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("template", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"a", {etag}', 304),
        ('"a,b",W/{etag}', 304),
        ("*", 304),
        ('"other"', 200),
        ('W/"other"', 200),
        ('"a", "b"', 200),
        ("{bare}", 200),
        ("", 200),
    ],
)
def test_if_none_match_spares_what_is_at_hand(digits: Client, method: str, template: str, status: int) -> None:
    etag = fetch(digits).headers["etag"]
    answer = fetch(digits, {"If-None-Match": template.format(etag=etag, bare=etag.strip('"'))}, method)
    assert answer.status == status
    assert answer.headers["etag"] == etag
    if status == 304:
        assert answer.body == b""
        assert {"cache-control", "last-modified"} <= answer.headers.keys()
        assert "content-length" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("template", "status"), [("{etag}", 200), ('"a", {etag}', 200), ("*", 200), ("W/{etag}", 412), ('"other"', 412), ("nonsense", 412)]
)
def test_if_match_insists_on_a_version(digits: Client, method: str, template: str, status: int) -> None:
    answer = fetch(digits, {"If-Match": template.format(etag=fetch(digits).headers["etag"])}, method)
    assert answer.status == status
    if status == 412 and method == "GET":
        assert answer.code == "PreconditionFailed"


def shifted(client: Client, seconds: int) -> str:
    modified = parsedate_to_datetime(fetch(client).headers["last-modified"])
    return format_datetime(modified + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("seconds", "status"), [(-1, 200), (0, 304), (3600, 304)])
def test_if_modified_since_spares_what_is_no_newer(digits: Client, seconds: int, status: int) -> None:
    assert fetch(digits, {"If-Modified-Since": shifted(digits, seconds)}).status == status


@pytest.mark.parametrize(("seconds", "status"), [(-1, 412), (0, 200), (3600, 200)])
def test_if_unmodified_since_insists_on_nothing_newer(digits: Client, seconds: int, status: int) -> None:
    assert fetch(digits, {"If-Unmodified-Since": shifted(digits, seconds)}).status == status


@pytest.mark.parametrize("later", [0.05, 1.0])
@pytest.mark.parametrize("begun", [0.0, 0.9])
def test_a_date_that_is_told_within_the_second_of_a_change_hides_no_later_change(
    service: Client, monkeypatch: pytest.MonkeyPatch, begun: float, later: float
) -> None:
    """RFC 9110 §8.8.2.2: dates have whole seconds, and two changes may have one."""
    now = [float(int(seam.timestamp()) + 10) + begun]
    monkeypatch.setattr(seam, "timestamp", lambda: now[0])
    service.bucket("b")
    service.put("b", "d", DIGITS, "text/plain")
    told = fetch(service).headers["last-modified"]
    assert parsedate_to_datetime(told) <= seam.now()
    now[0] += later
    service.put("b", "d", DIGITS[::-1], "text/plain")
    for waited in (0, 5):
        now[0] += waited
        assert fetch(service, {"If-Modified-Since": told}).body == DIGITS[::-1]
        assert fetch(service, {"If-Unmodified-Since": told}).status == 412
        assert fetch(service, {"If-Range": told, "Range": "bytes=0-1"}).body == DIGITS[::-1]


@pytest.mark.parametrize("date", ["", "nonsense", "Wed, 99 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 99999999 07:28:00 GMT", "0", "2015-10-21"])
@pytest.mark.parametrize("header", ["If-Modified-Since", "If-Unmodified-Since"])
def test_a_date_that_is_none_is_ignored(digits: Client, header: str, date: str) -> None:
    assert fetch(digits, {header: date}).status == 200


def test_entity_tags_go_before_dates(digits: Client) -> None:
    etag, old, new = fetch(digits).headers["etag"], shifted(digits, -9), shifted(digits, 9)
    assert fetch(digits, {"If-None-Match": '"other"', "If-Modified-Since": new}).status == 200
    assert fetch(digits, {"If-Match": etag, "If-Unmodified-Since": old}).status == 200


def test_what_is_insisted_on_goes_before_what_is_at_hand(digits: Client) -> None:
    etag = fetch(digits).headers["etag"]
    assert fetch(digits, {"If-Match": '"other"', "If-None-Match": etag}).status == 412


def test_conditions_go_before_ranges(digits: Client) -> None:
    etag = fetch(digits).headers["etag"]
    assert fetch(digits, {"If-None-Match": etag, "Range": "bytes=0-1"}).status == 304
    assert fetch(digits, {"If-Match": '"other"', "Range": "bytes=99-"}).status == 412


def test_an_overwrite_changes_the_validator(digits: Client) -> None:
    before = fetch(digits).headers["etag"]
    digits.put("b", "d", DIGITS, "text/plain")  # the same bytes, and yet another version
    answer = fetch(digits, {"If-None-Match": before})
    assert answer.status == 200
    assert answer.headers["etag"] != before


# ---- as an attachment ----------------------------------------------------------------------------------
def disposition(answer: Answer) -> tuple[str, str]:
    """The plain and the extended file name of an attachment (RFC 6266), and proof that the header is well-formed."""
    match = re.fullmatch(
        r"attachment; filename=\"([^\"\\]*)\"; filename\*=UTF-8''([\w.~!#$&+^`|%-]*)", answer.headers["content-disposition"], re.ASCII
    )
    assert match is not None, answer.headers["content-disposition"]
    assert match[1].isascii()
    assert match[1].isprintable()
    return match[1], unquote(match[2], errors="strict")


def test_download_saves_under_the_objects_own_name(service: Client) -> None:
    service.bucket("b")
    service.put("b", "folder/näme.png", b"", "image/png")
    answer = service("GET", "/storage/object/b/" + quote("folder/näme.png") + "?download")
    assert disposition(answer) == ("n_me.png", "näme.png")


@pytest.mark.parametrize(
    ("name", "plain", "extended"),
    [
        ("report.pdf", "report.pdf", "report.pdf"),
        ("my report.pdf", "my report.pdf", "my report.pdf"),
        ('say "hi".txt', "say _hi_.txt", 'say "hi".txt'),
        ("a\\b", "a_b", "a\\b"),
        ("naïve ☕", "na_ve _", "naïve ☕"),
        ("100%", "100_", "100%"),
        ("a;b=c", "a;b=c", "a;b=c"),
        ("x\r\nSet-Cookie: a=b", "x__Set-Cookie: a=b", "x\r\nSet-Cookie: a=b"),
        ("../../etc/passwd", "passwd", "passwd"),
        ("'quoted'", "'quoted'", "'quoted'"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_download_saves_under_the_name_asked_for(digits: Client, method: str, name: str, plain: str, extended: str) -> None:
    answer = fetch(digits, method=method, query="?download=" + quote(name, safe=""))
    assert answer.status == 200
    assert disposition(answer) == (plain, extended)
    assert "set-cookie" not in answer.headers
    assert not any("\r" in value or "\n" in value for value in answer.headers.values())


@PROPERTY
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), min_size=1, max_size=40))
def test_any_name_asked_for_makes_a_well_formed_header(tenant: Tenant, name: str) -> None:
    if tenant.service("HEAD", "/storage/object/b/d").status == 404:
        tenant.service("POST", "/storage/buckets", {"name": "b"})
        tenant.service.put("b", "d", DIGITS, "text/plain")
    _, extended = disposition(fetch(tenant.service, query="?download=" + quote(name, safe="")))
    assert extended == (name.rstrip("/").rpartition("/")[2] or "download")


# ---- safe serving --------------------------------------------------------------------------------------
def served(client: Client, content_type: str) -> Answer:
    client("POST", "/storage/buckets", {"name": "b"})
    assert client.put("b", "d", DIGITS, content_type).status in (200, 201)
    answer = fetch(client)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body == DIGITS
    return answer


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "TEXT/HTML; charset=utf-8",
        "image/svg+xml",
        "text/xml",
        "application/xml",
        "application/xhtml+xml",
        "application/rss+xml",
        "multipart/related; boundary=a",
        "message/rfc822",
        "application/octet-stream",
        "application/x-shockwave-flash",
        "unknown/type",
    ],
)
def test_what_a_browser_could_run_is_an_attachment_in_a_sandbox(service: Client, content_type: str) -> None:
    answer = served(service, content_type)
    assert disposition(answer) == ("d", "d")
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize("content_type", [*JAVASCRIPT, "application/wasm", "Text/JavaScript; charset=utf-8"])
def test_what_a_page_could_load_as_code_is_plain_bytes(service: Client, content_type: str) -> None:
    answer = served(service, content_type)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert disposition(answer) == ("d", "d")
    assert service("GET", "/storage/object-info/b/d").json()["content_type"].lower() == content_type.lower()


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "image/webp", "text/plain; charset=utf-8", "video/mp4", "audio/mpeg"])
def test_what_is_harmless_is_shown_in_place(service: Client, content_type: str) -> None:
    answer = served(service, content_type)
    assert answer.headers["content-type"] == content_type
    assert "content-disposition" not in answer.headers
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


def test_a_pdf_is_shown_in_place(service: Client) -> None:
    assert "content-disposition" not in served(service, "application/pdf").headers


# ---- beyond what one answer carries --------------------------------------------------------------------
class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def follow(answer: Answer, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """What the storage itself answers at a redirect's target."""
    request = urllib.request.Request(answer.headers["location"], headers=headers or {})
    with urllib.request.build_opener(_NoRedirects).open(request, timeout=10) as got:
        return got.status, {name.lower(): value for name, value in got.headers.items()}, got.read()


@pytest.fixture
def large(digits: Client, choose: Callable[[str, str], None]) -> Client:
    """An object `d` of ten bytes where one answer carries five."""
    choose("STOWAGE_MAX_BODY", "5")
    return digits


def test_an_answer_carries_up_to_the_limit(digits: Client, choose: Callable[[str, str], None]) -> None:
    choose("STOWAGE_MAX_BODY", "10")
    assert (fetch(digits).status, fetch(digits).body) == (200, DIGITS)


def test_beyond_the_limit_a_redirect_leads_to_the_bytes(large: Client) -> None:
    answer = fetch(large)
    assert (answer.status, answer.body) == (302, b"")
    status, headers, body = follow(answer)
    assert (status, body, headers["content-type"]) == (200, DIGITS, "text/plain")
    assert "content-disposition" not in headers
    assert follow(answer, {"Range": "bytes=2-8"})[2] == DIGITS[2:9]


def test_the_redirect_needs_no_credential_and_shows_none(large: Client, tenant: Tenant) -> None:
    answer = fetch(large)
    location = answer.headers["location"]
    assert follow(answer)[0] == 200
    assert tenant.service_key not in location
    assert "X-Amz-Signature=" in location
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(re.sub(r"X-Amz-Signature=.{8}", "X-Amz-Signature=00000000", location), timeout=10)
    assert refused.value.code == 403


@pytest.mark.parametrize(
    ("content_type", "query", "served_type", "attachment"),
    [
        ("text/html", "", "text/html", "d"),
        ("text/javascript", "", "application/octet-stream", "d"),
        ("image/png", "?download=" + quote('ä"b.png'), "image/png", 'ä"b.png'),
    ],
)
def test_the_redirect_is_as_safe_as_the_answer(
    service: Client, choose: Callable[[str, str], None], content_type: str, query: str, served_type: str, attachment: str
) -> None:
    service.bucket("b")
    service.put("b", "d", DIGITS, content_type)
    choose("STOWAGE_MAX_BODY", "5")
    _, headers, body = follow(fetch(service, query=query))
    assert (headers["content-type"], body) == (served_type, DIGITS)
    assert disposition(Answer(200, headers, body))[1] == attachment


def test_a_range_within_the_limit_is_served_directly(large: Client) -> None:
    answer = fetch(large, {"Range": "bytes=5-9"})
    assert (answer.status, answer.body, answer.headers["content-range"]) == (206, DIGITS[5:], "bytes 5-9/10")


def test_a_range_beyond_the_limit_is_redirected(large: Client) -> None:
    answer = fetch(large, {"Range": "bytes=1-8"})
    assert answer.status == 302
    assert follow(answer, {"Range": "bytes=1-8"})[::2] == (206, DIGITS[1:9])


def test_conditions_and_head_need_no_redirect(large: Client) -> None:
    head = fetch(large, method="HEAD")
    assert (head.status, head.headers["content-length"], head.headers["x-object-size"]) == (200, "10", "10")
    assert fetch(large, {"If-None-Match": head.headers["etag"]}).status == 304
    assert fetch(large, {"Range": "bytes=99-"}).status == 416


def test_a_redirect_is_not_cached(large: Client) -> None:
    assert fetch(large).headers["cache-control"] == "no-store"


def test_the_platforms_own_limit_is_where_redirects_begin(tenant: Tenant) -> None:
    bucket_id = tenant.service.bucket("b")["id"]
    tenant.service.put("b", "d", b"", "text/plain")
    row = StoredObject.read(f"{tenant.tenant_id}#{bucket_id}", "d")
    assert row is not None
    for size, status in ((4_400_000, 200), (4_400_001, 302)):
        body = bytes(range(250)) * 17_600 + b"x" * (size - 4_400_000)
        row.physical_key, row.size = f"{row.physical_key}{size}", size
        storage_of(tenant).put(row.physical_key, body, "text/plain")
        row.save()
        answer = fetch(tenant.service)
        assert answer.status == status
        assert (answer.body if status == 200 else follow(answer)[2]) == body


def test_a_folder_streams_what_is_beyond_the_limit(on_filesystem: Path, service: Client, choose: Callable[[str, str], None]) -> None:
    whole = bytes(range(256)) * 12_000  # three pieces of the stream
    service.bucket("b")
    service.put("b", "d", whole, "text/html")
    choose("STOWAGE_MAX_BODY", "1000")
    answer = fetch(service)
    assert (answer.status, answer.body) == (200, whole)
    assert disposition(answer) == ("d", "d")
    part = fetch(service, {"Range": "bytes=100-2999999"})
    assert (part.status, part.body) == (206, whole[100:3_000_000])


# ---- without a credential ------------------------------------------------------------------------------
@pytest.fixture
def published(tenant: Tenant) -> Tenant:
    """A tenant with object `d` in a public bucket `open` and in a private one, `closed`."""
    tenant.service.bucket("open", public=True)
    tenant.service.bucket("closed")
    for bucket in ("open", "closed"):
        tenant.service.put(bucket, "folder/d e", DIGITS, "text/plain")
    return tenant


def test_the_public_route_needs_no_credential(published: Tenant) -> None:
    path = f"/storage/public/{published.tenant_id}/open/folder/d%20e"
    answer = published.nobody("GET", path)
    assert (answer.status, answer.body) == (200, DIGITS)
    assert answer.headers["cache-control"].startswith("public")
    assert published.nobody("HEAD", path).headers["x-object-size"] == "10"
    assert published.nobody("GET", path, headers={"Range": "bytes=-3"}).body == b"789"
    assert published.nobody("GET", path, headers={"If-None-Match": answer.headers["etag"]}).status == 304
    assert disposition(published.nobody("GET", path + "?download"))[0] == "d e"


def test_the_public_route_takes_no_notice_of_a_credential(published: Tenant, new_tenant: Any) -> None:
    stranger = new_tenant()
    for client in (published.service, stranger.service, published.nobody.using("sk_unknown"), published.nobody.using("a.b.c")):
        assert client("GET", f"/storage/public/{published.tenant_id}/open/folder/d%20e").status == 200
        assert client("GET", f"/storage/public/{published.tenant_id}/closed/folder/d%20e").status == 404


def test_the_public_route_never_tells_a_private_bucket_from_none(published: Tenant) -> None:
    absent = "00000000-0000-4000-8000-000000000000"
    unknown = published.nobody("GET", f"/storage/public/{absent}/closed/folder/d%20e")
    assert unknown.status == 404
    for path in (f"{published.tenant_id}/closed/folder/d%20e", f"{published.tenant_id}/closed/absent", f"{published.tenant_id}/absent/d"):
        answer = published.nobody("GET", f"/storage/public/{path}")
        assert (answer.status, answer.code) == (404, unknown.code)


def test_without_a_default_tenant_a_credential_is_asked_for(published: Tenant) -> None:
    answer = published.nobody("GET", "/storage/object/open/folder/d%20e")
    assert (answer.status, answer.headers["www-authenticate"].partition(" ")[0]) == (401, "Bearer")


def test_with_a_default_tenant_its_public_buckets_are_open(published: Tenant, choose: Callable[[str, str], None]) -> None:
    choose("STOWAGE_DEFAULT_TENANT", published.tenant_id)
    answer = published.nobody("GET", "/storage/object/open/folder/d%20e")
    assert (answer.status, answer.body) == (200, DIGITS)
    assert published.nobody("HEAD", "/storage/object/open/folder/d%20e").status == 200
    assert published.nobody("GET", "/storage/object/closed/folder/d%20e").status == 401
    assert published.nobody.using("sk_unknown")("GET", "/storage/object/open/folder/d%20e").status == 401
