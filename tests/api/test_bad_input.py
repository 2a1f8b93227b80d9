"""Bad input: a clear error, never 5xx, and nothing written (FEATURES F8.18, the issue's "What it must reach")."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib.core import objects, tenants
from chalicelib.errors import StorageUnavailable
from chalicelib.surfaces import tus
from chalicelib.surfaces.backups.routes import SURFACE as BACKUPS_SURFACE
from chalicelib.surfaces.openapi import SURFACES
from chalicelib.surfaces.routes import Route
from chalicelib.surfaces.storage.upload_routes import TUS_SURFACE, UPLOAD_ROUTES
from chalicelib.tables.uploads import UploadSession
from chalicelib.webapp import METHODS
from tests.client import Answer, Client
from tests.conftest import Call, Tenant

FUZZ = hypothesis_settings(
    deadline=None, max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ROUTES = [route for surface in SURFACES for route in surface.routes]
PATHS = sorted({route.path for route in ROUTES})
JSON_ROUTES = [route for route in ROUTES if route.body]
TUS_PATHS = {route.path for route in TUS_SURFACE.routes}
BACKUPS_PATHS = {route.path for route in BACKUPS_SURFACE.routes}
NO_UPLOAD = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
READS = {"GetItem", "BatchGetItem", "Query", "Scan", "TransactGetItems", "GetObject", "HeadObject", "ListObjectsV2"}


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture
def client(tenant: Tenant) -> Client:
    """The service's client, with object `known` in bucket `b`."""
    tenant.service.bucket("b")
    tenant.service.put("b", "known", b"bytes", "text/plain")
    return tenant.service


@pytest.fixture
def admin(tenant: Tenant) -> Client:
    """A client under a key of the platform."""
    return tenant.nobody.using(tenants.create_admin_key())


@pytest.fixture
def untouched(client: Client, admin: Client, calls: list[Call]) -> Iterator[None]:
    """Proves at the end that nothing was written."""
    before = _state(client)
    calls.clear()
    yield
    assert {call.operation for call in calls} <= READS
    assert _state(client) == before


def _state(client: Client) -> Any:
    return [client("GET", path).json() for path in ("/storage/buckets", "/storage/objects/b")]


def concrete(path: str, **values: str) -> str:
    for name, value in (
        {"path+": "known", "bucket": "b", "tenant_id": "t", "job_id": "j", "key_id": "k", "policy_id": "p", "token": "s"}
        | {"upload_id": NO_UPLOAD, "config_id": "c"}
        | values
    ).items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path, f"say here what stands for the variables of {path}"
    return path


def headers_for(route: Route) -> dict[str, str]:
    """What a request to `route` must carry to be looked at any further."""
    headers = {"Tus-Resumable": tus.VERSION} if route.path in TUS_PATHS else {}
    headers |= {"Upload-Offset": "0"} if "{upload_id}" in route.path and route.raw_body else {}
    headers |= {"X-HTTP-Method-Override": "PATCH"} if headers and route.method == "POST" else {}
    return headers | ({"Content-Type": tus.CHUNK} if route.raw_body == tus.CHUNK else {})


def refused(answer: Answer, status: int = 400, by_tus: bool = False, by_backups: bool = False) -> None:
    """A clear error: the status, and a body that names it; TUS has a line of text, the backups surface `detail` alone."""
    assert answer.status == status, answer.body[:300]
    if by_tus:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["tus-resumable"] == tus.VERSION
        assert answer.headers["x-chunk-max"] == "4400000"
        message, end = answer.body.decode()[:-1], answer.body[-1:]
        assert end == b"\n"
        assert message.strip()
        assert "\n" not in message
        assert "Traceback" not in message
        return
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    if by_backups:
        assert error.keys() == {"detail"}
        assert error["detail"]
        assert "Traceback" not in error["detail"]
        return
    assert {"code", "message", "request_id"} <= error.keys() <= {"code", "message", "request_id", "details"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert error["message"]
    assert "Traceback" not in error["message"]


# ---- names ---------------------------------------------------------------------------------------------
RAW_NAMES = [
    ".",
    "..",
    "a/..",
    "../a",
    "a/../b",
    "a/./b",
    "%2e",
    "%2e%2e",
    "%2E%2E/a",
    "a/%2e%2E/b",
    "a%2F..%2Fb",
    "%252e%252e",
    "%252e",
    "a/%252E%252e/b",
    ".%252e",
    "%00",
    "a%00b",
    "%ff",
    "a%c3",
    "a%c3%28",
    "%c0%ae%c0%ae",
    "%ed%a0%80",
    "%zz",
    "%",
    "a%",
    "a%2",
    "a%2g",
    "a%%20",
    "a.",
    "a./b",
    "a...",
    "a%2e",
    "a%20",
    "a%20/b",
    "%20",
    "a%5cb",
    "a\\b",
    "%5c..%5ca",
    "a%3fb",
    "a%23b",
    "a.uploading",
    "folder/a.uploading",
    ".uploading",
    "a~01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "a~" + "z" * 26 + "/b",
    "~" + "0" * 26,
    "%2Fa",
    "/a",
    "a%0d%0aSet-Cookie:b",
    "a%09",
    "a%7f",
    "a%1b[0m",
    "x" * 201,
    "ä" * 101,
    "x/" * 350 + "x",
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("raw", RAW_NAMES)
def test_a_name_outside_the_rules_is_refused_on_every_route(client: Client, tenant: Tenant, raw: str) -> None:
    for route in ROUTES:
        if "{path+}" not in route.path:
            continue
        body = b"bytes" if route.raw_body else {"user_metadata": {}} if route.body else None
        answer = client(route.method, concrete(route.path, **{"path+": raw, "tenant_id": tenant.tenant_id}), body)
        if route.method == "HEAD":
            assert (answer.status, answer.body) == (400, b"")
        else:
            refused(answer)


JSON_NAMES = ["", ".", "..", "a/../b", "%2e%2e", "a\0b", "\ud800", "a.", "a ", "a\\b", "a?b", "a#b", "a.uploading", "/a", "a\nb", "x" * 701]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", [*JSON_NAMES, "a~" + "0" * 26])
def test_a_name_outside_the_rules_is_refused_in_json_too(client: Client, name: str) -> None:
    for kind in ("move", "copy"):
        refused(client("POST", f"/storage/object/{kind}", {"bucket": "b", "from": name, "to": "x"}))
        refused(client("POST", f"/storage/object/{kind}", {"bucket": "b", "from": "known", "to": name}))
    for kind in ("resumable", "direct"):
        refused(client("POST", f"/storage/upload/{kind}", {"bucket": "b", "path": name, "size": 5}))
    answer = client("DELETE", "/storage/objects/b", {"paths": [name]})
    if name == "\ud800":
        refused(answer)
    else:
        assert [outcome["error"]["code"] for outcome in answer.json()] == ["InvalidName"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("variable", ["filename", "path"])
@pytest.mark.parametrize("name", [*JSON_NAMES, "a~" + "0" * 26])
def test_a_name_outside_the_rules_is_refused_in_the_metadata_of_tus_too(client: Client, name: str, variable: str) -> None:
    told = {"bucket": b"b", variable: name.encode(errors="surrogatepass")}
    metadata = ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in told.items())
    for length in ({"Upload-Length": "5"}, {"Upload-Length": "0"}, {"Upload-Defer-Length": "1"}):
        headers = {"Tus-Resumable": tus.VERSION, "Upload-Metadata": metadata} | length
        refused(client("POST", "/storage/v1/upload/tus", headers=headers), by_tus=True)


BAD_BUCKETS = ["%ff", "%zz", "%", "%00", "%2e%2e", "a%2Fb", "x" * 2000, "%20", "bücket", "%F0%9F%98%80"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("raw", BAD_BUCKETS)
@pytest.mark.parametrize("route", [route for route in ROUTES if "{bucket}" in route.path], ids=named)
def test_a_bucket_that_cannot_be_is_refused_or_not_found(client: Client, tenant: Tenant, route: Route, raw: str) -> None:
    body = b"bytes" if route.raw_body else None
    if route.body:
        body = {"ChangeBucket": {}, "ChangeObject": {"user_metadata": {}}, "DeleteMany": {"paths": ["a"]}}[route.body.partition(":")[2]]  # type: ignore[assignment]
    answer = client(route.method, concrete(route.path, bucket=raw, tenant_id=tenant.tenant_id), body)
    assert answer.status in (400, 404)


@pytest.mark.parametrize("route", [route for route in ROUTES if "{" in route.path], ids=named)
def test_an_id_longer_than_any_key_of_dynamodb_is_not_found(client: Client, admin: Client, route: Route) -> None:
    caller = client if route.needs_tenant else admin
    for variable in ("bucket", "tenant_id", "job_id", "key_id", "upload_id"):
        if "{" + variable + "}" in route.path:
            body: Any = b"bytes" if route.raw_body else None
            if route.body:
                body = {"user_metadata": {}, "paths": ["a"]}
            answer = caller(route.method, concrete(route.path, **{variable: "x" * 3000}), body, headers_for(route))
            assert answer.status in (400, 404)


ON_AN_UPLOAD = [route for route in ROUTES if "{upload_id}" in route.path]
BAD_UPLOADS = ["%ff", "%zz", "%", "%00", "%2e%2e", "a%2Fb", "x" * 2000, "%20", "ü", NO_UPLOAD.lower(), NO_UPLOAD[1:], NO_UPLOAD + "0"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("raw", BAD_UPLOADS)
@pytest.mark.parametrize("route", ON_AN_UPLOAD, ids=named)
def test_an_upload_that_cannot_be_is_refused_or_not_found(client: Client, route: Route, raw: str) -> None:
    there_is_no_upload(client, route, raw)


@pytest.mark.parametrize("route", ON_AN_UPLOAD, ids=named)
def test_asking_for_an_upload_that_is_not_there_makes_none(client: Client, route: Route) -> None:
    there_is_no_upload(client, route, NO_UPLOAD)
    assert UploadSession.read(NO_UPLOAD, UploadSession.SESSION) is None


def there_is_no_upload(client: Client, route: Route, raw: str) -> None:
    body: Any = b"bytes" if route.raw_body else {} if route.body else None
    for method in ("PATCH", "HEAD", "DELETE"):
        headers = headers_for(route) | {"X-HTTP-Method-Override": method}
        answer = client(route.method, concrete(route.path, upload_id=raw), body, headers)
        assert answer.status in (400, 404)
        if route.method == "HEAD":
            assert answer.body == b""
        else:
            refused(answer, answer.status, by_tus=route.path in TUS_PATHS)


# ---- JSON bodies ---------------------------------------------------------------------------------------
BAD_JSON = {
    "nothing": b"",
    "not JSON": b"{",
    "a comma too many": b'{"name": "x",}',
    "text": b"name=x",
    "single quotes": b"{'name': 'x'}",
    "invalid UTF-8": b'{"name": "\xff"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"name": "x"}',
    "a lone surrogate": b'{"name": "\\ud800", "bucket": "b", "from": "\\ud800", "to": "x", "paths": ["\\ud800"],'
    b' "user_metadata": {"a": "\\ud800"}, "checksum": "\\ud800", "parts": "\\ud800"}',
    "deep arrays": b"[" * 10_000,
    "deep arrays, closed": b"[" * 10_000 + b"]" * 10_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "an array": b"[]",
    "null": b"null",
    "a number": b"5",
    "a text": b'"name"',
    "NaN": b'{"name": NaN, "user_metadata": {"a": NaN}, "paths": NaN, "bucket": NaN, "checksum": NaN, "parts": NaN}',
    "Infinity": b'{"name": Infinity, "user_metadata": {"a": -Infinity}, "paths": Infinity, "bucket": 1, "checksum": 1}',
    "1e999": b'{"name": 1e999, "user_metadata": {"a": 1e999}, "paths": 1e999, "bucket": 1e999, "parts": 1e999}',
    "wrong types": b'{"name": {}, "user_metadata": 5, "paths": {}, "bucket": [], "file_size_limit": {}, "from": 1, "to": 1,'
    b' "checksum": 5, "parts": {}}',
    "a number of ten thousand digits": b'{"name": '
    + b"9" * 10_000
    + b', "user_metadata": '
    + b"9" * 10_000
    + b', "paths": 1, "file_size_limit": 1}',
    "a control character": b'{"name": "a\nb", "user_metadata": {"a": "\n"}, "paths": ["\n"]}',
    "two documents": b"{}{}",
    "a form": b"--XX\r\n",
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("body", BAD_JSON.values(), ids=list(BAD_JSON))
@pytest.mark.parametrize("route", JSON_ROUTES, ids=named)
def test_a_json_body_that_is_wrong_is_refused(client: Client, admin: Client, route: Route, body: bytes) -> None:
    caller = client if route.needs_tenant else admin
    answer = caller(route.method, concrete(route.path), body, {"Content-Type": "application/json"})
    if route.optional_body and not body and "{upload_id}" in route.path:
        refused(answer, 404)  # none is as good as {}: there is no such upload
    elif route.path in BACKUPS_PATHS:
        refused(answer, 422, by_backups=True)
    else:
        refused(answer)


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.optional_body and "{upload_id}" in route.path and route.body], ids=named
)
@pytest.mark.parametrize("body", [None, b"", b"{}", b' {"unknown": 1} '])
def test_a_body_that_may_be_left_out_says_nothing_more_when_it_is_empty(client: Client, route: Route, body: bytes | None) -> None:
    kind = "direct" if route.path.endswith("/confirm") else "resumable"
    upload_id = client("POST", f"/storage/upload/{kind}", {"bucket": "b", "path": "new", "size": 5}).json()["upload_id"]
    for content_type in ({}, {"Content-Type": "application/json"}):
        answer = client(route.method, concrete(route.path, upload_id=upload_id), body, content_type)
        refused(answer, 409)
        assert answer.code == ("NotUploaded" if kind == "direct" else "UploadIncomplete")


@pytest.mark.parametrize("route", JSON_ROUTES, ids=named)
def test_a_key_that_is_given_twice_is_no_crash(client: Client, route: Route) -> None:
    twice = b'{"name": 1, "name": [], "bucket": 1, "bucket": {}, "paths": [1], "paths": 1, "user_metadata": {}, "user_metadata": 1}'
    assert 400 <= client(route.method, concrete(route.path), twice).status < 500


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("size", ["1e999", str(10**30), "-1", "0", "NaN", "1.5", "true", "9" * 400, "-0", "1e-5", '"9e9"', "[1]", '"-5MB"'])
def test_a_number_out_of_bounds_is_refused(client: Client, size: str) -> None:
    refused(client("POST", "/storage/buckets", b'{"name": "new", "file_size_limit": ' + size.encode() + b"}"))
    refused(client("PUT", "/storage/buckets/b", b'{"max_file_size": ' + size.encode() + b"}"))


@pytest.mark.usefixtures("untouched")
def test_a_json_body_is_at_most_a_megabyte(client: Client) -> None:
    refused(client("POST", "/storage/buckets", b" " * 1_000_001), 413)


# ---- headers, queries, bodies --------------------------------------------------------------------------
DUPLICATES = [
    ("GET", "Authorization", ["Bearer a", "Bearer b"]),
    ("GET", "apikey", ["a", "b"]),
    ("GET", "Range", ["bytes=0-1", "bytes=2-3"]),
    ("GET", "If-Range", ['"a"', '"b"']),
    ("GET", "If-Modified-Since", ["a", "b"]),
    ("POST", "Content-Type", ["text/plain", "text/csv"]),
    ("POST", "x-upsert", ["true", "false"]),
    ("POST", "x-metadata", ["e30=", "W10="]),
    ("POST", "Content-Range", ["bytes 0-0/1", "bytes 0-0/2"]),
    ("POST", "Tus-Resumable", ["1.0.0", "0.2.2"]),
    ("POST", "Upload-Checksum", ["md5 x", "sha1 x"]),
    ("POST", "Upload-Concat", ["partial", "final;a"]),
    ("POST", "Upload-Defer-Length", ["1", "0"]),
    ("POST", "Upload-Length", ["1", "2"]),
    ("POST", "Upload-Metadata", ["bucket Yg==", "bucket Yw=="]),
    ("POST", "Upload-Offset", ["0", "1"]),
    ("POST", "X-HTTP-Method-Override", ["PATCH", "DELETE"]),
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("method", "header", "values"), DUPLICATES)
def test_a_header_that_contradicts_itself_is_refused(client: Client, method: str, header: str, values: list[str]) -> None:
    answer = client(method, "/storage/object/b/known", b"x" if method == "POST" else None, {header: values})
    refused(answer)
    assert header.lower() in answer.json()["message"]
    for path in TUS_PATHS:
        answer = client("POST", concrete(path), b"x", {"Tus-Resumable": tus.VERSION, "Content-Type": tus.CHUNK} | {header: values})
        refused(answer, by_tus=True)
        assert header.lower() in answer.body.decode()


@pytest.mark.parametrize(
    ("method", "header", "value", "status"),
    [("POST", "Content-Type", "text/plain", 200), ("POST", "x-upsert", "true", 200)],
)
def test_a_header_that_repeats_itself_says_it_once_or_is_refused(client: Client, method: str, header: str, value: str, status: int) -> None:
    answer = client(method, "/storage/object/b/known", b"x" if method == "POST" else None, {header: [value, value]})
    assert answer.status in (status, 400)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "query", ["prefix=%ff", "%ff=a", "prefix=a&prefix=b", "prefix=%00", "limit=1&limit=2", "cursor=%ff", "prefix=%ed%a0%80", "limit=%00"]
)
def test_a_query_that_is_wrong_is_refused(client: Client, query: str) -> None:
    refused(client("GET", f"/storage/objects/b?{query}"))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("query", ["a", "&&&", "=", "a=b=c", "%=1", "utm_source=x", "prefix", "x" * 5000])
def test_a_query_that_says_nothing_to_us_is_ignored(client: Client, query: str) -> None:
    answer = client("GET", f"/storage/objects/b?{query}")
    assert (answer.status, [row["name"] for row in answer.json()]) == (200, ["known"])


@pytest.mark.usefixtures("untouched")
def test_a_body_that_did_not_arrive_whole_is_refused(client: Client, tenant: Tenant) -> None:
    from app import app

    event = client._events.create_lambda_event(
        "POST", "/storage/object/b/new", {"host": "api.test", "authorization": f"Bearer {tenant.service_key}"}, b"bytes"
    )
    answer = app(event | {"isBase64Encoded": True, "body": "abcde"}, None)
    assert (answer["statusCode"], json.loads(base64.b64decode(answer["body"]))["code"]) == (400, "InvalidRequest")


@pytest.mark.usefixtures("untouched")
def test_a_body_beyond_the_platforms_limit_is_told_the_routes_that_take_it(client: Client) -> None:
    answer = client("POST", "/storage/object/b/new", bytes(4_400_001), {"Content-Type": "text/plain"})
    refused(answer, 413)
    assert answer.code == "TooLarge"
    for hint in ("/storage/upload/direct", "/storage/upload/resumable", "/storage/v1/upload/tus"):
        assert hint in answer.json()["message"]
    assert answer.json()["details"]["limit"] == 4_400_000


def test_a_body_of_the_platforms_limit_is_taken(client: Client) -> None:
    assert client("POST", "/storage/object/b/new", bytes(4_400_000), {"Content-Type": "text/plain"}).status == 201


# ---- methods, routes, headers of every answer ----------------------------------------------------------
@pytest.mark.parametrize("path", PATHS)
def test_another_method_is_told_which_are_right(tenant: Tenant, path: str) -> None:
    right = {route.method for route in ROUTES if route.path == path} | {"OPTIONS"}
    for method in set(METHODS) - right:
        answer = tenant.nobody(method, concrete(path))
        assert answer.status == 405, method
        assert set(answer.headers["allow"].split(", ")) == right
        if method == "HEAD":
            assert answer.body == b""
        else:
            refused(answer, 405, by_tus=path in TUS_PATHS, by_backups=path in BACKUPS_PATHS)
            assert path in TUS_PATHS | BACKUPS_PATHS or answer.code == "MethodNotAllowed"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/storage", "/storage/object", "/storage/object/b", "/storage/buckets/b/c", "/admin", "/a/%zz/%00"]
)
def test_an_unknown_route_is_not_found(tenant: Tenant, method: str, path: str) -> None:
    answer = tenant.nobody(method, path)
    assert answer.status == 404
    assert answer.body == b"" if method == "HEAD" else answer.code == "RouteNotFound"


@pytest.mark.parametrize("path", PATHS)
def test_a_preflight_is_answered_without_a_credential(tenant: Tenant, path: str) -> None:
    wanted = {
        "Origin": "https://app.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-upsert",
    }
    answer = tenant.nobody("OPTIONS", concrete(path), headers=wanted)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == "authorization, x-upsert"
    allowed = set(answer.headers["access-control-allow-methods"].split(", "))
    assert allowed == {route.method for route in ROUTES if route.path == path} | {"OPTIONS"}
    assert int(answer.headers["access-control-max-age"]) > 0


TUS_PATH = f"/storage/v1/upload/tus/{NO_UPLOAD}"
TUS_CHUNK = {"Tus-Resumable": tus.VERSION, "Content-Type": tus.CHUNK, "Upload-Offset": "0"}
# Object `new` in bucket `b`.
BEGINNING = {"Tus-Resumable": tus.VERSION, "Upload-Length": "5", "Upload-Metadata": "bucket Yg==,filename bmV3"}
ANSWERS: dict[str, Callable[[Client, Tenant], Answer]] = {
    "created": lambda client, tenant: client.put("b", "new", b"x"),
    "downloaded": lambda client, tenant: client.get("b", "known"),
    "partial": lambda client, tenant: client.get("b", "known", Range="bytes=0-0"),
    "unmodified": lambda client, tenant: client.get("b", "known", If_None_Match="*"),
    "head": lambda client, tenant: client("HEAD", "/storage/object/b/known"),
    "listed": lambda client, tenant: client("GET", "/storage/objects/b"),
    "invalid": lambda client, tenant: client("POST", "/storage/buckets", b"{"),
    "unauthorized": lambda client, tenant: tenant.nobody("GET", "/storage/buckets"),
    "forbidden": lambda client, tenant: tenant.anon("GET", "/storage/buckets"),
    "not found": lambda client, tenant: client.get("b", "absent"),
    "no route": lambda client, tenant: tenant.nobody("GET", "/nowhere"),
    "wrong method": lambda client, tenant: tenant.nobody("DELETE", "/health"),
    "precondition": lambda client, tenant: client.get("b", "known", If_Match='"x"'),
    "too large": lambda client, tenant: client("POST", "/storage/buckets", b" " * 1_000_001),
    "range": lambda client, tenant: client.get("b", "known", Range="bytes=99-"),
    "contradiction": lambda client, tenant: client("GET", "/storage/buckets", headers={"apikey": ["a", "b"]}),
    "health": lambda client, tenant: tenant.nobody("GET", "/health"),
    "TUS": lambda client, tenant: tenant.nobody("OPTIONS", "/storage/v1/upload/tus"),
    "TUS: begun": lambda client, tenant: client("POST", "/storage/v1/upload/tus", headers=BEGINNING),
    "TUS: partly there": lambda client, tenant: client("POST", "/storage/v1/upload/tus", b"by", BEGINNING | {"Content-Type": tus.CHUNK}),
    "TUS: no version": lambda client, tenant: client("POST", "/storage/v1/upload/tus"),
    "TUS: not found": lambda client, tenant: client("PATCH", TUS_PATH, b"x", TUS_CHUNK),
    "TUS: head of none": lambda client, tenant: client("HEAD", TUS_PATH, headers=TUS_CHUNK),
    "TUS: unauthorized": lambda client, tenant: tenant.nobody("PATCH", TUS_PATH, b"x", TUS_CHUNK),
    "TUS: wrong method": lambda client, tenant: client("GET", TUS_PATH),
    "TUS: too large": lambda client, tenant: client("PATCH", TUS_PATH, bytes(4_400_001), TUS_CHUNK),
    "TUS: contradiction": lambda client, tenant: client("PATCH", TUS_PATH, b"x", TUS_CHUNK | {"Upload-Offset": ["0", "1"]}),
}
EXPOSED = {"etag", "location", "x-request-id", "x-next-cursor", "x-object-size", "x-chunk-max"}
# Those of the protocol, all of them (tus.io/protocols/resumable-upload "Headers"), and when a lock ends.
EXPOSED |= {f"tus-{name}" for name in ("resumable", "version", "extension", "max-size", "checksum-algorithm")} | {"retry-after"}
EXPOSED |= {f"upload-{name}" for name in ("offset", "length", "metadata", "defer-length", "expires", "concat")}


@pytest.mark.parametrize(("what", "ask"), ANSWERS.items(), ids=list(ANSWERS))
def test_every_answer_can_be_read_by_browsers_and_found_in_logs(client: Client, tenant: Tenant, what: str, ask: Any) -> None:
    answer, again = ask(client, tenant), ask(client, tenant)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")} >= EXPOSED
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"] not in ("", again.headers["x-request-id"])
    assert ("tus-resumable" in answer.headers) == what.startswith("TUS")
    if answer.status >= 400 and "head" not in what:
        refused(answer, answer.status, by_tus=what.startswith("TUS"))


GIVEN_BACK = {
    "Upload-Metadata": lambda space: BEGINNING | {"Upload-Metadata": f"bucket Yg==,{space}filename bmV3"},
    "Upload-Concat": lambda space: {
        "Tus-Resumable": tus.VERSION,
        "Upload-Metadata": BEGINNING["Upload-Metadata"],
        "Upload-Concat": f"final;{{part}}{space}{{part}}",
    },
}


@pytest.mark.parametrize("header", GIVEN_BACK.values(), ids=list(GIVEN_BACK))
@pytest.mark.parametrize("space", ["\t", "\x0b", "\x1f", "\x85", "\xa0"])
def test_a_header_of_tus_with_a_space_that_no_answer_may_carry_breaks_no_later_request(client: Client, header: Any, space: str) -> None:
    part = client("POST", "/storage/v1/upload/tus", headers=BEGINNING | {"Upload-Length": "0", "Upload-Concat": "partial"})
    headers = {name: value.replace("{part}", part.headers["location"]) for name, value in header(space).items()}
    answer = client("POST", "/storage/v1/upload/tus", headers=headers)
    assert answer.status in (201, 400)
    if answer.status == 400:
        refused(answer, by_tus=True)
    else:
        path = "/storage/v1/upload/tus/" + answer.headers["location"].rpartition("/")[2]
        assert client("HEAD", path, headers={"Tus-Resumable": tus.VERSION}).status == 200


def test_only_the_origins_that_were_chosen_may_call_with_credentials(client: Client, choose: Callable[[str, str], None]) -> None:
    choose("STOWAGE_CORS_ORIGINS", "https://app.test, https://other.test")
    for origin in ("https://app.test", "https://other.test"):
        answer = client("GET", "/health", headers={"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "Origin"
    for headers in ({"Origin": "https://evil.test"}, {"Origin": "null"}, {"Origin": "https://app.test.evil.test"}, {}):
        answer = client("GET", "/health", headers=headers)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"


def test_what_goes_wrong_inside_is_not_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret is objects/tenant/key")

    monkeypatch.setattr(objects, "read", broken)
    answer = client.get("b", "known")
    refused(answer, 500)
    assert answer.code == "InternalError"
    assert b"secret" not in answer.body


def test_a_storage_that_does_not_answer_is_unavailable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any) -> None:
        raise StorageUnavailable("the storage cannot be reached; try again shortly")

    monkeypatch.setattr(objects, "read", down)
    answer = client.get("b", "known")
    refused(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1


# ---- anything at all -----------------------------------------------------------------------------------
SEGMENT = st.one_of(
    st.sampled_from(["b", "known", "a", "..", "%2e%2e", "%00", "%ff", "%", "move", "copy", "object", "", "%2F", "~" + "0" * 26]),
    st.text(st.characters(codec="ascii", exclude_characters="?#\r\n"), max_size=12),
    st.text(max_size=6).map(lambda text: quote(text, safe="", errors="surrogatepass")),
)
TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=30)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Range",
            "If-Range",
            "If-Match",
            "If-None-Match",
            "If-Modified-Since",
            "If-Unmodified-Since",
            "Content-Type",
            "x-upsert",
            "x-metadata",
            "Accept",
            "Origin",
            "Host",
            "X-Forwarded-Proto",
            "Access-Control-Request-Headers",
            "apikey",
            "Content-Range",
            "Upload-Offset",
            "Upload-Length",
            "Upload-Defer-Length",
            "Upload-Metadata",
            "Upload-Checksum",
            "Upload-Concat",
            "X-HTTP-Method-Override",
        ]
    ),
    st.one_of(
        TEXT,
        st.lists(TEXT, min_size=2, max_size=2),
        st.sampled_from(["bytes=0-", "*", "multipart/form-data; boundary=a", "null", "0", "1", "5", "bytes 0-4/5", "bytes 1-0/*"]),
        st.sampled_from(
            [tus.CHUNK, "bucket Yg==,filename a25vd24=", "md5 eA==", "partial", "final;", f"final;{NO_UPLOAD}", "PATCH", "HEAD"]
        ),
    ),
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "name",
            "public",
            "visibility",
            "max_file_size",
            "allowed_mimes",
            "storage_id",
            "storage_uuid",
            "provider",
            "region",
            "endpoint_url",
            "host",
            "port",
            "is_default",
            "bucket",
            "from",
            "to",
            "to_bucket",
            "paths",
            "user_metadata",
            "content_type",
            "path",
            "size",
            "upsert",
            "checksum",
            "checksum_sha256",
            "content_md5",
            "parts",
        ]
    ),
    JSON | st.sampled_from(["b", "known", "x", ["known"], {}, "1MB", 5, True, "0" * 64, "A" * 43 + "=", [{"number": 1, "etag": "x"}]]),
    max_size=5,
)
BODY = st.one_of(
    st.none(), st.binary(max_size=60), st.one_of(JSON, FIELDS).map(lambda document: json.dumps(document).encode("utf-8", "replace"))
)
QUERY = st.one_of(
    st.just(""),
    st.text(st.characters(codec="ascii", exclude_characters="#\r\n"), max_size=20).map("?".__add__),
    st.tuples(
        st.sampled_from(["prefix", "limit", "offset", "cursor", "delimiter", "download", "if_empty", "from", "count"]),
        TEXT | st.sampled_from(["0", "1", "-1", "1000", "9" * 18]),
    ).map(lambda pair: f"?{pair[0]}={quote(pair[1], errors='replace')}"),
)


@FUZZ
@given(
    method=st.sampled_from(METHODS),
    base=st.sampled_from([*PATHS, "/storage/object/b/{path+}", "/storage/{path+}", "/{path+}"]),
    segments=st.lists(SEGMENT, min_size=1, max_size=4),
    query=QUERY,
    headers=HEADERS,
    body=BODY,
)
def test_no_request_whatever_makes_a_server_error(
    client: Client, method: str, base: str, segments: list[str], query: str, headers: dict[str, Any], body: bytes | None
) -> None:
    path = base.replace("{path+}", "a" + "/".join(segments)).replace("{bucket}", segments[0].replace("/", "") or "b")
    for variable in ("{tenant_id}", "{job_id}", "{key_id}", "{policy_id}", "{token}", "{upload_id}"):
        path = path.replace(variable, segments[-1].replace("/", "") or "x")
    no_server_error(client, method, path + query, headers, body)


def no_server_error(client: Client, method: str, path: str, headers: dict[str, Any], body: bytes | None) -> None:
    answer = client(method, path, body, headers)
    assert answer.status < 500, (method, path, answer.body)
    assert answer.headers["x-request-id"]
    assert not any("\r" in value or "\n" in value for value in answer.headers.values() if isinstance(value, str))
    if answer.status >= 400 and method != "HEAD":
        event = client._events.create_lambda_event(method, path, {}, None)
        refused(answer, answer.status, by_tus=event["resource"] in TUS_PATHS, by_backups=event["resource"] in BACKUPS_PATHS)


UPLOADS = {"resumable": {}, "direct": {}, "direct in parts": {"parts": 2}, "tus": {}, "partial": {"Upload-Concat": "partial"}}


def begun(client: Client, kind: str) -> str:
    """An upload of five bytes that is under way."""
    if kind in ("tus", "partial"):
        answer = client("POST", "/storage/v1/upload/tus", headers=BEGINNING | UPLOADS[kind])
        return answer.headers["location"].rpartition("/")[2]
    wanted = {"bucket": "b", "path": "known", "size": 5} | UPLOADS[kind]
    return str(client("POST", f"/storage/upload/{kind.split()[0]}", wanted).json()["upload_id"])


@FUZZ
@given(
    route=st.sampled_from([*UPLOAD_ROUTES, *TUS_SURFACE.routes]),
    kind=st.sampled_from(list(UPLOADS)),
    query=QUERY,
    headers=HEADERS,
    as_described=st.booleans(),
    body=BODY,
)
def test_no_request_on_an_upload_makes_a_server_error(
    client: Client,
    route: Route,
    kind: str,
    query: str,
    headers: dict[str, Any],
    as_described: bool,
    body: bytes | None,
) -> None:
    upload_id = begun(client, kind)
    path = concrete(route.path, upload_id=upload_id)
    sent = {name.lower(): value for name, value in headers_for(route).items()} if as_described else {}
    no_server_error(client, route.method, path + query, sent | {name.lower(): value for name, value in headers.items()}, body)
    # Whatever was asked, it is still known how far it is, unless it was given up.
    assert client("HEAD", f"/storage/upload/{upload_id}").status in (200, 404)
