"""Sessions: a user's token exchanged for a cookie, which opens files to a browser and to no page of another origin (CONTRACT "Common")."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from chalicelib import seam
from chalicelib.access import credentials
from chalicelib.access.cache import forget_everything
from chalicelib.core import tenants
from chalicelib.tables.tenants import Session
from infra import stack
from tests.api.tus_client import CHUNK, encoded, id_of
from tests.client import Answer, Client
from tests.conftest import Clock, Tenant
from tests.files.conftest import TEXT, Choose, allow, folder, get, keys, listed, refused, stored

COOKIE = "stowage_session"
ORIGIN = "http://api.test"
TUS = {"tus-resumable": "1.0.0"}
OTHER_ORIGINS = [
    None,
    "",
    " ",
    "null",
    "http://other.test",
    "http://api.test:8080",
    "https://api.test",
    "http://api.test.evil.test",
    "http://evil.test/http://api.test",
    "http://evil-api.test",
    "http://api.test@evil.test",
    "http://api.tes",
    "http://api.test/",
    "http://api.test/api/storage",
    "http://api.test http://evil.test",
    "api.test",
    "//api.test",
    "http://",
    "*",
]


@dataclass(frozen=True)
class Browser:
    """Requests that carry a cookie, and say which page asks."""

    client: Client
    cookie: str
    origin: Any = ORIGIN
    host: str = "api.test"

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, Any] | None = None) -> Answer:
        sent = {"cookie": self.cookie, "host": self.host} | ({} if self.origin is None else {"origin": self.origin})
        return self.client(method, path, body, sent | (headers or {}))

    def on(self, origin: Any) -> "Browser":
        return replace(self, origin=origin)


def begun(client: Client, **headers: str) -> Answer:
    answer = client("POST", "/auth/session", headers=headers)
    assert answer.status == 200, answer.body
    return answer


def set_cookie(answer: Answer) -> tuple[str, str, dict[str, str]]:
    """The name, value and attributes of the cookie that an answer sets."""
    pair, *attributes = answer.headers["set-cookie"].split("; ")
    name, _, value = pair.partition("=")
    return name, value, {key.lower(): text for key, _, text in (each.partition("=") for each in attributes)}


def text_of(answer: Answer) -> str:
    return set_cookie(answer)[1]


def browser(tenant: Tenant, **claims: Any) -> Browser:
    """A user who has signed in."""
    return Browser(tenant.nobody, f"{COOKIE}={text_of(begun(tenant.user(**claims)))}")


def refused_to_all(answer: Answer) -> None:
    refused(answer, 401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.fixture
def signed_in(tenant: Tenant) -> Browser:
    """The browser of a user, ada."""
    return browser(tenant, sub="ada")


# ---- beginning -----------------------------------------------------------------------------------------
def test_a_token_is_exchanged_for_a_cookie(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    now = seam.timestamp()
    monkeypatch.setattr(seam, "timestamp", lambda: now)
    answer = begun(tenant.user(exp=int(now) + 600))
    name, value, attributes = set_cookie(answer)
    assert (name, len(value) >= 43, value.isascii()) == (COOKIE, True, True)
    assert attributes == {"path": "/", "max-age": "600", "httponly": "", "samesite": "Lax", "secure": ""}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"expires_at": seam.iso(seam.at(int(now) + 600))}


@pytest.mark.parametrize(
    ("host", "public_url", "is_secure"),
    [
        ("localhost", "", False),
        ("localhost:8000", "", False),
        ("127.0.0.1:8000", "", False),
        ("api.test", "", True),
        ("localhost.evil.test", "", True),
        ("127.0.0.1.evil.test:80", "", True),
        ("10.0.0.1", "", True),
        ("abc.execute-api.eu-central-1.amazonaws.com", "", True),
        ("localhost", "https://files.example.com", True),
        ("api.test", "http://localhost:8000/v1", False),
    ],
)
def test_the_cookie_is_for_encrypted_connections_wherever_there_is_more_than_this_machine(
    tenant: Tenant, choose: Choose, host: str, public_url: str, is_secure: bool
) -> None:
    choose("STOWAGE_PUBLIC_URL", public_url)
    assert ("secure" in set_cookie(begun(tenant.user(), host=host))[2]) == is_secure
    ended = tenant.nobody("DELETE", "/auth/session", headers={"host": host})
    assert ("secure" in set_cookie(ended)[2]) == is_secure


def test_a_key_begins_no_session(tenant: Tenant) -> None:
    admin = tenants.create_admin_key()
    custom = tenant.nobody.using(admin)("POST", f"/admin/tenants/{tenant.tenant_id}/keys", {"role": "custom", "permissions": []})
    for key in (tenant.service_key, custom.json()["key"], admin):
        answer = tenant.nobody.using(key)("POST", "/auth/session")
        assert (answer.status, "set-cookie" in answer.headers) == (403, False), answer.body
    assert tenant.anon("POST", "/auth/session").status == 403


def test_nobody_begins_no_session(tenant: Tenant, choose: Choose, signed_in: Browser) -> None:
    for default_tenant in ("", tenant.tenant_id):
        choose("STOWAGE_DEFAULT_TENANT", default_tenant)
        for ask in (tenant.nobody, tenant.nobody.using("sk_unknown"), tenant.nobody.using(tenant.token() + "x"), signed_in):
            answer = ask("POST", "/auth/session")
            assert (answer.status, "set-cookie" in answer.headers) == (401, False)
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_beside_the_token_does_not_stand_in_the_way(tenant: Tenant, new_tenant: Any) -> None:
    anon_key = tenant.anon._credential
    assert begun(tenant.user(), apikey=anon_key).status == 200
    assert new_tenant().user()("POST", "/auth/session", headers={"apikey": anon_key}).status == 401


@pytest.mark.parametrize("more", [3600.5, 10 * 365 * 24 * 3600])
def test_a_session_may_end_at_any_moment_of_the_future(tenant: Tenant, more: float) -> None:
    cookie = f"{COOKIE}={text_of(begun(tenant.user(exp=seam.timestamp() // 1 + more)))}"
    assert Browser(tenant.nobody, cookie)("GET", "/api/storage").status == 200


def test_each_session_has_a_cookie_of_its_own(tenant: Tenant) -> None:
    token = tenant.user()
    assert len({text_of(begun(token)) for _ in range(5)}) == 5


# ---- reading -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("origin", [None, ORIGIN, "https://other.test", "null"])
def test_a_cookie_reads_what_its_token_would(tenant: Tenant, ada: Client, bob: Client, signed_in: Browser, origin: str | None) -> None:
    stored(ada, "photos/a.txt", b"of ada")
    stored(bob, "b.txt")
    upload_id = id_of(ada("POST", "/api/uploads", headers=TUS | {"upload-length": "6", "upload-metadata": encoded(key="c.txt")}))
    ask = signed_in.on(origin)
    for path in ("/api/storage?limit=10", "/api/folders", "/api/storage/folder-counts", "/api/uploads", f"/api/uploads/{upload_id}"):
        by_cookie, by_token = ask("GET", path), ada("GET", path)
        assert (by_cookie.status, by_cookie.json()) == (200, by_token.json())
    assert ask("GET", "/api/storage/photos/a.txt").body == b"of ada"
    assert ask("HEAD", "/api/storage/photos/a.txt").status == 200
    assert ask("HEAD", f"/api/uploads/{upload_id}", headers=TUS).headers["upload-offset"] == "0"
    refused(ask("GET", "/api/storage/b.txt"), 404, "NOT_FOUND")


def test_a_session_is_what_its_token_was(tenant: Tenant, ada: Client) -> None:
    allow(tenant.service, "SELECT", "auth_role() = 'editor' AND auth_email() = 'eve@example.com'")
    stored(ada, "a.txt")
    assert listed_by(browser(tenant, sub="eve", role="editor", email="eve@example.com")) == ["a.txt"]
    refused(browser(tenant, sub="eve", role="editor", email="other@example.com")("GET", "/api/storage"), 403, "FORBIDDEN")
    assert listed_by(browser(tenant, sub="eve", role="service", email="eve@example.com")) == []


def test_a_session_is_of_its_tokens_tenant(tenant: Tenant, new_tenant: Any, signed_in: Browser) -> None:
    other = new_tenant()
    stored(other.user(sub="ada"), "theirs.txt")
    stored(tenant.user(sub="ada"), "ours.txt")
    assert listed_by(signed_in) == ["ours.txt"]
    assert listed_by(browser(other, sub="ada")) == ["theirs.txt"]


def listed_by(ask: Browser) -> list[str]:
    answer = ask("GET", "/api/storage")
    assert answer.status == 200, answer.body
    return [each["key"] for each in answer.json()["data"]]


# ---- changing ------------------------------------------------------------------------------------------
# What who may do so is answered to each of the changes below, one after the other.
CHANGED = [201, 200, 200, 200, 200, 200, 201, 200, 200, 201, 200, 204, 204, 204]


@dataclass(frozen=True)
class Drive:
    """What ada has, and every way to change it."""

    ada: Client
    folder_id: str
    upload_id: str

    def changes(self) -> list[tuple[str, str, Any, dict[str, str]]]:
        upload, chunk = f"/api/uploads/{self.upload_id}", TUS | {"content-type": CHUNK, "upload-offset": "3"}
        creation = TUS | {"upload-length": "6", "upload-metadata": encoded(key="new by tus.txt")}
        return [
            ("PUT", "/api/storage/new.txt", b"new", TEXT),
            ("PUT", "/api/storage/a.txt", b"other", TEXT),
            ("PATCH", "/api/storage/a.txt", {"acl": "public", "metadata": {"k": 1}}, {}),
            ("POST", "/api/storage/_sign/a.txt", {"ttlSeconds": 60}, {}),
            ("POST", "/api/storage/a.txt/sign", None, {}),
            ("DELETE", "/api/storage/a.txt", None, {}),
            ("POST", "/api/folders", {"name": "new"}, {}),
            ("PATCH", f"/api/folders/{self.folder_id}", {"name": "renamed"}, {}),
            ("DELETE", f"/api/folders/{self.folder_id}", None, {}),
            ("POST", "/api/uploads", None, creation),
            ("POST", upload, None, TUS | {"x-http-method-override": "HEAD"}),
            ("PATCH", upload, b"d", chunk),
            ("POST", upload, b"e", chunk | {"x-http-method-override": "PATCH", "upload-offset": "4"}),
            ("DELETE", upload, None, TUS),
        ]

    def state(self) -> Any:
        """Everything that ada has."""
        return listed(self.ada), *(self.ada("GET", path).json() for path in ("/api/folders", "/api/uploads"))


@pytest.fixture
def drive(ada: Client) -> Drive:
    stored(ada, "a.txt", b"of ada")
    metadata = {"upload-length": "6", "upload-metadata": encoded(key="by tus.txt"), "content-type": CHUNK}
    return Drive(ada, folder(ada, "photos"), id_of(ada("POST", "/api/uploads", b"abc", TUS | metadata)))


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
def test_a_cookie_changes_nothing_for_a_page_of_another_origin(drive: Drive, signed_in: Browser, origin: str | None) -> None:
    """F9.22"""
    before = drive.state()
    for method, path, body, headers in (*drive.changes(), ("POST", "/api/storage/from-url", {"url": "http://example.com/a"}, {})):
        answer = signed_in.on(origin)(method, path, body, headers)
        assert answer.status == 403, (method, path, answer.body)
        if path.startswith("/api/uploads"):
            assert answer.headers["content-type"].startswith("text/plain")
        else:
            refused(answer, 403, "FORBIDDEN")
    assert signed_in.on(origin)("DELETE", "/auth/session").status == 403
    assert drive.state() == before
    assert listed_by(signed_in) == ["a.txt"]


def test_a_cookie_changes_what_a_page_of_this_origin_asks_for(drive: Drive, signed_in: Browser) -> None:
    assert [signed_in(*change).status for change in drive.changes()] == CHANGED
    files, folders, uploads = drive.state()
    assert [each["key"] for each in files["data"]] == ["new.txt"]
    assert [each["name"] for each in folders["data"]] == ["new"]
    assert [each["status"] for each in uploads["uploads"]] == ["uploading", "aborted"]


@pytest.mark.parametrize("origins", [[ORIGIN, "http://evil.test"], ["http://evil.test", ORIGIN]])
def test_two_origins_are_none(drive: Drive, signed_in: Browser, origins: list[str]) -> None:
    before = drive.state()
    for method, path, body, headers in drive.changes():
        answer = signed_in.on(origins)(method, path, body, headers)
        assert answer.status == (400 if path.startswith("/api/uploads") else 422), (method, path, answer.body)
    assert drive.state() == before


@pytest.mark.parametrize(
    ("public_url", "host", "origin", "status"),
    [
        ("https://files.example.com:8443/v1", "api.test", "https://files.example.com:8443", 201),
        ("https://files.example.com/", "api.test", "https://files.example.com", 201),
        ("https://files.example.com:8443/v1", "api.test", "https://files.example.com", 403),
        ("https://files.example.com:8443/v1", "api.test", "http://files.example.com:8443", 403),
        ("https://files.example.com:8443/v1", "api.test", ORIGIN, 403),
        ("https://files.example.com", "evil.test", "http://evil.test", 403),
        ("", "api.test:8000", "http://api.test:8000", 201),
        ("", "api.test:8000", "http://api.test", 403),
        ("", "abc.execute-api.eu-central-1.amazonaws.com", "http://abc.execute-api.eu-central-1.amazonaws.com", 201),
        ("", "abc.execute-api.eu-central-1.amazonaws.com", "http://abd.execute-api.eu-central-1.amazonaws.com", 403),
    ],
)
def test_this_origin_is_where_the_installation_is_known(
    signed_in: Browser, choose: Choose, public_url: str, host: str, origin: str, status: int
) -> None:
    choose("STOWAGE_PUBLIC_URL", public_url)
    answer = replace(signed_in, host=host, origin=origin)("PUT", "/api/storage/a.txt", b"bytes", TEXT)
    assert answer.status == status, answer.body


def test_an_origin_that_may_read_by_cors_changes_nothing_by_cookie(drive: Drive, signed_in: Browser, choose: Choose) -> None:
    choose("STOWAGE_CORS_ORIGINS", "https://app.test")
    ask, before = signed_in.on("https://app.test"), drive.state()
    assert ask("GET", "/api/storage").headers["access-control-allow-credentials"] == "true"
    refused(ask("PUT", "/api/storage/a.txt", b"other", TEXT), 403, "FORBIDDEN")
    assert drive.state() == before


@pytest.mark.parametrize("origin", [None, "http://evil.test", "null"])
def test_with_a_token_no_origin_is_needed(drive: Drive, ada: Client, signed_in: Browser, origin: str | None) -> None:
    """Nor is it where the browser adds a cookie to it."""
    headers = TEXT | ({} if origin is None else {"origin": origin})
    assert [ask("PUT", "/api/storage/b.txt", b"bytes", headers).status for ask in (ada, Browser(ada, signed_in.cookie))] == [201, 200]
    assert [Browser(ada, signed_in.cookie, origin)(*change).status for change in drive.changes()] == CHANGED


def test_what_is_sent_beside_the_cookie_wins(tenant: Tenant, ada: Client, bob: Client, signed_in: Browser) -> None:
    stored(ada, "a.txt")
    stored(bob, "b.txt")
    assert listed_by(Browser(bob, signed_in.cookie)) == ["b.txt"]
    assert listed_by(Browser(bob, f"{COOKIE}=made-up")) == ["b.txt"]
    assert sorted(listed_by(Browser(tenant.service, signed_in.cookie))) == ["a.txt", "b.txt"]
    refused(signed_in("GET", "/api/storage", headers={"apikey": tenant.anon._credential}), 403, "FORBIDDEN")
    for wrong in ("Bearer sk_unknown", "Bearer x.y.z", "Basic YTpi", "Bearer"):
        refused_to_all(signed_in("GET", "/api/storage", headers={"authorization": wrong}))
    refused_to_all(signed_in("GET", "/api/storage", headers={"apikey": "sk_unknown"}))


# ---- other surfaces ------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_default", [False, True], ids=["no default tenant", "a default tenant"])
def test_other_surfaces_know_of_no_cookie(tenant: Tenant, signed_in: Browser, choose: Choose, is_default: bool) -> None:
    tenant.service.bucket("b")
    policy = {"bucket": "b", "name": "users", "operation": "INSERT", "definition": "auth_uid() IS NOT NULL"}
    assert tenant.service("POST", "/storage/policies", policy).status == 201
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id if is_default else "")
    for method, path, body in (
        ("GET", "/storage/buckets", None),
        ("GET", "/storage/objects/b", None),
        ("POST", "/storage/object/b/o", b"bytes"),
        ("POST", "/storage/v1/upload/tus", None),
        ("GET", "/keys/list", None),
        ("POST", "/keys/create", {"name": "k"}),
        ("GET", "/storages/list", None),
        ("GET", f"/api/v1/backups/storage-configs?organization_id={tenant.tenant_id}", None),
        ("GET", "/admin/tenants", None),
        ("POST", "/auth/token", {"sub": "ada"}),
    ):
        sent = TUS | {"upload-length": "1", "upload-metadata": encoded(bucket="b", filename="o")} if "tus" in path else {}
        with_cookie, without = signed_in(method, path, body, sent), tenant.nobody(method, path, body, sent)
        assert with_cookie.status == without.status == 401, (method, path, with_cookie.body)
    assert tenant.service.names("b") == []


def test_a_cookies_text_is_no_credential_anywhere_else(tenant: Tenant, signed_in: Browser) -> None:
    text = signed_in.cookie.partition("=")[2]
    digest = hashlib.sha256(text.encode()).hexdigest()
    for credential in (text, digest, f"session#{digest}", signed_in.cookie):
        for path in ("/api/storage", "/storage/buckets", "/keys/list"):
            for headers in ({"authorization": f"Bearer {credential}"}, {"apikey": credential}):
                assert tenant.nobody("GET", path, headers=headers).status == 401


# ---- ending --------------------------------------------------------------------------------------------
def test_a_session_is_ended(signed_in: Browser, ada: Client) -> None:
    stored(ada, "a.txt")
    answer = signed_in("DELETE", "/auth/session")
    assert (answer.status, answer.json()) == (200, {})
    name, value, attributes = set_cookie(answer)
    assert (name, value, attributes["max-age"], attributes["path"]) == (COOKIE, "", "0", "/")
    assert "httponly" in attributes
    refused_to_all(signed_in("GET", "/api/storage"))
    refused_to_all(signed_in("GET", "/api/storage/a.txt"))
    refused_to_all(signed_in("PUT", "/api/storage/a.txt", b"other", TEXT))
    assert get(ada, "a.txt").body == b"bytes"


def test_ending_a_session_again_is_no_error(tenant: Tenant, signed_in: Browser) -> None:
    for _ in range(2):
        assert signed_in("DELETE", "/auth/session").status == 200
    for cookie in ("", "other=1", f"{COOKIE}=", f"{COOKIE}=made-up"):
        answer = Browser(tenant.nobody, cookie)("DELETE", "/auth/session")
        assert (answer.status, set_cookie(answer)[1]) == (200, "")
    assert tenant.nobody("DELETE", "/auth/session").status == 200


def test_ending_a_session_leaves_others(tenant: Tenant, ada: Client, signed_in: Browser) -> None:
    again, of_bob = browser(tenant, sub="ada"), browser(tenant, sub="bob")
    assert signed_in("DELETE", "/auth/session").status == 200
    refused_to_all(signed_in("GET", "/api/storage"))
    assert [ask("GET", "/api/storage").status for ask in (again, of_bob, ada)] == [200, 200, 200]


def test_a_session_that_another_process_has_ended_ends_within_a_minute(signed_in: Browser, clock: Clock) -> None:
    assert signed_in("GET", "/api/storage").status == 200
    digest = credentials.session_hash(signed_in.cookie.partition("=")[2])
    remembered = Session.read(digest)
    assert remembered is not None
    assert signed_in("DELETE", "/auth/session").status == 200
    credentials._sessions.keep(digest, remembered)
    clock.advance(61)
    refused_to_all(signed_in("GET", "/api/storage"))


def test_a_session_is_known_to_every_process_at_once(signed_in: Browser) -> None:
    forget_everything()
    assert signed_in("GET", "/api/storage").status == 200
    assert signed_in("DELETE", "/auth/session").status == 200
    forget_everything()
    refused_to_all(signed_in("GET", "/api/storage"))


def test_a_session_ends_with_its_token(tenant: Tenant, clock: Clock) -> None:
    ask = browser(tenant, exp=int(seam.timestamp()) + 300)
    clock.advance(295)
    assert ask("GET", "/api/storage").status == 200
    clock.advance(6)
    refused_to_all(ask("GET", "/api/storage"))
    forget_everything()
    refused_to_all(ask("GET", "/api/storage"))


def test_a_token_that_has_just_expired_begins_no_session(tenant: Tenant) -> None:
    """It is still taken elsewhere, for clocks differ by seconds."""
    user = tenant.user(exp=int(seam.timestamp()) - 30)
    assert user("GET", "/api/storage").status == 200
    answer = user("POST", "/auth/session")
    assert (answer.status, "set-cookie" in answer.headers) == (401, False)


def test_a_session_ends_with_its_tenant(tenant: Tenant, new_tenant: Any, clock: Clock, signed_in: Browser) -> None:
    other = browser(new_tenant())
    assert signed_in("GET", "/api/storage").status == 200
    admin = tenant.nobody.using(tenants.create_admin_key())
    assert admin("DELETE", f"/admin/tenants/{tenant.tenant_id}").status == 200
    clock.advance(61)
    refused_to_all(signed_in("GET", "/api/storage"))
    refused_to_all(signed_in("PUT", "/api/storage/a.txt", b"bytes", TEXT))
    assert other("GET", "/api/storage").status == 200


# ---- cookies that are none -----------------------------------------------------------------------------
def odd_cookies() -> dict[str, Callable[[str], Any]]:
    """Cookie headers, made of the text of one that is valid, by which nobody is known."""
    return {
        "made up": lambda text: f"{COOKIE}=made-up",
        "empty": lambda text: f"{COOKIE}=",
        "no value": lambda text: COOKIE,
        "quoted": lambda text: f'{COOKIE}="{text}"',
        "longer": lambda text: f"{COOKIE}={text}A",
        "shorter": lambda text: f"{COOKIE}={text[:-1]}",
        "other case": lambda text: f"{COOKIE}={text.swapcase()}",
        "its hash": lambda text: f"{COOKIE}={hashlib.sha256(text.encode()).hexdigest()}",
        "its row": lambda text: f"{COOKIE}=session#{hashlib.sha256(text.encode()).hexdigest()}",
        "another name": lambda text: f"x{COOKIE}={text}",
        "another case": lambda text: f"{COOKIE.upper()}={text}",
        "a comma": lambda text: f"other=1, {COOKIE}={text}",
        "encoded": lambda text: f"{COOKIE}=%{ord(text[0]):02x}{text[1:]}",
        "long": lambda text: f"{COOKIE}={'x' * 257}",
        "very long": lambda text: f"{COOKIE}={text * 200}",
        "of another script": lambda text: f"{COOKIE}=é{text}☕",
        "no text": lambda text: f"{COOKIE}=\udcff",
        "only signs": lambda text: ";;=;==;",
        "two, the first made up": lambda text: f"{COOKIE}=made-up; {COOKIE}={text}",
    }


@pytest.mark.parametrize("name", odd_cookies())
def test_a_cookie_that_is_none_is_refused(tenant: Tenant, ada: Client, signed_in: Browser, name: str) -> None:
    stored(ada, "a.txt")
    ask = Browser(tenant.nobody, odd_cookies()[name](signed_in.cookie.partition("=")[2]))
    refused_to_all(ask("GET", "/api/storage"))
    refused_to_all(ask("DELETE", "/api/storage/a.txt"))
    assert ask("POST", "/api/uploads", headers=TUS | {"upload-length": "1", "upload-metadata": encoded(key="o")}).status == 401
    if not name.startswith("two"):
        assert ask("DELETE", "/auth/session").status == 200
    assert listed_by(signed_in) == ["a.txt"]


@pytest.mark.parametrize("credential", ["token", "service_key"])
def test_a_credential_in_the_cookie_is_none(tenant: Tenant, credential: str) -> None:
    text = tenant.token() if credential == "token" else tenant.service_key
    refused_to_all(Browser(tenant.nobody, f"{COOKIE}={text}")("GET", "/api/storage"))


@pytest.mark.parametrize(
    "around", ["{}", "other=1; {}", "{}; other=1", "a=b;{};c=d", "other; {}", "=; {}", 'quoted="a; b"; {}', " {} ", "{0}; {0}"], ids=ascii
)
def test_a_cookie_is_found_among_others(tenant: Tenant, signed_in: Browser, around: str) -> None:
    assert Browser(tenant.nobody, around.format(signed_in.cookie))("GET", "/api/storage").status == 200


def test_cookies_that_contradict_each_other_are_refused(tenant: Tenant, signed_in: Browser) -> None:
    contradiction: Any = [signed_in.cookie, f"{COOKIE}=made-up"]
    for cookies in (contradiction, contradiction[::-1]):
        for method, path in (("GET", "/api/storage"), ("PUT", "/api/storage/a.txt")):
            refused_to_all(Browser(tenant.nobody, cookies)(method, path))
    assert listed_by(signed_in) == []


def test_a_made_up_cookie_hides_no_default_tenant_of_nobodys(tenant: Tenant, choose: Choose) -> None:
    """A credential that is wrong is never taken for none."""
    choose("STOWAGE_DEFAULT_TENANT", tenant.tenant_id)
    allow(tenant.service, "SELECT")
    assert tenant.nobody("GET", "/api/storage").status == 200
    refused_to_all(Browser(tenant.nobody, f"{COOKIE}=made-up")("GET", "/api/storage"))


# ---- what is kept --------------------------------------------------------------------------------------
def test_the_text_of_a_cookie_is_kept_nowhere(embedded: stack.EmbeddedAWS, tenant: Tenant, signed_in: Browser) -> None:
    assert signed_in("PUT", "/api/storage/a.txt", b"bytes", TEXT).status == 201
    assert signed_in("POST", "/api/uploads", headers=TUS | {"upload-length": "1", "upload-metadata": encoded(key="o")}).status == 201
    text = signed_in.cookie.partition("=")[2]
    dynamodb = embedded.client("dynamodb")
    rows = [
        str(item)
        for table in dynamodb.list_tables()["TableNames"]
        for page in dynamodb.get_paginator("scan").paginate(TableName=table)
        for item in page["Items"]
    ]
    assert any(hashlib.sha256(text.encode()).hexdigest() in row for row in rows)
    assert not any(text in row for row in rows)


def test_sessions_are_no_keys(tenant: Tenant) -> None:
    admin = tenant.nobody.using(tenants.create_admin_key())
    before = admin("GET", f"/admin/tenants/{tenant.tenant_id}/keys").json()
    ask = browser(tenant, sub="ada")
    assert ask("GET", "/api/storage").status == 200
    assert admin("GET", f"/admin/tenants/{tenant.tenant_id}/keys").json() == before
    assert len(before) == 2
    digest = credentials.session_hash(ask.cookie.partition("=")[2])
    assert admin("DELETE", f"/admin/tenants/{tenant.tenant_id}/keys/{digest.replace('#', '%23')}").status == 404
    assert ask("GET", "/api/storage").status == 200


def test_a_file_that_a_cookie_stores_is_its_users(tenant: Tenant, ada: Client, signed_in: Browser) -> None:
    assert signed_in("PUT", "/api/storage/a.txt", b"bytes", TEXT).json()["data"]["ownerId"] == stored(ada, "b.txt")["ownerId"]
    assert sorted(keys(ada)) == ["a.txt", "b.txt"]
    assert keys(tenant.user(sub="bob")) == []


@pytest.mark.parametrize("other", ["x", ""])
def test_a_session_is_ended_also_beside_a_cookie_of_another_site(tenant: Tenant, ada: Client, signed_in: Browser, other: str) -> None:
    """A site of the same domain may have set one of the name; signing out must not depend on it."""
    both = f"{COOKIE}={other}; {signed_in.cookie}"
    answer = tenant.nobody("DELETE", "/auth/session", headers={"cookie": both, "origin": ORIGIN})
    assert (answer.status, set_cookie(answer)[2]["max-age"]) == (200, "0")
    refused_to_all(signed_in("GET", "/api/storage"))
