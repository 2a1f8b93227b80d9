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
from chalicelib.surfaces.backups.routes import SURFACE as BACKUPS
from chalicelib.surfaces.files.routes import SURFACE as FILES
from chalicelib.surfaces.files.tus_routes import TUS_SURFACE as FILES_TUS
from chalicelib.surfaces.mounted import SURFACES
from chalicelib.surfaces.routes import Route, Surface
from chalicelib.surfaces.storage.routes import SURFACE as STORAGE
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
BY_TUS = (TUS_SURFACE, FILES_TUS)
TUS_PATHS = {route.path for surface in BY_TUS for route in surface.routes}
SURFACE_OF_ROUTE = {(route.method, route.path): surface for surface in SURFACES for route in surface.routes}
SURFACE_OF_PATH = {route.path: surface for surface in reversed(SURFACES) for route in surface.routes}
# What input that is wrong is told, where it is not 400 (CONTRACT "Errors").
WRONG = {FILES.name: 422, BACKUPS.name: 422}
# And for what cannot be a name.
MISNAMED = WRONG | {FILES_TUS.name: 422}
# The words of the files surface for statuses (FEATURES F15.1).
FILE_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    410: "GONE",
    412: "PRECONDITION_FAILED",
    413: "TOO_LARGE",
    415: "UNSUPPORTED_TYPE",
    416: "RANGE_NOT_SATISFIABLE",
    422: "VALIDATION",
    429: "RATE_LIMITED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
NO_UPLOAD = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
TUS_PATH, FILES_TUS_PATH = "/storage/v1/upload/tus", "/api/uploads"
# Object `new` in bucket `b`, and file `new`.
BEGINNING = {"Tus-Resumable": tus.VERSION, "Upload-Length": "5", "Upload-Metadata": "bucket Yg==,filename bmV3"}
FILE_BEGINNING = BEGINNING | {"Upload-Metadata": "key bmV3"}
READS = {"GetItem", "BatchGetItem", "Query", "Scan", "TransactGetItems", "GetObject", "HeadObject", "ListObjectsV2"}


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def surface_of(method: str, path: str) -> Surface:
    """Whose errors a path's method has: where the path has no such method, those of the first surface that has the path."""
    return SURFACE_OF_ROUTE.get((method, path)) or SURFACE_OF_PATH.get(path, STORAGE)


def of_route(route: Route) -> Surface:
    return surface_of(route.method, route.path)


def wrong(surface: Surface) -> int:
    """The status that a surface has for input that is wrong."""
    return WRONG.get(surface.name, 400)


def misnamed(surface: Surface) -> int:
    """The status that it has for what cannot be a name."""
    return MISNAMED.get(surface.name, 400)


@pytest.fixture
def client(tenant: Tenant) -> Client:
    """The service's client, with object `known` in bucket `b`, file `known` and folder `held`."""
    tenant.service.bucket("b")
    tenant.service.put("b", "known", b"bytes", "text/plain")
    assert tenant.service("PUT", "/api/storage/known", b"bytes", {"Content-Type": "text/plain"}).status == 201
    assert tenant.service("POST", "/api/folders", {"name": "held"}).status == 201
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
    paths = ("/storage/buckets", "/storage/objects/b", "/api/storage", "/api/folders", "/api/uploads", "/api/storage/folder-counts")
    return [client("GET", path).json() for path in paths]


def concrete(path: str, **values: str) -> str:
    for name, value in (
        {"path+": "known", "key+": "known", "bucket": "b", "tenant_id": "t", "job_id": "j", "key_id": "k", "policy_id": "p", "token": "s"}
        | {"upload_id": NO_UPLOAD, "config_id": "c", "folder_id": "f"}
        | values
    ).items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path, f"say here what stands for the variables of {path}"
    return path


def requested(route: Route, **values: str) -> str:
    """The path of a request to `route` that is meant as the route is; the one that signs by a key's end has that end."""
    return concrete(route.path, **values) + ("/sign" if (route.method, route.path) == ("POST", "/api/storage/{key+}") else "")


def headers_for(route: Route) -> dict[str, str]:
    """What a request to `route` must carry to be looked at any further."""
    headers = {"Tus-Resumable": tus.VERSION} if of_route(route) in BY_TUS else {}
    headers |= {"Upload-Offset": "0"} if "{upload_id}" in route.path and route.raw_body else {}
    headers |= {"X-HTTP-Method-Override": "PATCH"} if headers and route.method == "POST" else {}
    return headers | ({"Content-Type": tus.CHUNK} if route.raw_body == tus.CHUNK else {})


def refused(answer: Answer, status: int = 400, by: Surface = STORAGE) -> None:
    """A clear error: the status, and a body that names it in the format of the surface."""
    assert answer.status == status, answer.body[:300]
    if by in BY_TUS:
        refused_in_a_line(answer)
        return
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()
    if by == BACKUPS:
        assert error.keys() == {"detail"}
        message = error["detail"]
    elif by == FILES:
        assert error.keys() == {"error", "requestId"}
        assert error["requestId"] == answer.headers["x-request-id"]
        assert error["error"].keys() == {"code", "message", "details"}
        assert error["error"]["code"] == FILE_CODES[status]
        assert error["error"]["details"]["reason"]
        message = error["error"]["message"]
    else:
        assert {"code", "message", "request_id"} <= error.keys() <= {"code", "message", "request_id", "details"}
        assert error["request_id"] == answer.headers["x-request-id"]
        message = error["message"]
    assert message
    assert "Traceback" not in message


def refused_in_a_line(answer: Answer) -> None:
    """As TUS does it."""
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["tus-resumable"] == tus.VERSION
    assert answer.headers["x-chunk-max"] == "4400000"
    message, end = answer.body.decode()[:-1], answer.body[-1:]
    assert end == b"\n"
    assert message.strip()
    assert "\n" not in message
    assert "Traceback" not in message


def refused_by(route: Route, answer: Answer, status: int | None = None) -> None:
    """The same in the format of a route's surface, for input that is wrong unless a status is given; HEAD says nothing."""
    if route.method == "HEAD":
        assert (answer.status, answer.body) == (status or wrong(of_route(route)), b"")
    else:
        refused(answer, status or wrong(of_route(route)), of_route(route))


def reason(answer: Answer) -> str:
    """The code that the other surfaces have for an error of the files surface."""
    return str(answer.json()["error"]["details"]["reason"])


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
        if not route.path.endswith("+}"):
            continue
        body: Any = b"bytes" if route.raw_body else {"user_metadata": {}} if route.body else None
        path = requested(route, **{"path+": raw, "key+": raw, "tenant_id": tenant.tenant_id})
        refused_by(route, client(route.method, path, body))


# What lies below the first two, and words of the API: percent-encoded, they reach the routes of files.
RAW_KEYS = ["tenants/a", "tenants%2Fa", "%74enants/a", "tenants/", "%5Fsign%2Fa", "%5fsign/a", "%5Fsign", "folder%2Dcounts", "from%2durl"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("raw", RAW_KEYS)
def test_a_key_that_could_pass_for_something_else_is_refused_on_every_route_of_files(client: Client, tenant: Tenant, raw: str) -> None:
    for route in FILES.routes:
        if "{key+}" in route.path:
            body: Any = b"bytes" if route.raw_body else {} if route.body else None
            refused_by(route, client(route.method, requested(route, **{"key+": raw, "tenant_id": tenant.tenant_id}), body))


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
    for url in ("https://a.example/b", "https://a.example"):
        answer = client("POST", "/api/storage/from-url", {"url": url, "key": name})
        refused(answer, 422, FILES)
        assert reason(answer) in ("InvalidName", "InvalidRequest"), "the URL was asked"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", ["", " ", "a\0b", "a\nb", "\x7f", "\ud800", "x" * 701, "ä" * 351])
def test_a_folder_is_not_named_what_nobody_can_read(client: Client, name: str) -> None:
    held = client("GET", "/api/folders").json()["data"][0]["id"]
    refused(client("POST", "/api/folders", {"name": name}), 422, FILES)
    refused(client("PATCH", f"/api/folders/{held}", {"name": name}), 422, FILES)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("path", "variable"),
    [(TUS_PATH, "filename"), (TUS_PATH, "path"), (FILES_TUS_PATH, "filename"), (FILES_TUS_PATH, "key")],
)
@pytest.mark.parametrize("name", [*JSON_NAMES, "a~" + "0" * 26])
def test_a_name_outside_the_rules_is_refused_in_the_metadata_of_tus_too(client: Client, name: str, path: str, variable: str) -> None:
    is_text = name not in ("", "\ud800")  # others name nothing
    told = {"bucket": b"b", variable: name.encode(errors="surrogatepass")}
    metadata = ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in told.items())
    for length in ({"Upload-Length": "5"}, {"Upload-Length": "0"}, {"Upload-Defer-Length": "1"}):
        headers = {"Tus-Resumable": tus.VERSION, "Upload-Metadata": metadata} | length
        refused(client("POST", path, headers=headers), 422 if path == FILES_TUS_PATH and is_text else 400, TUS_SURFACE)


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
    for variable in ("bucket", "tenant_id", "job_id", "key_id", "upload_id", "folder_id"):
        if "{" + variable + "}" in route.path:
            body: Any = b"bytes" if route.raw_body else None
            if route.body:
                body = {"user_metadata": {}, "paths": ["a"]}
            answer = caller(route.method, concrete(route.path, **{variable: "x" * 3000}), body, headers_for(route))
            assert answer.status in (misnamed(of_route(route)), 404)
            refused_by(route, answer, answer.status)


ON_AN_UPLOAD = [route for route in ROUTES if "{upload_id}" in route.path]
BAD_UPLOADS = ["%ff", "%zz", "%", "%00", "%2e%2e", "a%2Fb", "x" * 2000, "%20", "ü", NO_UPLOAD.lower(), NO_UPLOAD[1:], NO_UPLOAD + "0"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("raw", BAD_UPLOADS)
@pytest.mark.parametrize("route", ON_AN_UPLOAD, ids=named)
def test_an_upload_that_cannot_be_is_refused_or_not_found(client: Client, route: Route, raw: str) -> None:
    there_is_no_upload(client, route, raw)


BAD_FOLDERS = ["%ff", "%zz", "%", "%00", "%2e%2e", "a%2Fb", "x" * 2000, "%20", "ü", "__root__", "tree", "name%23", NO_UPLOAD]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("raw", BAD_FOLDERS)
@pytest.mark.parametrize("route", [route for route in ROUTES if "{folder_id}" in route.path], ids=named)
def test_a_folder_that_cannot_be_is_refused_or_not_found(client: Client, route: Route, raw: str) -> None:
    answer = client(route.method, concrete(route.path, folder_id=raw), {"name": "new"} if route.body else None)
    assert answer.status in (422, 404)
    refused_by(route, answer, answer.status)


@pytest.mark.parametrize("route", ON_AN_UPLOAD, ids=named)
def test_asking_for_an_upload_that_is_not_there_makes_none(client: Client, route: Route) -> None:
    there_is_no_upload(client, route, NO_UPLOAD)
    assert UploadSession.read(NO_UPLOAD, UploadSession.SESSION) is None


def there_is_no_upload(client: Client, route: Route, raw: str) -> None:
    body: Any = b"bytes" if route.raw_body else {} if route.body else None
    for method in ("PATCH", "HEAD", "DELETE"):
        headers = headers_for(route) | {"X-HTTP-Method-Override": method}
        answer = client(route.method, concrete(route.path, upload_id=raw), body, headers)
        assert answer.status in (misnamed(of_route(route)), 404)
        refused_by(route, answer, answer.status)


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
    b' "checksum": 5, "parts": {}, "acl": 5, "folderId": [], "metadata": 5, "ttlSeconds": {}, "url": 5, "key": {}, "parentId": 5}',
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
    answer = caller(route.method, requested(route), body, {"Content-Type": "application/json"})
    if route.optional_body and not body and "{upload_id}" in route.path:
        refused(answer, 404)  # none is as good as {}: there is no such upload
    elif route.optional_body and not body and of_route(route) == FILES:
        assert "?token=" in answer.json()["url"]  # likewise: the file is there, and a URL of it is signed
    else:
        refused_by(route, answer)


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
    twice = b'{"name": 1, "name": [], "bucket": 1, "bucket": {}, "paths": [1], "paths": 1, "user_metadata": {}, "user_metadata": 1,'
    twice += b' "acl": "public", "acl": 1, "ttlSeconds": 60, "ttlSeconds": "60", "url": "https://a.example", "url": 1}'
    assert 400 <= client(route.method, requested(route), twice).status < 500


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("size", ["1e999", str(10**30), "-1", "0", "NaN", "1.5", "true", "9" * 400, "-0", "1e-5", '"9e9"', "[1]", '"-5MB"'])
def test_a_number_out_of_bounds_is_refused(client: Client, size: str) -> None:
    refused(client("POST", "/storage/buckets", b'{"name": "new", "file_size_limit": ' + size.encode() + b"}"))
    refused(client("PUT", "/storage/buckets/b", b'{"max_file_size": ' + size.encode() + b"}"))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("seconds", ["59", "86401", "0", "-1", "1e999", "9" * 400, "NaN", "3600.5", "true", '"3600"', "[3600]", "null"])
def test_a_url_of_a_file_is_signed_for_no_time_out_of_bounds(client: Client, seconds: str) -> None:
    for path in ("/api/storage/known/sign", "/api/storage/_sign/known"):
        refused(client("POST", path, b'{"ttlSeconds": ' + seconds.encode() + b"}"), 422, FILES)


METADATA: list[Any] = ["{}", [], {"a": "x" * 4096}, {"a\ud800": 1}]
FILE_FIELDS: list[tuple[str, str, dict[str, Any]]] = [
    *(("PATCH", "/api/storage/known", {"acl": acl}) for acl in ("", "PUBLIC", "authenticated", 1, ["public"])),
    *(("PATCH", "/api/storage/known", {"folderId": folder}) for folder in ("", "x" * 65, 5, ["__root__"])),
    *(("PATCH", "/api/storage/known", {"metadata": metadata}) for metadata in METADATA),
    *(("POST", "/api/folders", {"name": name}) for name in (5, None, ["a"])),
    *(("POST", "/api/folders", {"name": "new", "parentId": parent}) for parent in ("", "x" * 65, 5)),
    *(
        ("POST", "/api/storage/from-url", {"url": url})
        for url in (
            *("", "a", "/a", "//a.example/b", "ftp://a.example/b", "file:///etc/passwd", "data:,a", "javascript:a", "http://", "https://"),
            *("https://[::1/b", "https://a.example:x/b", "https://a.example:99999/b", "https://a b/c", "https://a.example/\n", "\ud800"),
            *("https://u:p@a.example/b", "https://a.example/" + "x" * 2048, "https://a.example", "https://a.example/", 5, None, ["a"]),
        )
    ),
    *(
        ("POST", "/api/storage/from-url", {"url": "https://a.example/b", "contentType": kind})
        for kind in ("x" * 256, 5, "nonsense", "a/b\0")
    ),
    ("POST", "/api/storage/from-url", {"url": "https://a.example/b", "acl": "everybody"}),
    ("POST", "/api/storage/from-url", {"url": "https://a.example/b", "folderId": 5}),
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("method", "path", "body"), FILE_FIELDS, ids=lambda value: str(value)[:60].encode("ascii", "replace").decode())
def test_a_field_of_a_file_or_folder_that_is_wrong_is_refused(client: Client, method: str, path: str, body: dict[str, Any]) -> None:
    answer = client(method, path, body)
    refused(answer, 422, FILES)
    assert reason(answer) in ("InvalidRequest", "InvalidName"), "the URL was asked"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("folder", ["f", "..", "\0", "ü", "00000000-0000-4000-8000-00000000abcd", "00000000-0000-4000-8000-00000000ABCD"])
def test_nothing_is_put_into_a_folder_that_is_not_there(client: Client, folder: str) -> None:
    held = client("GET", "/api/folders").json()["data"][0]["id"]
    for method, path, body in (
        ("PATCH", "/api/storage/known", {"folderId": folder}),
        ("POST", "/api/folders", {"name": "new", "parentId": folder}),
        ("PATCH", f"/api/folders/{held}", {"parentId": folder}),
        ("POST", "/api/storage/from-url", {"url": "https://a.example/b", "folderId": folder}),
        ("PUT", f"/api/storage/known?folderId={quote(folder)}", b"other"),
    ):
        refused(client(method, path, body), 404, FILES)
    metadata = f"key {base64.b64encode(b'new').decode()},folderId {base64.b64encode(folder.encode()).decode()}"
    headers = {"Tus-Resumable": tus.VERSION, "Upload-Length": "5", "Upload-Metadata": metadata}
    refused(client("POST", FILES_TUS_PATH, headers=headers), 404, FILES_TUS)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("path", "by"), [("/storage/buckets", STORAGE), ("/api/folders", FILES)], ids=["storage", "files"])
def test_a_json_body_is_at_most_a_megabyte(client: Client, path: str, by: Surface) -> None:
    refused(client("POST", path, b" " * 1_000_001), 413, by)


# ---- headers, queries, bodies --------------------------------------------------------------------------
DUPLICATES = [
    ("GET", "Origin", ["https://a.example", "https://b.example"]),
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
    for each, path in (("GET", "/api/storage/known"), ("PUT", "/api/storage/known"), ("GET", "/api/storage"), ("GET", "/api/uploads")):
        answer = client(each, path, b"x" if each == "PUT" else None, {header: values})
        refused(answer, 422, FILES)
        assert header.lower() in answer.json()["error"]["message"]
    for path in TUS_PATHS:
        answer = client("POST", concrete(path), b"x", {"Tus-Resumable": tus.VERSION, "Content-Type": tus.CHUNK} | {header: values})
        refused(answer, by=TUS_SURFACE)
        assert header.lower() in answer.body.decode()


@pytest.mark.parametrize(
    ("method", "header", "value", "status"),
    [("POST", "Content-Type", "text/plain", 200), ("POST", "x-upsert", "true", 200)],
)
def test_a_header_that_repeats_itself_says_it_once_or_is_refused(client: Client, method: str, header: str, value: str, status: int) -> None:
    answer = client(method, "/storage/object/b/known", b"x" if method == "POST" else None, {header: [value, value]})
    assert answer.status in (status, 400)
    assert client("PUT", "/api/storage/known", b"x", {header: [value, value]}).status in (status, 422)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("query", "headers"),
    [
        *(("", {"x-metadata": value}) for value in ("%%%", "e30", in_base64("[]"), in_base64("{"), in_base64('{"a": NaN}'), "5")),
        ("", {"x-metadata": in_base64(json.dumps({"a": "x" * 4096}))}),
        *(("", {"x-upsert": value}) for value in ("maybe", "2", "")),
        *(("", {"If-None-Match": value}) for value in ('"x"', "", "*, *")),
        *(("", {"Content-Type": value}) for value in ("nonsense", "text/", "/plain", "text/plain; =", "x" * 300 + "/y", "text/plain\tx y")),
        *((f"?acl={value}", {}) for value in ("", "everybody", "PUBLIC", "public-read")),
        *((f"?{query}", {}) for query in ("acl=public&acl=private", "folderId=%ff", "folderId=a&folderId=b")),
    ],
)
def test_what_a_file_is_stored_with_that_is_wrong_is_refused(client: Client, query: str, headers: dict[str, str]) -> None:
    refused(client("PUT", f"/api/storage/known{query}", b"other", {"Content-Type": "text/plain"} | headers), 422, FILES)
    refused(client("PUT", f"/api/storage/new{query}", b"other", {"Content-Type": "text/plain"} | headers), 422, FILES)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "query", ["prefix=%ff", "%ff=a", "prefix=a&prefix=b", "prefix=%00", "limit=1&limit=2", "cursor=%ff", "prefix=%ed%a0%80", "limit=%00"]
)
def test_a_query_that_is_wrong_is_refused(client: Client, query: str) -> None:
    refused(client("GET", f"/storage/objects/b?{query}"))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "query",
    [
        *("prefix=%ff", "%ff=a", "prefix=a&prefix=b", "prefix=%00", "limit=1&limit=2", "prefix=%ed%a0%80", "prefix=" + "x" * 701),
        *(f"limit={value}" for value in ("%00", "", "0", "-1", "201", "1.5", "1e1", "9" * 19, "9" * 400, "%EF%BC%91", "+1", "1 ")),
        *(f"offset={value}" for value in ("", "-1", "10001", "1.5", "9" * 400, "a")),
        *(f"cursor={value}" for value in ("%ff", "x", "e30", "W10", "%00", "x" * 5000)),
        *(f"folderId={value}" for value in ("f", "__ROOT__", "%00", "x" * 2000, NO_UPLOAD, "00000000-0000-4000-8000-00000000ABCD")),
        *("search=" + "x" * 201, "search=%ff", "search=a&search=b"),
    ],
)
def test_a_query_for_files_that_is_wrong_is_refused(client: Client, query: str) -> None:
    refused(client("GET", f"/api/storage?{query}"), 422, FILES)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("cursor", ["%ff", "x", "%00", "x" * 5000, "e30", NO_UPLOAD, "00000000-0000-4000-8000-00000000ABCD"])
def test_a_cursor_of_folders_that_is_none_is_refused(client: Client, cursor: str) -> None:
    refused(client("GET", f"/api/folders?cursor={cursor}"), 422, FILES)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "query", ["status=done", "status=", "status=%ff", *(f"limit={value}" for value in ("0", "-1", "201", "a", "1.5", "9" * 400, ""))]
)
def test_a_query_for_uploads_that_is_wrong_is_refused(client: Client, query: str) -> None:
    refused(client("GET", f"/api/uploads?{query}"), 422, FILES)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "query",
    [
        *(f"{side}={value}" for side in ("width", "height") for value in ("", "0", "-1", "4097", "1.5", "a", "9" * 400, "%00")),
        *("fit=fill", "fit=", "format=bmp", "format=", "quality=0", "quality=101", "quality=", "focal=50,50", "width=5&focal=50"),
        *("width=1&width=2", "width=%ff", "width=5&height=5&fit=cover&focal=101,0", "width=5&height=5&fit=cover&focal=a"),
    ],
)
def test_a_transform_that_is_none_is_refused_also_of_a_file_that_is_no_image(client: Client, query: str) -> None:
    refused(client("GET", f"/api/storage/known?{query}"), 422, FILES)


TOKENS = ["", ".", "a", "a.", ".a", "a.b", "a.b.c", "%00", "%C3%BC", "x" * 5000, "eyJhIjoxfQ.x", "bnVsbA.x", "W10.x", "%20"]
TOKENS += [base64.urlsafe_b64encode(b"[" * 2000).decode() + ".x"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_is_none_opens_no_file_whoever_brings_it(client: Client, tenant: Tenant, token: str) -> None:
    for caller in (client, tenant.nobody):
        for key in ("known", "absent"):
            answer = caller("GET", f"/api/storage/{key}?token={token}")
            refused(answer, 401, FILES)
            assert answer.headers["www-authenticate"]
            assert (caller("HEAD", f"/api/storage/{key}?token={token}").status) == 401


COOKIES = ["=a", "=", "=" + "x" * 5000, "=%00", "=\xff", '="x"', "=a=b", "=a, stowage_session=b", "=a; stowage_session=b"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("cookie", COOKIES)
def test_a_cookie_that_is_of_no_session_is_refused(client: Client, tenant: Tenant, cookie: str) -> None:
    sent = {"Cookie": f"a=b; stowage_session{cookie}", "Origin": "http://api.test"}
    for route in (*FILES.routes, *FILES_TUS.routes):
        if route.needs_credential and route.method != "OPTIONS":
            body: Any = b"bytes" if route.raw_body else {"name": "new"} if route.body else None
            answer = tenant.nobody(route.method, requested(route), body, headers_for(route) | sent)
            refused_by(route, answer, 401)
            assert answer.headers["www-authenticate"]
    for query in ("", "?download"):
        refused(tenant.nobody("GET", f"/api/storage/known{query}", headers=sent), 401, FILES)
    beside_another = {"Cookie": [f"stowage_session{cookie}", "stowage_session=other"], "Origin": "http://api.test"}
    for method, path in (("GET", "/api/storage"), ("DELETE", "/api/storage/known")):
        refused(tenant.nobody(method, path, headers=beside_another), 401, FILES)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("query", ["a", "&&&", "=", "a=b=c", "%=1", "utm_source=x", "prefix", "x" * 5000, "folderId=&search="])
def test_a_query_that_says_nothing_to_us_is_ignored(client: Client, query: str) -> None:
    answer = client("GET", f"/storage/objects/b?{query}")
    assert (answer.status, [row["name"] for row in answer.json()]) == (200, ["known"])
    answer = client("GET", f"/api/storage?{query}")
    assert (answer.status, [row["key"] for row in answer.json()["data"]]) == (200, ["known"])
    assert client("GET", f"/api/storage/known?{query}").body == b"bytes"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/storage/object/b/new", 400), ("PUT", "/api/storage/new", 422), ("POST", "/api/uploads", 400)]
)
def test_a_body_that_did_not_arrive_whole_is_refused(client: Client, tenant: Tenant, method: str, path: str, status: int) -> None:
    from app import app

    headers = {"host": "api.test", "authorization": f"Bearer {tenant.service_key}"} | {"content-type": tus.CHUNK}
    headers |= {name.lower(): value for name, value in FILE_BEGINNING.items()}
    event = client._events.create_lambda_event(method, path, headers, b"bytes")
    answer = app(event | {"isBase64Encoded": True, "body": "abcde"}, None)
    assert answer["statusCode"] == status
    assert b"did not arrive whole" in base64.b64decode(answer["body"])


@pytest.mark.usefixtures("untouched")
def test_a_body_beyond_the_platforms_limit_is_told_the_routes_that_take_it(client: Client) -> None:
    answer = client("POST", "/storage/object/b/new", bytes(4_400_001), {"Content-Type": "text/plain"})
    refused(answer, 413)
    assert answer.code == "TooLarge"
    for hint in ("/storage/upload/direct", "/storage/upload/resumable", "/storage/v1/upload/tus"):
        assert hint in answer.json()["message"]
    assert answer.json()["details"]["limit"] == 4_400_000
    answer = client("PUT", "/api/storage/new", bytes(4_400_001), {"Content-Type": "text/plain"})
    refused(answer, 413, FILES)
    assert "/api/uploads" in answer.json()["error"]["message"]
    assert answer.json()["error"]["details"]["limit"] == 4_400_000


@pytest.mark.parametrize(("method", "path"), [("POST", "/storage/object/b/new"), ("PUT", "/api/storage/new")])
def test_a_body_of_the_platforms_limit_is_taken(client: Client, method: str, path: str) -> None:
    assert client(method, path, bytes(4_400_000), {"Content-Type": "text/plain"}).status == 201


# ---- methods, routes, headers of every answer ----------------------------------------------------------
# They lie beside the keys of files: what another method names by them is a key.
BESIDE_KEYS = ["/api/storage/_sign/{key+}", "/api/storage/folder-counts", "/api/storage/from-url"]


@pytest.mark.parametrize("path", [path for path in PATHS if path not in BESIDE_KEYS])
def test_another_method_is_told_which_are_right(tenant: Tenant, path: str) -> None:
    right = {route.method for route in ROUTES if route.path == path} | {"OPTIONS"}
    for method in set(METHODS) - right:
        answer = tenant.nobody(method, concrete(path))
        assert answer.status == 405, method
        assert set(answer.headers["allow"].split(", ")) == right
        if method == "HEAD":
            assert answer.body == b""
        else:
            by = surface_of(method, path)
            refused(answer, 405, by)
            assert by in (*BY_TUS, BACKUPS) or (reason(answer) if by == FILES else answer.code) == "MethodNotAllowed"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", BESIDE_KEYS)
def test_a_word_of_the_api_is_no_key_by_any_other_method(client: Client, path: str) -> None:
    """What another method names is a key, which no word of the API can be; POST to a key signs nothing."""
    for route in FILES.routes:
        if route.path == "/api/storage/{key+}" and (route.method, path) not in SURFACE_OF_ROUTE:
            body: Any = b"bytes" if route.raw_body else {} if route.body else None
            refused_by(route, client(route.method, concrete(path), body), 405 if route.method == "POST" else 422)


@pytest.mark.usefixtures("untouched")
def test_a_post_to_a_file_that_signs_nothing_is_told_what_is_right(client: Client) -> None:
    for key in ("known", "signed", "a/sign/b", "sign"):
        answer = client("POST", f"/api/storage/{key}", {})
        refused(answer, 405, FILES)
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("path", "by"),
    [
        *((path, STORAGE) for path in ("/", "/nowhere", "/storage", "/storage/object", "/storage/object/b", "/storage/buckets/b/c")),
        *((path, STORAGE) for path in ("/admin", "/a/%zz/%00", "/api", "/api/nowhere", "/auth", "/auth/session/a")),
        *((path, FILES) for path in ("/api/public", "/api/public/t", "/api/folders/a/b", "/api/uploads/a/b")),
        ("/api/v1/nowhere", BACKUPS),
    ],
    ids=lambda value: value.name if isinstance(value, Surface) else value,
)
def test_an_unknown_route_is_not_found_by_the_surface_that_it_was_meant_for(tenant: Tenant, method: str, path: str, by: Surface) -> None:
    answer = tenant.nobody(method, path)
    if method == "HEAD":
        assert (answer.status, answer.body) == (404, b"")
    else:
        refused(answer, 404, by)
        assert by == BACKUPS or (reason(answer) if by == FILES else answer.code) == "RouteNotFound"


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


NO_TUS_UPLOAD, NO_FILE_UPLOAD = f"{TUS_PATH}/{NO_UPLOAD}", f"{FILES_TUS_PATH}/{NO_UPLOAD}"
TUS_CHUNK = {"Tus-Resumable": tus.VERSION, "Content-Type": tus.CHUNK, "Upload-Offset": "0"}
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
    "TUS: not found": lambda client, tenant: client("PATCH", NO_TUS_UPLOAD, b"x", TUS_CHUNK),
    "TUS: head of none": lambda client, tenant: client("HEAD", NO_TUS_UPLOAD, headers=TUS_CHUNK),
    "TUS: unauthorized": lambda client, tenant: tenant.nobody("PATCH", NO_TUS_UPLOAD, b"x", TUS_CHUNK),
    "TUS: wrong method": lambda client, tenant: client("GET", NO_TUS_UPLOAD),
    "TUS: too large": lambda client, tenant: client("PATCH", NO_TUS_UPLOAD, bytes(4_400_001), TUS_CHUNK),
    "TUS: contradiction": lambda client, tenant: client("PATCH", NO_TUS_UPLOAD, b"x", TUS_CHUNK | {"Upload-Offset": ["0", "1"]}),
    "file: stored": lambda client, tenant: client("PUT", "/api/storage/new", b"x"),
    "file: downloaded": lambda client, tenant: client("GET", "/api/storage/known"),
    "file: partial": lambda client, tenant: client("GET", "/api/storage/known", headers={"Range": "bytes=0-0"}),
    "file: unmodified": lambda client, tenant: client("GET", "/api/storage/known", headers={"If-None-Match": "*"}),
    "file: head": lambda client, tenant: client("HEAD", "/api/storage/known"),
    "file: head of none": lambda client, tenant: client("HEAD", "/api/storage/absent"),
    "file: listed": lambda client, tenant: client("GET", "/api/storage"),
    "file: invalid": lambda client, tenant: client("POST", "/api/folders", b"{"),
    "file: unauthorized": lambda client, tenant: tenant.nobody("GET", "/api/storage"),
    "file: no token": lambda client, tenant: tenant.nobody("GET", "/api/storage/known?token=a"),
    "file: no session": lambda client, tenant: tenant.nobody("GET", "/api/storage", headers={"Cookie": "stowage_session=a"}),
    "file: of nowhere": lambda client, tenant: tenant.nobody(
        "DELETE", "/api/storage/known", headers={"Cookie": "stowage_session=a", "Origin": "https://a.example"}
    ),
    "file: forbidden": lambda client, tenant: tenant.anon("GET", "/api/storage"),
    "file: not found": lambda client, tenant: client("GET", "/api/storage/absent"),
    "file: not public": lambda client, tenant: tenant.nobody("GET", f"/api/public/{tenant.tenant_id}/known?width=5"),
    "file: wrong method": lambda client, tenant: tenant.nobody("DELETE", "/api/folders"),
    "file: precondition": lambda client, tenant: client("GET", "/api/storage/known", headers={"If-Match": '"x"'}),
    "file: exists": lambda client, tenant: client("PUT", "/api/storage/known", b"x", {"x-upsert": "false"}),
    "file: too large": lambda client, tenant: client("POST", "/api/folders", b" " * 1_000_001),
    "file: range": lambda client, tenant: client("GET", "/api/storage/known", headers={"Range": "bytes=99-"}),
    "file: contradiction": lambda client, tenant: client("GET", "/api/storage", headers={"apikey": ["a", "b"]}),
    "file: uploads": lambda client, tenant: client("GET", FILES_TUS_PATH),
    "file: no upload": lambda client, tenant: client("GET", NO_FILE_UPLOAD),
    "file: no upload's method": lambda client, tenant: client("PUT", NO_FILE_UPLOAD),
    "TUS of files": lambda client, tenant: tenant.nobody("OPTIONS", FILES_TUS_PATH),
    "TUS of files: begun": lambda client, tenant: client("POST", FILES_TUS_PATH, headers=FILE_BEGINNING),
    "TUS of files: no version": lambda client, tenant: client("POST", FILES_TUS_PATH),
    "TUS of files: not found": lambda client, tenant: client("PATCH", NO_FILE_UPLOAD, b"x", TUS_CHUNK),
    "TUS of files: head of none": lambda client, tenant: client("HEAD", NO_FILE_UPLOAD, headers=TUS_CHUNK),
    "TUS of files: unauthorized": lambda client, tenant: tenant.nobody("PATCH", NO_FILE_UPLOAD, b"x", TUS_CHUNK),
    "TUS of files: too large": lambda client, tenant: client("PATCH", NO_FILE_UPLOAD, bytes(4_400_001), TUS_CHUNK),
    "session": lambda client, tenant: tenant.user()("POST", "/auth/session"),
    "session: forbidden": lambda client, tenant: client("POST", "/auth/session"),
    "session: ended": lambda client, tenant: tenant.nobody("DELETE", "/auth/session"),
    "session: of nowhere": lambda client, tenant: tenant.nobody("DELETE", "/auth/session", headers={"Cookie": "stowage_session=a"}),
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
        refused(answer, answer.status, TUS_SURFACE if what.startswith("TUS") else FILES if what.startswith("file") else STORAGE)


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
@pytest.mark.parametrize("folder", [TUS_PATH, FILES_TUS_PATH])
def test_a_header_of_tus_with_a_space_that_no_answer_may_carry_breaks_no_later_request(
    client: Client, header: Any, space: str, folder: str
) -> None:
    part = client("POST", folder, headers=BEGINNING | {"Upload-Length": "0", "Upload-Concat": "partial"})
    headers = {name: value.replace("{part}", part.headers["location"]) for name, value in header(space).items()}
    answer = client("POST", folder, headers=headers)
    assert answer.status in (201, 400)
    if answer.status == 400:
        refused(answer, by=TUS_SURFACE)
    else:
        path = f"{folder}/" + answer.headers["location"].rpartition("/")[2]
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
    monkeypatch.setattr(objects, "read_current", broken)
    answer = client.get("b", "known")
    refused(answer, 500)
    assert answer.code == "InternalError"
    assert b"secret" not in answer.body
    answer = client("GET", "/api/storage/known")
    refused(answer, 500, FILES)
    assert b"secret" not in answer.body


def test_a_storage_that_does_not_answer_is_unavailable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any) -> None:
        raise StorageUnavailable("the storage cannot be reached; try again shortly")

    monkeypatch.setattr(objects, "read", down)
    monkeypatch.setattr(objects, "read_current", down)
    for path, by in (("/storage/object/b/known", STORAGE), ("/api/storage/known", FILES)):
        answer = client("GET", path)
        refused(answer, 503, by)
        assert int(answer.headers["retry-after"]) >= 1


# ---- anything at all -----------------------------------------------------------------------------------
SEGMENT = st.one_of(
    st.sampled_from(
        ["b", "known", "a", "..", "%2e%2e", "%00", "%ff", "%", "move", "copy", "object", "", "%2F", "~" + "0" * 26, "sign", "_sign"]
    ),
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
            "Cookie",
            "Tus-Resumable",
        ]
    ),
    st.one_of(
        TEXT,
        st.lists(TEXT, min_size=2, max_size=2),
        st.sampled_from(["bytes=0-", "*", "multipart/form-data; boundary=a", "null", "0", "1", "5", "bytes 0-4/5", "bytes 1-0/*"]),
        st.sampled_from(
            [tus.CHUNK, "bucket Yg==,filename a25vd24=", "md5 eA==", "partial", "final;", f"final;{NO_UPLOAD}", "PATCH", "HEAD"]
        ),
        st.sampled_from([tus.VERSION, "key a25vd24=,acl cHVibGlj,folderId X19yb290X18=", "stowage_session=a", "http://api.test"]),
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
            "acl",
            "folderId",
            "metadata",
            "ttlSeconds",
            "url",
            "key",
            "contentType",
            "parentId",
        ]
    ),
    JSON
    | st.sampled_from(["b", "known", "x", ["known"], {}, "1MB", 5, True, "0" * 64, "A" * 43 + "=", [{"number": 1, "etag": "x"}]])
    | st.sampled_from(["public", "__root__", 60, {"a": None}, "http://127.0.0.1:9/known", "https://[::1]/known"]),
    max_size=5,
)
BODY = st.one_of(
    st.none(), st.binary(max_size=60), st.one_of(JSON, FIELDS).map(lambda document: json.dumps(document).encode("utf-8", "replace"))
)
QUERY = st.one_of(
    st.just(""),
    st.text(st.characters(codec="ascii", exclude_characters="#\r\n"), max_size=20).map("?".__add__),
    st.tuples(
        st.sampled_from(["prefix", "limit", "offset", "cursor", "delimiter", "download", "if_empty", "from", "count"])
        | st.sampled_from(
            ["folderId", "search", "status", "acl", "token", "version", "width", "height", "fit", "focal", "format", "quality"]
        ),
        TEXT | st.sampled_from(["0", "1", "-1", "1000", "9" * 18, "__root__", "public", "webp"]),
    ).map(lambda pair: f"?{pair[0]}={quote(pair[1], errors='replace')}"),
)


@FUZZ
@given(
    method=st.sampled_from(METHODS),
    base=st.sampled_from([*PATHS, "/storage/object/b/{path+}", "/storage/{path+}", "/api/{path+}", "/{path+}"]),
    segments=st.lists(SEGMENT, min_size=1, max_size=4),
    query=QUERY,
    headers=HEADERS,
    body=BODY,
)
def test_no_request_whatever_makes_a_server_error(
    client: Client, method: str, base: str, segments: list[str], query: str, headers: dict[str, Any], body: bytes | None
) -> None:
    path = base.replace("{path+}", "a" + "/".join(segments)).replace("{bucket}", segments[0].replace("/", "") or "b")
    path = path.replace("{key+}", "/".join(segments) or "a")
    for variable in ("{tenant_id}", "{job_id}", "{key_id}", "{policy_id}", "{token}", "{upload_id}", "{folder_id}"):
        path = path.replace(variable, segments[-1].replace("/", "") or "x")
    no_server_error(client, method, path + query, headers, body)


def no_server_error(client: Client, method: str, path: str, headers: dict[str, Any], body: bytes | None) -> None:
    answer = client(method, path, body, headers)
    assert answer.status < 500, (method, path, answer.body)
    assert answer.headers["x-request-id"]
    assert not any("\r" in value or "\n" in value for value in answer.headers.values() if isinstance(value, str))
    if answer.status >= 400 and method != "HEAD":
        event = client._events.create_lambda_event(method, path, {}, None)
        refused(answer, answer.status, surface_of(method, event["resource"]))


UPLOADS: dict[str, dict[str, Any]] = {
    "resumable": {},
    "direct": {},
    "direct in parts": {"parts": 2},
    "tus": {},
    "partial": {"Upload-Concat": "partial"},
    "file": {},
}


def begun(client: Client, kind: str) -> str:
    """An upload of five bytes that is under way."""
    if kind in ("tus", "partial", "file"):
        path, beginning = (FILES_TUS_PATH, FILE_BEGINNING) if kind == "file" else (TUS_PATH, BEGINNING)
        answer = client("POST", path, headers=beginning | UPLOADS[kind])
        return answer.headers["location"].rpartition("/")[2]
    wanted = {"bucket": "b", "path": "known", "size": 5} | UPLOADS[kind]
    return str(client("POST", f"/storage/upload/{kind.split()[0]}", wanted).json()["upload_id"])


@FUZZ
@given(
    route=st.sampled_from([*UPLOAD_ROUTES, *TUS_SURFACE.routes, *FILES_TUS.routes, *(r for r in FILES.routes if "/uploads" in r.path)]),
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
