"""No secret of a storage, a tenant, a session or the platform is found anywhere but where it was given, and sealed in its row.

Every route that a tenant can call is driven over storages that work, that know other credentials, that are not there and that say
back what they are told; then the workers. What is looked through: answers with their headers, errors, log lines at level DEBUG of ours
and of the libraries, standard output, events, and every row of every table. The id of an access key is public in presigned URLs.
"""

import base64
import json
import logging
import re
import socketserver
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from chalicelib import aws, observability, workers
from chalicelib.access.cache import forget_everything
from chalicelib.access.credentials import COOKIE
from chalicelib.core import events
from chalicelib.providers import sftp
from chalicelib.surfaces import dispatch, tus
from chalicelib.surfaces.files.routes import SURFACE as FILES
from chalicelib.surfaces.files.tus_routes import TUS_SURFACE as FILES_TUS
from chalicelib.surfaces.mounted import SURFACES
from chalicelib.surfaces.routes import Route
from chalicelib.surfaces.storage.upload_routes import TUS_SURFACE
from chalicelib.tables.deltas import Delta
from chalicelib.tables.jobs import Job
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.storages import Storage
from chalicelib.tables.table import scan
from tests.client import Answer, Client
from tests.conftest import MASTER_KEY, Context, Tenant, run_job
from tests.images.pictures import gradient, saved
from tests.issuer import Web
from tests.servers.hostile import closed_port
from tests.storages.conftest import Fields, Servers
from tests.storages.scripted_s3 import Asked, Said, error, scripted_s3

CONFIGS = "/api/v1/backups/storage-configs"
ACCESS_KEY = "AKIDRECOGNISABLE0001"
SECRET_KEY = "reco/gnisable+secret=key0123456789abcdef"
PASSWORD = "reco: gnisable/p@ss w%rd+é"
PASSPHRASE = "reco gnisable passphrase"
AUTH_SECRET = "reco/gnisable+auth secret of URLs of files"
LIBRARIES = ("botocore", "urllib3", "paramiko", "azure", "requests", "msrest", "asyncio", "concurrent")
PRESIGNED = re.compile(r"X-Amz-Credential=[^&\"\\ ]+")
PRIVATE_KEY = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    .decode()
)


def forms(secret: str) -> set[str]:
    """A secret as it might be written: as it is, quoted, in JSON, in hexadecimal, in base64 wherever it begins."""
    raw = secret.encode()
    encoded = {raw.hex(), raw.hex().upper(), repr(secret)[1:-1], repr(raw)[2:-1], json.dumps(secret)[1:-1]}
    for quoted in (quote(secret), quote(secret, safe=""), quote_plus(secret), quote(quote(secret, safe=""), safe="")):
        encoded |= {quoted, quoted.lower()}
    for skipped in range(3):
        # what no neighbouring byte has a part in
        whole = base64.b64encode(b"x" * skipped + raw).decode().rstrip("=")[(0, 2, 3)[skipped] : -2]
        encoded |= {whole, whole.replace("+", "-").replace("/", "_")}
    return {secret, *encoded}


@dataclass
class Watched:
    """Everything that was said, by where."""

    secrets: dict[str, str]
    elsewhere: str = ""
    answers: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    statuses: dict[str, set[int]] = field(default_factory=dict)

    def look(self, where: str, texts: list[str], leave_out: tuple[str, ...] = ()) -> None:
        """Fail for a secret that is found in one of the texts."""
        wanted = {form: name for name, secret in self.secrets.items() if name not in leave_out for form in forms(secret)}
        found = re.compile("|".join(re.escape(form) for form in sorted(wanted, key=len, reverse=True)))
        for text in texts:
            match = found.search(PRESIGNED.sub("", text))
            if match is not None:
                around = text[max(0, match.start() - 200) : match.end() + 100]
                raise AssertionError(f"{wanted[match[0]]} is found in {where}: …{around}…")


class Lines(logging.Handler):
    """Keeps log lines with all that belongs to them."""

    def __init__(self, watched: Watched) -> None:
        super().__init__(logging.DEBUG)
        self._watched = watched

    def emit(self, record: logging.LogRecord) -> None:
        told = {name: value for name, value in record.__dict__.items() if name not in ("exc_info", "args")}
        text = f"{record.getMessage()} {told}"
        if record.exc_info:
            text += "".join(traceback.format_exception(*record.exc_info))
        (self._watched.theirs if record.name.split(".")[0] in LIBRARIES else self._watched.ours).append(text)


class Listening(Client):
    """A client whose answers are kept. A cookie is told where it is set, and nowhere else."""

    watched: Watched

    def using(self, credential: str) -> "Listening":
        made = Listening(self._app, credential)
        made.watched = self.watched
        return made

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, Any] | None = None) -> Answer:
        answer = super().__call__(method, path, body, headers)
        told = {name: value for name, value in answer.headers.items() if name != "set-cookie"}
        self.watched.answers.append(f"{method} {path}: {answer.status} {told} {answer.body.decode('utf-8', 'replace')}")
        cookie = answer.headers.get("set-cookie", "").partition(";")[0].partition("=")[2]
        if cookie:
            self.watched.secrets[f"the cookie of session {len(self.watched.secrets)}"] = cookie
        return answer


@pytest.fixture
def tenant_of(every_kind: None, new_tenant: Any) -> Tenant:
    made: Tenant = new_tenant()
    return made


@pytest.fixture
def watched(
    tenant_of: Tenant,
    servers: Servers,
    image_function: Any,
    monkeypatch: pytest.MonkeyPatch,
    settings_again: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Watched]:
    """Keeps what is said; after the test it must not have held a secret. `elsewhere` is a URL that files are fetched from."""
    monkeypatch.setenv("STOWAGE_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("STOWAGE_AUTH_SECRET", AUTH_SECRET)
    monkeypatch.setenv("STOWAGE_PUBLIC_BASE_URL", "https://pictures.example")
    settings_again()
    web = Web()
    web.body = b"fetched"
    strict, ftp = servers.fields("strict_s3"), servers.fields("ftp")
    key_lines = "".join(PRIVATE_KEY.strip().splitlines()[1:-1])
    made = Watched(
        {
            "the access key": ACCESS_KEY,
            "the secret key": SECRET_KEY,
            "the password": PASSWORD,
            "the passphrase": PASSPHRASE,
            "the private key": key_lines[len(key_lines) // 2 :][:60],
            "the strict server's access key": strict["access_key"],
            "the strict server's secret key": strict["secret_key"],
            "the servers' password": ftp["secret_key"],
            "the master key": MASTER_KEY,
            "the secret of files' URLs": AUTH_SECRET,
            "the JWT secret": tenant_of.jwt_secret,
            "the service key": tenant_of.service_key,
        },
        web.url,
    )
    observability.logger.cache_clear()
    handler, root, ours = Lines(made), logging.getLogger(), observability.logger()
    levels = {name: logging.getLogger(name).level for name in (*LIBRARIES, ours.name, "")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(handler)
    logging.getLogger(ours.name).addHandler(handler)
    entry, answered = events._entry, dispatch._error_answer

    def told_on_the_bus(event: Any, bus: str) -> Any:
        made.events.append(json.dumps([event.kind, event.detail]))
        return entry(event, bus)

    def told_by_an_error(surface: Any, request: Any, error_: Any) -> Any:
        made.errors.append(f"{error_} {error_.message} {error_.details} {error_.headers}")
        return answered(surface, request, error_)

    monkeypatch.setattr(events, "_entry", told_on_the_bus)
    monkeypatch.setattr(dispatch, "_error_answer", told_by_an_error)
    yield made
    web.stop()
    root.removeHandler(handler)
    logging.getLogger(ours.name).removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    observability.logger.cache_clear()
    written = capfd.readouterr()
    assert made.ours, "nothing was logged: what is not said holds no secret"
    made.look("a request to a URL", [str(headers) for headers in web.sent])
    made.look("an answer", made.answers)
    made.look("an error", made.errors)
    made.look("an event", made.events)
    made.look("our log", made.ours)
    made.look("standard output", [written.out, written.err])
    made.look("a row", rows())


def rows() -> list[str]:
    """Every row of every table."""
    client = aws.client("dynamodb")
    names = client._make_api_call("ListTables", {})["TableNames"]
    found: list[str] = []
    for name in names:
        page: dict[str, Any] = {}
        while True:
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]} if page.get("LastEvaluatedKey") else {}
            page = client._make_api_call("Scan", {"TableName": name, **start})
            found += [repr(item) for item in page["Items"]]
            if not page.get("LastEvaluatedKey"):
                break
    assert found
    return found


def libraries_are_silent(watched: Watched) -> None:
    """Apart from what is signed with, which S3's protocol sends in the open."""
    watched.look("a library's log", watched.theirs, leave_out=("the access key", "the strict server's access key"))


@pytest.fixture
def service(tenant_of: Tenant, watched: Watched) -> Listening:
    client = Listening(tenant_of.service._app, tenant_of.service_key)
    client.watched = watched
    return client


# ---- every route -----------------------------------------------------------------------------------------------
ROUTES = [route for surface in SURFACES for route in surface.routes if route.needs_tenant and not route.path.startswith("/admin")]
TUS = (*TUS_SURFACE.routes, *FILES_TUS.routes)
BY_COOKIE = [route for surface in SURFACES if surface.takes_cookie for route in surface.routes]
NO_UPLOAD = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NO_CLAIM = "00000000-0000-4000-8000-00000000abcd"


def bodies(bucket: str, storage_id: str, fields: Fields, vault_ids: dict[str, str], url: str) -> dict[str, Any]:
    """What a route's model is given, by the model's name; each named route has one here, or takes none."""
    vault = {"name": "n", "provider": "s3", "bucket_name": "my-bucket", "region": "us-east-1", "access_key_id": ACCESS_KEY,
             "secret_access_key": SECRET_KEY, "remote_path": "x"}  # fmt: skip
    path = {"bucket": bucket, "path": "known"}
    return {
        "CreateBucket": {"name": "new", "storage_id": storage_id},
        "ChangeBucket": {"visibility": "private"},
        "ChangeObject": {"user_metadata": {"a": "b"}},
        "DeleteObjects": {"paths": ["none"]},
        "MoveObject": {"bucket": bucket, "from": "known", "to": "moved"},
        "CreatePolicy": {"bucket": bucket, "name": "p", "operation": "SELECT", "definition": "true"},
        "ExplainPolicy": {"bucket": bucket, "operation": "SELECT", "path": "known", "claims": {}},
        "CreateResumable": path | {"size": 3},
        "CreateDirect": path | {"size": 3, "upsert": True},
        "CreateVaultStorage": vault,
        "EditVaultStorage": {"storage_uuid": storage_id, "name": "renamed", "secret_access_key": SECRET_KEY},
        "DeleteVaultStorage": {"storage_uuid": storage_id},
        "CreateStorageConfig": fields,
        "ChangeStorageConfig": {"name": "renamed", "secret_key": fields.get("secret_key", "")},
        "CreateVaultKey": {"name": "n", "storage_uuid": storage_id},
        "EditVaultKey": {"key_uuid": vault_ids["key_uuid"], "name": "renamed", "storage_uuid": storage_id},
        "MigrateVaultKey": {"key_uuid": vault_ids["key_uuid"], "storage_uuid": storage_id},
        "UploadDelta": {"key_uuid": vault_ids["key_uuid"], "size_bytes": 3, "content_md5": base64.b64encode(bytes(16)).decode()},
        "ClaimSection": {"delta_uuid": vault_ids["delta_uuid"], "start": 0, "length": 1},
        **dict.fromkeys(("DeleteVaultKey", "ConfirmDelta", "DeleteDelta", "ReleaseSection"), vault_ids),
        "CreateToken": {"sub": "someone"},
        "SignedUrls": {"bucket": bucket, "paths": ["known"]},
        "CreateSignedUrls": {"bucket": bucket, "paths": ["known", "none"]},
        "ChangeFile": {"acl": "public", "metadata": {"a": "b"}},
        "SignFile": {"ttlSeconds": 60},
        "ImportFile": {"url": url, "key": "fetched"},
        "CreateFolder": {"name": "new"},
        "ChangeFolder": {"name": "renamed"},
        "": path,
    }


def request_of(route: Route, ids: dict[str, str], given: dict[str, Any]) -> tuple[str, str, Any, dict[str, str]]:
    path = route.path
    for name, value in ids.items():
        path = path.replace("{" + name + "}", value)
    if route.path.startswith("/storages/"):
        path += f"?storage_uuid={ids['config_id']}"
    if route.path.startswith(("/keys/", "/deltas/")):
        path += f"?key_uuid={ids['key_uuid']}&delta_uuid={ids['delta_uuid']}"
    if (route.method, route.path) == ("POST", "/api/storage/{key+}"):
        path += "/sign"
    if route.path == "/api/public/{tenant_id}/{key+}":
        path += "?width=5"
    model = (route.body or "").partition(":")[2]
    headers = {"tus-resumable": tus.VERSION, "upload-offset": "0", "content-type": tus.CHUNK} if route in TUS else {}
    if route in TUS and route.method == "POST":
        names = {"key": "by-tus"} if route in FILES_TUS.routes else {"bucket": ids["bucket"], "filename": "by-tus"}
        encoded = {name: base64.b64encode(value.encode()).decode() for name, value in names.items()}
        headers |= {"upload-metadata": ",".join(f"{name} {value}" for name, value in encoded.items()), "x-http-method-override": "HEAD"}
        headers |= {} if "{upload_id}" in route.path else {"upload-length": "3"}
    body = given.get(model, given[""]) if model else b"abc" if route.raw_body else None
    return route.method, path, body, headers


def drive(service: Client, fields: Fields, watched: Watched) -> str:
    """Ask every route for something of a storage with these fields; gives its id. Nothing else is asserted here."""
    made = service("POST", CONFIGS, fields)
    assert made.status == 201, made.body
    storage_id: str = made.json()["id"]
    service("POST", f"{CONFIGS}/test-connection", fields)
    service("POST", f"{CONFIGS}/{storage_id}/test")
    bucket = f"of-{storage_id[:8]}"
    on_it = service("POST", "/storage/buckets", {"name": bucket, "storage_id": storage_id}).status == 201
    if not on_it:  # so that its bytes are wanted all the same
        row = Storage.read(_tenant_of(made), storage_id)
        assert row is not None
        row.change([Storage.probe.set({})], Storage.storage_id.exists())
        service("POST", "/storage/buckets", {"name": bucket, "storage_id": storage_id})
    service.put(bucket, "known", b"known bytes", "text/plain")
    upload = service("POST", "/storage/upload/resumable", {"bucket": bucket, "path": "up", "size": 3}).json().get("upload_id", NO_UPLOAD)
    signed = service("POST", "/storage/signed-url", {"bucket": bucket, "path": "known"}).json().get("signed_url", "x/t")
    ids = {"bucket": bucket, "path+": "known", "tenant_id": _tenant_of(made), "job_id": NO_UPLOAD, "config_id": storage_id,
    "policy_id": "p",
           "upload_id": upload, "token": signed.rpartition("/")[2], "key_id": "k"}  # fmt: skip
    vault_ids = vault_on(service, ids["tenant_id"], storage_id)
    ids |= vault_ids
    visitor = Visitor(service)
    file_ids = ids | files_of(visitor)
    given = bodies(bucket, storage_id, fields, vault_ids, watched.elsewhere)
    # What removes goes last, and the bucket's own removal after all objects, the key's after all deltas.
    for route in sorted(ROUTES, key=lambda route: (_removes(route), route.path == "/keys/delete", route.path.count("/") < 4)):
        method, path, body, headers = request_of(route, file_ids if route in BY_COOKIE else ids, given)
        assert "{" not in path, f"say here what stands for the variables of {route.path}"
        statuses = watched.statuses.setdefault(f"{method} {route.path}", set())
        statuses.add(service(method, path, body, headers).status)
        if route in BY_COOKIE or path == "/auth/session":
            statuses.add(visitor(method, path, body, headers).status)
    return storage_id


class Visitor:
    """A user whose browser has a session's cookie: asks with that, and with the token where a session is begun."""

    def __init__(self, service: Client) -> None:
        self._by_token = service.using(service("POST", "/auth/token", {"sub": "someone"}).json()["token"])
        self._by_cookie = service.using("")
        cookie = self._by_token("POST", "/auth/session").headers["set-cookie"].partition(";")[0]
        self._sent = {"cookie": cookie, "origin": "http://api.test"}
        assert cookie.startswith(f"{COOKIE}=")

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        if (method, path) == ("POST", "/auth/session"):
            return self._by_token(method, path)
        return self._by_cookie(method, path, body, {**(headers or {}), **self._sent})


def files_of(visitor: Visitor) -> dict[str, str]:
    """A picture for all to see, a folder and an upload of the visitor's, and what a signed URL of the picture gives."""
    picture = {"content-type": "image/png"}
    assert visitor("PUT", "/api/storage/known?acl=public", saved(gradient(20, 20), "PNG"), picture).status == 201
    folder = visitor("POST", "/api/folders", {"name": "of the visitor"}).json()["data"]["id"]
    beginning = {"tus-resumable": tus.VERSION, "upload-length": "6", "upload-metadata": "key dXA="}
    upload = visitor("POST", "/api/uploads", headers=beginning).headers["location"].rpartition("/")[2]
    signed = visitor("POST", "/api/storage/_sign/known", {}).json()["path"]
    assert visitor("GET", signed).status == 200
    return {"key+": "known", "folder_id": folder, "upload_id": upload}


def _removes(route: Route) -> bool:
    return route.method == "DELETE" or route.path.endswith("/delete")


def vault_on(service: Client, tenant_id: str, storage_id: str) -> dict[str, str]:
    """A key on a storage, also on one that no key may be made on, with a delta that says to be stored there."""
    made = service("POST", "/keys/create", {"name": "k", "storage_uuid": storage_id})
    key_uuid = (made if made.status == 201 else service("POST", "/keys/create", {"name": "k"})).json()["key_uuid"]
    wanted = {"key_uuid": key_uuid, "size_bytes": 3, "content_md5": base64.b64encode(bytes(16)).decode()}
    begun = service("POST", "/deltas/upload", wanted)
    VaultKey(tenant_id, key_uuid).change([VaultKey.storage_id.set(storage_id)], VaultKey.key_uuid.exists())
    if begun.status != 201:  # the storage hands out no URLs, or does not answer: as if it had when the delta came
        VaultKey(tenant_id, key_uuid).change([VaultKey.storage_id.remove()], VaultKey.key_uuid.exists())
        begun = service("POST", "/deltas/upload", wanted)
        VaultKey(tenant_id, key_uuid).change([VaultKey.storage_id.set(storage_id)], VaultKey.key_uuid.exists())
    ids: dict[str, str] = {name: begun.json()[name] for name in ("delta_uuid", "upload_attempt_uuid")}
    attempt = {"attempt": ids["upload_attempt_uuid"], "size": 3, "md5": wanted["content_md5"], "storage_id": storage_id, "expires_at": 0}
    row = Delta(key_uuid, ids["delta_uuid"])
    settled = {"status": "stored", "size_bytes": 3, "content_md5": wanted["content_md5"], "attempts": [attempt]}
    row.change(Delta.setting(settled), Delta.delta_uuid.exists())
    return ids | {"key_uuid": key_uuid, "claim_id": NO_CLAIM}


def _tenant_of(made: Answer) -> str:
    return str(made.json()["organization_id"])


def run_workers(tenant_id: str) -> None:
    """What happens afterwards, and once more where nothing answers."""
    for page in scan(Job):
        for item in page:
            job = Job.from_raw_data(item)
            if job.status in ("queued", "running", "pending"):
                run_job(job.job_id)
    for page in scan(StoredObject):
        for item in page:
            if not item["partition"]["S"].startswith(tenant_id):
                continue
            stream = {"Keys": {"partition": item["partition"]}, "OldImage": item, "SequenceNumber": "1", "ApproximateCreationDateTime": 1.0}
            workers.object_rows({"Records": [{"eventName": "REMOVE", "dynamodb": stream}]}, Context())
    for row in _storages(tenant_id):
        row.change([Storage.failures.set(9), Storage.probed_at.set("2020-01-01T00:00:00.000000Z")], Storage.storage_id.exists())
    forget_everything()
    workers.hourly({}, Context())


def _storages(tenant_id: str) -> list[Storage]:
    pages = Storage.pages_of(tenant_id)
    return [Storage.from_raw_data(item) for page in pages for item in page if "#" not in item["storage_id"]["S"]]


def every_route_was_asked(watched: Watched) -> None:
    assert len(watched.statuses) == len({(route.method, route.path) for route in ROUTES})


# ---- the tests -------------------------------------------------------------------------------------------------
def test_forms_are_found() -> None:
    watched = Watched({"it": SECRET_KEY})
    raw = SECRET_KEY.encode()
    written = [
        f"a {SECRET_KEY} b", raw.hex(), base64.b64encode(raw).decode(), base64.b64encode(b"user:" + raw).decode(), quote(SECRET_KEY,
        safe=""),
        base64.urlsafe_b64encode(b"ab" + raw + b"cd").decode(), json.dumps({"a": SECRET_KEY}), repr({"a": raw}),
    ]  # fmt: skip
    for text in written:
        with pytest.raises(AssertionError, match="it is found in x"):
            watched.look("x", [text])
    watched.look("x", [SECRET_KEY[:-4], "https://a/?X-Amz-Credential=AKID%2F2026"])


@pytest.mark.parametrize("kind", ["strict_s3", "sftp", "ftp", "filesystem"])
def test_a_storage_that_works_gives_none_away(
    service: Listening, tenant_of: Tenant, servers: Servers, watched: Watched, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    drive(service, servers.fields(kind), watched)
    run_workers(tenant_of.tenant_id)
    every_route_was_asked(watched)
    assert 200 in watched.statuses["GET /storage/object/{bucket}/{path+}"], "the storage was not used"
    of_files = {f"{route.method} {route.path}" for route in (*FILES.routes, *FILES_TUS.routes)}
    assert not {route: statuses for route, statuses in watched.statuses.items() if route in of_files and min(statuses) >= 400}
    assert not any(status >= 500 for statuses in watched.statuses.values() for status in statuses), watched.statuses
    libraries_are_silent(watched)


@pytest.mark.parametrize("kind", ["strict_s3", "sftp", "ftp"])
def test_wrong_credentials_are_given_away_by_nobody(
    service: Listening, tenant_of: Tenant, servers: Servers, watched: Watched, kind: str
) -> None:
    keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY} if kind == "strict_s3" else {"secret_key": PASSWORD}
    drive(service, servers.fields(kind) | keys, watched)
    run_workers(tenant_of.tenant_id)
    every_route_was_asked(watched)
    libraries_are_silent(watched)
    assert watched.events, "a storage that fails is told of"


@pytest.mark.parametrize("kind", ["s3_compatible", "sftp", "ftp", "key"])
def test_a_storage_that_is_not_there_gives_none_away(service: Listening, tenant_of: Tenant, watched: Watched, kind: str) -> None:
    with closed_port() as port:
        fields: Fields = {"name": "n", "provider": "sftp" if kind == "key" else kind, "bucket": "my-bucket", "access_key": ACCESS_KEY,
                          "secret_key": SECRET_KEY}  # fmt: skip
        fields |= {"endpoint_url": f"http://127.0.0.1:{port}"} if kind == "s3_compatible" else {"host": "127.0.0.1", "port": port}
        if kind == "key":
            fields |= {"private_key": PRIVATE_KEY, "secret_key": PASSPHRASE}
        drive(service, fields, watched)
        run_workers(tenant_of.tenant_id)
    every_route_was_asked(watched)
    libraries_are_silent(watched)


ECHOES: dict[str, Callable[[Asked], Said]] = {
    "in the message": lambda _: Said(403, error("AccessDenied", f"{ACCESS_KEY} {SECRET_KEY}")),
    "as the code": lambda _: Said(400, error(SECRET_KEY, SECRET_KEY)),
    "as the region": lambda _: Said(400, error("AuthorizationHeaderMalformed", f"expecting '{SECRET_KEY}'", Region=SECRET_KEY)),
    "in headers": lambda _: Said(403, error("AccessDenied"), {"x-amz-request-id": SECRET_KEY, "x-amz-bucket-region": SECRET_KEY,
    "Server": SECRET_KEY}),
    "in a redirect": lambda _: Said(307, b"", {"Location": f"http://127.0.0.1:1/{quote(SECRET_KEY)}"}),
    "as what is no answer": lambda _: Said(200, f"<{SECRET_KEY}".encode()),
    "as a server's error": lambda _: Said(500, error("InternalError", SECRET_KEY)),
}  # fmt: skip


@pytest.mark.parametrize("echo", ECHOES)
def test_a_storage_that_says_back_what_it_knows_is_not_repeated(service: Listening, tenant_of: Tenant, watched: Watched, echo: str) -> None:
    with scripted_s3() as server:
        fields: Fields = {"name": "n", "provider": "s3_compatible", "bucket": "my-bucket", "endpoint_url": server.endpoint,
                          "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}  # fmt: skip
        server.say["*"] = ECHOES[echo]
        drive(service, fields, watched)
        run_workers(tenant_of.tenant_id)
    every_route_was_asked(watched)


@pytest.mark.parametrize("operation", ["PUT", "GET", "HEAD", "DELETE", "CREATE_MULTIPART"])
def test_a_storage_that_says_it_back_at_one_step_is_not_repeated(
    service: Listening, tenant_of: Tenant, watched: Watched, operation: str
) -> None:
    with scripted_s3() as server:
        fields: Fields = {"name": "n", "provider": "s3_compatible", "bucket": "my-bucket", "endpoint_url": server.endpoint,
                          "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}  # fmt: skip
        server.say[operation] = ECHOES["in the message"]
        if operation == "DELETE":
            server.say["DELETE"] = lambda asked: Said(
                200,
                b"".join(
                    [
                        b"<DeleteResult><Error><Key>",
                        re.findall(rb"<Key>(.*?)</Key>", asked.body)[0],
                        f"</Key><Code>AccessDenied</Code><Message>{SECRET_KEY}</Message></Error></DeleteResult>".encode(),
                    ]
                ),
            )
        drive(service, fields, watched)
        run_workers(tenant_of.tenant_id)
    every_route_was_asked(watched)


def test_a_storage_that_says_it_back_as_the_code_of_a_denied_delete_is_not_repeated(service: Listening, watched: Watched) -> None:
    with scripted_s3() as server:
        fields: Fields = {"name": "n", "provider": "s3_compatible", "bucket": "my-bucket", "endpoint_url": server.endpoint,
                          "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}  # fmt: skip

        def denied(asked: Asked) -> Said:
            key = re.findall(r"<Key>(.*?)</Key>", asked.body.decode())[0]
            return Said(200, f"<DeleteResult><Error><Key>{key}</Key><Code>{SECRET_KEY}</Code></Error></DeleteResult>".encode())

        server.say["DELETE"] = denied
        answer = service("POST", f"{CONFIGS}/test-connection", fields)
    watched.answers.clear()
    assert SECRET_KEY not in answer.body.decode()


@contextmanager
def parrot(greeting: str) -> Iterator[int]:
    """An FTP server that repeats every command, password and all, in a refusal."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(f"220 {greeting}\r\n".encode())
            for line in self.rfile:
                command = line.strip()
                code = b"331" if command.upper().startswith(b"USER") else b"530"
                self.wfile.write(code + b" no " + command + b" " + PASSWORD.encode() + b"\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("provider", ["ftp", "sftp"])
def test_a_server_that_repeats_the_password_is_not_repeated(
    service: Listening, tenant_of: Tenant, watched: Watched, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """To SFTP it is a server of another protocol, for whose greeting each route waits."""
    monkeypatch.setattr(sftp, "READ_TIMEOUT", 0.5)
    with parrot(f"hello {PASSWORD}") as port:
        fields: Fields = {"name": "n", "provider": provider, "bucket": ".", "host": "127.0.0.1", "port": port, "access_key": "someone",
                          "secret_key": PASSWORD}  # fmt: skip
        if provider == "ftp":
            fields |= {"tls": "none"}
        drive(service, fields, watched)
        run_workers(tenant_of.tenant_id)
    every_route_was_asked(watched)


def test_what_is_refused_is_not_repeated(service: Listening, watched: Watched) -> None:
    """Also where a secret stands where something else belongs."""
    secrets = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY + "\n"}
    base: Fields = {"name": "n", "provider": "aws_s3", "bucket": "my-bucket", "region": "us-east-1", **secrets}
    sent = [
        base, base | {"secret_key": SECRET_KEY, "private_key": PRIVATE_KEY}, base | {"provider": "sftp", "host": "a.example",
        "private_key": PRIVATE_KEY[:-40]},
        base | {"secret_key": [SECRET_KEY]}, base | {"secret_key": {"a": SECRET_KEY}}, base | {"secret_key": SECRET_KEY * 20},
        base | {"access_key": None, "secret_key": SECRET_KEY}, {"provider": "aws_s3", **secrets},
    ]  # fmt: skip
    for fields in sent:
        for path in (CONFIGS, f"{CONFIGS}/test-connection"):
            assert service("POST", path, fields).status == 422
    vault = {"name": "n", "provider": "s3", "bucket_name": "my-bucket", "region": "us-east-1", "access_key_id": ACCESS_KEY,
             "secret_access_key": SECRET_KEY}  # fmt: skip
    for changed in ({"region": "auto"}, {"secret_access_key": SECRET_KEY + "\\"}, {"access_key_id": ACCESS_KEY + "-"},
      {"secret_access_key": [SECRET_KEY]},
                    {"name": "a b"}):  # fmt: skip
        assert service("POST", "/storages/create", vault | changed).status == 400
    text = json.dumps(vault)
    assert service("POST", "/storages/create", text[:-1].encode()).status == 400
    assert service("POST", CONFIGS, f"{text} {SECRET_KEY}".encode()).status == 422
    service.using(SECRET_KEY)("GET", CONFIGS)
    service("GET", "/storages/list", headers={"x-secret": SECRET_KEY})
    libraries_are_silent(watched)


def test_a_row_that_cannot_be_opened_gives_none_away(service: Listening, tenant_of: Tenant, watched: Watched, servers: Servers) -> None:
    """Its sealed secrets were moved from another row: what fails is an error of ours."""
    one = service("POST", CONFIGS, servers.fields("strict_s3")).json()
    other = service("POST", CONFIGS, servers.fields("strict_s3")).json()
    moved = Storage.read(tenant_of.tenant_id, one["id"])
    assert moved is not None
    Storage(tenant_of.tenant_id, other["id"]).change([Storage.sealed.set(moved.sealed)], Storage.storage_id.exists())
    for method, path in (("POST", f"{CONFIGS}/{other['id']}/test"), ("GET", f"{CONFIGS}/{other['id']}"), ("GET", CONFIGS)):
        answer = service(method, path)
        assert answer.status == (500 if path.endswith("/test") else 200)


def test_a_connection_and_its_rules_do_not_print_secrets() -> None:
    from chalicelib.providers.catalogue import Connection

    made = Connection("sftp", "b", host="h", access_key=ACCESS_KEY, secret_key=SECRET_KEY, private_key=PRIVATE_KEY)
    text = f"{made} {made!r}"
    assert not [secret for secret in (ACCESS_KEY, SECRET_KEY, PRIVATE_KEY) if secret in text]


def test_nothing_of_this_is_left_on_disk(service: Listening, servers: Servers, tmp_path: Path) -> None:
    service("POST", f"{CONFIGS}/test-connection", servers.fields("filesystem"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
