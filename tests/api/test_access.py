"""Who may call what: every principal on every route, every way in which a token can be wrong (CONTRACT "Common")."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from chalicelib import aws, providers, seam
from chalicelib.access.principals import Permission, Role
from chalicelib.core import tenants
from chalicelib.surfaces import tus
from chalicelib.surfaces.files.tus_routes import TUS_SURFACE as FILES_TUS_SURFACE
from chalicelib.surfaces.openapi import SURFACES
from chalicelib.surfaces.routes import Route
from chalicelib.surfaces.storage.upload_routes import TUS_SURFACE
from chalicelib.tables.deltas import Delta
from chalicelib.tables.keys import VaultKey
from chalicelib.tables.table import call
from chalicelib.tables.uploads import UploadSession
from infra import stack
from tests.client import Answer, Client
from tests.conftest import Clock, Tenant
from tests.vault.conftest import put

ROUTES = [route for surface in SURFACES for route in surface.routes]
BY_NAME = {f"{route.method} {route.path}": route for route in ROUTES}
TUS = TUS_SURFACE.routes + FILES_TUS_SURFACE.routes
UNKNOWN = "00000000-0000-4000-8000-00000000abcd"
AUDITED = "audited"
NEW_BYTES = b"new bytes"
METADATA = {"passport": "L01X00T47"}
# A valid JSON body for each model that a route takes; a new model needs a line here.
BODIES: dict[str, Callable[[str], Any]] = {
    "CreateBucket": lambda bucket: {"name": "made-" + bucket[:20]},
    "ChangeBucket": lambda bucket: {"file_size_limit": 10_000},
    "ChangeObject": lambda bucket: {"user_metadata": {"k": 1}},
    "Relocate": lambda bucket: {"bucket": bucket, "from": "known", "to": "moved"},
    "DeleteMany": lambda bucket: {"paths": ["known"]},
    "CreateTenant": lambda bucket: {"name": "someone"},
    "ChangeTenant": lambda bucket: {"name": "someone else"},
    "CreateKey": lambda bucket: {"role": "custom", "permissions": ["org.storage.list"]},
    "CreateToken": lambda bucket: {"sub": "someone"},
    "CreatePolicy": lambda bucket: {"bucket": bucket, "name": "all", "operation": "SELECT", "definition": "true"},
    "ExplainPolicy": lambda bucket: {"bucket": bucket, "operation": "SELECT", "path": "known", "claims": None},
    "Sign": lambda bucket: {"bucket": bucket, "path": "known"},
    "SignMany": lambda bucket: {"bucket": bucket, "paths": ["known", "absent"]},
    "Revoke": lambda bucket: {"bucket": bucket, "path": "known"},
    "SignUpload": lambda bucket: {"bucket": bucket, "path": "known", "upsert": True},
    "BeginUpload": lambda bucket: {"bucket": bucket, "path": "known", "size": len(NEW_BYTES)},
    "BeginDirect": lambda bucket: {"bucket": bucket, "path": "known", "size": len(NEW_BYTES)},
    "CompleteUpload": lambda bucket: {"checksum": hashlib.sha256(NEW_BYTES).hexdigest()},
    "ConfirmUpload": lambda bucket: {"parts": None},
    "CreateStorageConfig": lambda bucket: {"name": "another", "provider": "filesystem", "bucket": "another"},
    "ChangeStorageConfig": lambda bucket: {"name": "renamed"},
    "CreateVaultStorage": lambda bucket: VAULT_STORAGE | {"name": "another"},
    "CreateVaultKey": lambda bucket: {"name": "another"},
    "ChangeFile": lambda bucket: {"metadata": {"k": 1}},
    "SignFile": lambda bucket: {"ttlSeconds": 60},
    "ImportFile": lambda bucket: {"url": "https://198.51.100.1/known"},  # of a network that is not public
    "CreateFolder": lambda bucket: {"name": "another"},
    "ChangeFolder": lambda bucket: {"name": "renamed"},
}
# The same for bodies that name a storage, a key or a delta.
BODIES_OF_IDS: dict[str, Callable[["Ids"], Any]] = {
    "EditVaultStorage": lambda ids: {"storage_uuid": ids.storage_id, "name": "renamed"},
    "DeleteVaultStorage": lambda ids: {"storage_uuid": ids.storage_id},
    "EditVaultKey": lambda ids: {"key_uuid": ids.vault["key_uuid"], "name": "renamed"},
    "DeleteVaultKey": lambda ids: {"key_uuid": ids.vault["key_uuid"]},
    "MigrateVaultKey": lambda ids: {"key_uuid": ids.vault["key_uuid"], "storage_uuid": ids.storage_id},
    "UploadDelta": lambda ids: {"key_uuid": ids.vault["key_uuid"], "size_bytes": 3, "content_md5": MD5_OF_DELTA},
    "ConfirmDelta": lambda ids: {name: ids.vault[name] for name in ("delta_uuid", "upload_attempt_uuid")},
    "DeleteDelta": lambda ids: {"delta_uuid": ids.vault["delta_uuid"]},
    "ClaimSection": lambda ids: {"delta_uuid": ids.vault["delta_uuid"], "start": 1, "length": 1},
    "ReleaseSection": lambda ids: {name: ids.vault[name] for name in ("delta_uuid", "claim_id")},
}
DELTA = b"abc"
MD5_OF_DELTA = base64.b64encode(hashlib.md5(DELTA).digest()).decode()
VAULT_STORAGE = {
    "name": "vault",
    "provider": "s3",
    "bucket_name": "vaulted",
    "region": "us-east-1",
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}


UPSERT: dict[str, dict[str, Any]] = {"signed-upload-url": {"upsert": True}, "signed-url": {}}


@dataclass(frozen=True)
class Denials:
    """What a route answers on a private bucket and on a public one: to anon and users, and to nobody at all."""

    private: int
    public: int
    nobody_private: int = 401
    nobody_public: int = 401


MANAGED = Denials(403, 403)
READ = Denials(404, 200, nobody_public=200)
ADMIN = Denials(403, 403)
OPEN = Denials(200, 200, 200, 200)
FORGED = Denials(401, 401)  # a signed URL that this installation did not sign, whoever sends it
UNPUBLISHED = Denials(404, 404, 404, 404)
BEGUN = Denials(404, 404)  # an upload that somebody else has begun, into whichever bucket
# CONTRACT "Denials": what SELECT hides is 404; visible but not permitted, and INSERT, are 403; nobody at all is 401.
EXPECTED = {
    "POST /storage/buckets": MANAGED,
    "GET /storage/buckets": MANAGED,
    "GET /storage/buckets/{bucket}": READ,
    "PUT /storage/buckets/{bucket}": MANAGED,
    "DELETE /storage/buckets/{bucket}": MANAGED,
    "POST /storage/object/{bucket}/{path+}": Denials(403, 403),
    "GET /storage/object/{bucket}/{path+}": READ,
    "HEAD /storage/object/{bucket}/{path+}": READ,
    "DELETE /storage/object/{bucket}/{path+}": Denials(404, 403),
    "GET /storage/public/{tenant_id}/{bucket}/{path+}": Denials(404, 200, 404, 200),
    "HEAD /storage/public/{tenant_id}/{bucket}/{path+}": Denials(404, 200, 404, 200),
    "GET /storage/object-info/{bucket}/{path+}": READ,
    "PATCH /storage/object-info/{bucket}/{path+}": Denials(404, 403),
    "GET /storage/objects/{bucket}": Denials(200, 200, 401, 200),  # to others a private one is empty
    "DELETE /storage/objects/{bucket}": Denials(200, 200),  # an outcome for each path, all of them refusals
    "POST /storage/object/move": Denials(404, 403),
    "POST /storage/object/copy": Denials(404, 403),
    "POST /storage/policies": MANAGED,
    "GET /storage/policies/bucket/{bucket}": MANAGED,
    "DELETE /storage/policies/{policy_id}": MANAGED,
    "POST /storage/policies/explain": MANAGED,
    "POST /storage/signed-url": READ,
    "POST /storage/signed-urls": Denials(200, 200, nobody_public=200),  # an outcome for each path
    "POST /storage/signed-url/revoke": Denials(404, 403),
    "POST /storage/signed-upload-url": Denials(403, 403),
    "GET /storage/signed/{token}": FORGED,
    "HEAD /storage/signed/{token}": FORGED,
    "PUT /storage/signed/{token}": FORGED,
    "POST /storage/upload/resumable": Denials(403, 403),
    "POST /storage/upload/direct": Denials(403, 403),
    "PATCH /storage/upload/{upload_id}": BEGUN,
    "HEAD /storage/upload/{upload_id}": BEGUN,
    "DELETE /storage/upload/{upload_id}": BEGUN,
    "POST /storage/upload/{upload_id}/complete": BEGUN,
    "POST /storage/upload/{upload_id}/confirm": BEGUN,
    "GET /storage/upload/{upload_id}/parts": BEGUN,
    "OPTIONS /storage/v1/upload/tus": Denials(204, 204, 204, 204),
    "POST /storage/v1/upload/tus": Denials(403, 403),
    "PATCH /storage/v1/upload/tus/{upload_id}": BEGUN,
    "HEAD /storage/v1/upload/tus/{upload_id}": BEGUN,
    "DELETE /storage/v1/upload/tus/{upload_id}": BEGUN,
    "POST /storage/v1/upload/tus/{upload_id}": BEGUN,
    "POST /storages/create": MANAGED,
    "GET /storages/list": MANAGED,
    "PATCH /storages/edit": MANAGED,
    "DELETE /storages/delete": MANAGED,
    "GET /storages/policy": MANAGED,
    "GET /storages/cors": MANAGED,
    # The vault is open to users, who have keys of their own there: see OF_USERS.
    "POST /keys/create": MANAGED,
    "GET /keys/list": MANAGED,
    "PATCH /keys/edit": MANAGED,
    "POST /keys/delete": MANAGED,
    "DELETE /keys/delete": MANAGED,
    "GET /keys/storage-limits": MANAGED,
    "GET /keys/check-layout": MANAGED,
    "POST /keys/migrate": MANAGED,
    "POST /deltas/upload": MANAGED,
    "POST /deltas/confirm": MANAGED,
    "GET /deltas/download": MANAGED,
    "GET /deltas/list": MANAGED,
    "DELETE /deltas/delete": MANAGED,
    "POST /deltas/claim": MANAGED,
    "GET /deltas/claims": MANAGED,
    "DELETE /deltas/claim": MANAGED,
    "POST /api/v1/backups/storage-configs": MANAGED,
    "GET /api/v1/backups/storage-configs": MANAGED,
    "POST /api/v1/backups/storage-configs/test-connection": MANAGED,
    "GET /api/v1/backups/storage-configs/{config_id}": MANAGED,
    "PATCH /api/v1/backups/storage-configs/{config_id}": MANAGED,
    "DELETE /api/v1/backups/storage-configs/{config_id}": MANAGED,
    "POST /api/v1/backups/storage-configs/{config_id}/test": MANAGED,
    "GET /api/v1/backups/storage-settings": Denials(200, 200),
    "GET /api/v1/backups/storage-providers": Denials(200, 200),
    "GET /health": OPEN,
    "GET /openapi.json": OPEN,
    "GET /jobs/{job_id}": Denials(404, 404),
    "POST /admin/tenants": ADMIN,
    "GET /admin/tenants": ADMIN,
    "GET /admin/tenants/{tenant_id}": ADMIN,
    "PATCH /admin/tenants/{tenant_id}": ADMIN,
    "DELETE /admin/tenants/{tenant_id}": ADMIN,
    "POST /admin/tenants/{tenant_id}/keys": ADMIN,
    "GET /admin/tenants/{tenant_id}/keys": ADMIN,
    "DELETE /admin/tenants/{tenant_id}/keys/{key_id}": ADMIN,
    "POST /auth/token": MANAGED,
    "POST /auth/session": MANAGED,
    "DELETE /auth/session": OPEN,
    # The drive is open to users, who have files of their own there: see OF_USERS.
    "GET /api/storage": MANAGED,
    "PUT /api/storage/{key+}": MANAGED,
    "GET /api/storage/{key+}": MANAGED,
    "HEAD /api/storage/{key+}": MANAGED,
    "PATCH /api/storage/{key+}": MANAGED,
    "DELETE /api/storage/{key+}": MANAGED,
    "POST /api/storage/{key+}": MANAGED,
    "POST /api/storage/_sign/{key+}": MANAGED,
    "GET /api/storage/folder-counts": MANAGED,
    "POST /api/storage/from-url": MANAGED,
    "GET /api/public/{tenant_id}/{key+}": UNPUBLISHED,
    "HEAD /api/public/{tenant_id}/{key+}": UNPUBLISHED,
    "GET /api/folders": MANAGED,
    "POST /api/folders": MANAGED,
    "PATCH /api/folders/{folder_id}": MANAGED,
    "DELETE /api/folders/{folder_id}": MANAGED,
    "GET /api/uploads": MANAGED,
    "GET /api/uploads/{upload_id}": BEGUN,
    "OPTIONS /api/uploads": Denials(204, 204, 204, 204),
    "POST /api/uploads": MANAGED,
    "PATCH /api/uploads/{upload_id}": BEGUN,
    "HEAD /api/uploads/{upload_id}": BEGUN,
    "DELETE /api/uploads/{upload_id}": BEGUN,
    "POST /api/uploads/{upload_id}": BEGUN,
}


NO_VAULT = dict.fromkeys(("key_uuid", "delta_uuid", "upload_attempt_uuid", "claim_id"), UNKNOWN)
# What is asked of the service key's vault, or of its files, by a user: somebody else's are not there.
OF_USERS = {
    "POST /keys/create": 201,
    "GET /keys/list": 200,
    "POST /auth/session": 200,
    "DELETE /auth/session": 200,
    "GET /api/storage": 200,
    "PUT /api/storage/{key+}": 403,  # INSERT is told so, whether something is there or not
    "GET /api/storage/folder-counts": 200,
    "POST /api/storage/from-url": 422,
    "GET /api/folders": 200,
    "POST /api/folders": 201,
    "GET /api/uploads": 200,
    "OPTIONS /api/uploads": 204,
    "POST /api/uploads": 403,
}
# What the service key itself is told.
OF_SERVICE = {
    "POST /auth/session": 403,
    "POST /api/storage/from-url": 422,
    "GET /api/public/{tenant_id}/{key+}": 404,
    "HEAD /api/public/{tenant_id}/{key+}": 404,
}


@dataclass(frozen=True)
class Ids:
    """What a request names: a tenant, its bucket, its job, one of its keys, a policy, an upload, a signed URL's token, a vault's ids."""

    tenant_id: str
    bucket: str
    job_id: str
    key_id: str
    policy_id: str
    upload_id: str
    storage_id: str
    token: str = "e30." + "A" * 43
    folder_id: str = UNKNOWN
    vault: Mapping[str, str] = field(default_factory=lambda: NO_VAULT)


@dataclass(frozen=True)
class Known:
    """A tenant with object `known` in bucket `bucket`, a job, and an upload over that object."""

    tenant: Tenant
    ids: Ids
    custom_key: str

    def state(self) -> Any:
        """What could have been changed by someone who may not."""
        service, bucket = self.tenant.service, self.ids.bucket
        listed = [service("GET", path).json() for path in ("/storage/buckets", f"/storage/objects/{bucket}")]
        keys = sorted(row.key_id for row in tenants.keys_of(self.ids.tenant_id))
        policies = [service("GET", f"/storage/policies/bucket/{each}").json() for each in (bucket, AUDITED)]
        uploads = sorted(json.dumps(row, sort_keys=True) for row in rows_of([self.ids.tenant_id], UploadSession.Meta.table_name))
        vault = [sorted(map(str, rows_of([self.ids.tenant_id], model.Meta.table_name))) for model in (VaultKey, Delta)]
        files = [service("GET", path).json() for path in ("/api/storage", "/api/folders")] + [service("GET", "/api/storage/known").body]
        named = tenants.get_tenant(self.ids.tenant_id).name
        return [*listed, service.get(bucket, "known").body, keys, named, policies, uploads, *vault, *files]

    def with_token(self, route: Route) -> Ids:
        """The ids, with a token that opens `known` for a route that takes one."""
        what = "signed-upload-url" if route.method == "PUT" else "signed-url"
        signed = self.tenant.service("POST", f"/storage/{what}", {"bucket": self.ids.bucket, "path": "known"} | UPSERT[what])
        return replace(self.ids, token=signed.json()["signed_url"].rpartition("/")[2])

    def caller(self, role: str) -> Client:
        """A client of the tenant under a credential that gives no right by itself."""
        if role == "custom":
            return self.tenant.nobody.using(self.custom_key)
        called_service = self.tenant.user(role="service", sub="service")
        return {"anon": self.tenant.anon, "user": self.tenant.user(), "user called service": called_service}[role]


def rows_of(named: Sequence[str], table: str) -> list[dict[str, Any]]:
    """Every row of a table that is of what is named, or names it."""
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [item for page in pages for item in page["Items"] if any(name in str(item) for name in named)]


def begun(service: Client, bucket: str, route: Route) -> str:
    """An upload over object `known` to which `route` is the very next thing to do."""
    wanted = {"bucket": bucket, "path": "known", "size": len(NEW_BYTES)}
    if route in TUS or is_of_files(route):
        path = "/api/uploads" if is_of_files(route) else "/storage/v1/upload/tus"
        answer = service("POST", path, headers={"tus-resumable": tus.VERSION} | creation_headers(bucket))
        assert answer.status == 201, answer.body
        return answer.headers["location"].rpartition("/")[2]
    if route.path.endswith(("/parts", "/confirm")):
        in_parts = {"parts": 1} if route.path.endswith("/parts") else {}
        upload_id = str(service("POST", "/storage/upload/direct", wanted | in_parts).json()["upload_id"])
        if not in_parts:
            session = UploadSession.read(upload_id, UploadSession.SESSION)
            assert session is not None
            providers.internal().put(session.physical_key, NEW_BYTES, "application/octet-stream")
        return upload_id
    upload_id = str(service("POST", "/storage/upload/resumable", wanted | {"user_metadata": METADATA}).json()["upload_id"])
    if route.path.endswith("/complete"):
        assert service("PATCH", f"/storage/upload/{upload_id}", NEW_BYTES, {"upload-offset": "0"}).status == 200
    return upload_id


def creation_metadata(bucket: str) -> dict[str, str]:
    return {"bucket": bucket, "filename": "known", "metadata": json.dumps(METADATA)}


def creation_headers(bucket: str) -> dict[str, str]:
    pairs = (f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in creation_metadata(bucket).items())
    return {"upload-length": str(len(NEW_BYTES)), "upload-metadata": ",".join(pairs)}


def is_of_files(route: Route) -> bool:
    return route.path.startswith(("/api/storage", "/api/uploads", "/api/folders", "/api/public", "/auth/session"))


def is_of_vault(route: Route) -> bool:
    return route.path.startswith(("/keys/", "/deltas/"))


def vault_of(service: Client) -> dict[str, str]:
    """A key of a tenant's with a stored delta, of which one section is claimed."""
    key_uuid = service("POST", "/keys/create", {"name": "laptop"}).json()["key_uuid"]
    begun = service("POST", "/deltas/upload", {"key_uuid": key_uuid, "size_bytes": 3, "content_md5": MD5_OF_DELTA}).json()
    assert put(begun, DELTA) == 200
    ids: dict[str, str] = {name: begun[name] for name in ("key_uuid", "delta_uuid", "upload_attempt_uuid")}
    assert service("POST", "/deltas/confirm", {name: ids[name] for name in ("delta_uuid", "upload_attempt_uuid")}).status == 200
    claimed = service("POST", "/deltas/claim", {"delta_uuid": ids["delta_uuid"], "start": 0, "length": 1})
    return ids | {"claim_id": claimed.json()["claim_id"]}


def is_of_storages(route: Route) -> bool:
    return route.path.startswith(("/storages/", "/api/v1/backups/storage-configs"))


@pytest.fixture
def storage_of(embedded: stack.EmbeddedAWS, choose: Callable[[str, str], None], tmp_path: Path) -> Callable[[Tenant, Route], str]:
    """Makes a storage of a tenant's that a route can name."""

    def make(tenant: Tenant, route: Route) -> str:
        if not is_of_storages(route) and route.path != "/keys/migrate":
            return UNKNOWN
        for name, value in (
            ("STOWAGE_ALLOW_PRIVATE_ENDPOINTS", "true"),
            ("STOWAGE_ENABLED_PROVIDERS", "all"),
            ("STOWAGE_STORAGE_ROOT", str(tmp_path)),
            ("STOWAGE_ENDPOINT_OVERRIDES", f"s3.us-east-1.amazonaws.com={embedded.endpoint}"),
        ):
            choose(name, value)
        if route.path.startswith("/api/"):
            told = {"name": "config", "provider": "filesystem", "bucket": "own"}
            return str(tenant.service("POST", "/api/v1/backups/storage-configs", told).json()["id"])
        embedded.client("s3").create_bucket(Bucket="vaulted")
        made = tenant.service("POST", "/storages/create", VAULT_STORAGE)
        assert made.status == 201, made.body
        return str(made.json()["storage_uuid"])

    return make


@pytest.fixture
def known(new_tenant: Any, route: Route, storage_of: Callable[[Tenant, Route], str]) -> Callable[[str], Known]:
    """Makes a tenant with a bucket of the given visibility, and what the route names."""

    def make(visibility: str) -> Known:
        tenant: Tenant = new_tenant("one of many tenants")
        bucket = "b-" + seam.new_uuid()
        tenant.service.bucket("deleted")
        job_id = tenant.service("DELETE", "/storage/buckets/deleted").json()["job_id"]
        tenant.service.bucket(bucket, visibility=visibility)
        assert tenant.service.put(bucket, "known", b"bytes", "text/plain").status == 201
        custom_key, row = tenants.create_key(tenant.tenant_id, Role.CUSTOM, "with every permission", list(Permission))
        tenant.service.bucket(AUDITED)  # who could upload to some name may sign for all, so the other bucket has no policy
        policy = {"bucket": AUDITED, "name": "auditors", "operation": "UPDATE", "definition": "auth_role() = 'auditor'"}
        policy_id = tenant.service("POST", "/storage/policies", policy).json()["id"]
        upload_id = begun(tenant.service, bucket, route)
        storage_id = storage_of(tenant, route)
        assert tenant.service("PUT", "/api/storage/known", b"bytes", {"content-type": "text/plain"}).status == 201
        folder_id = tenant.service("POST", "/api/folders", {"name": "folder"}).json()["data"]["id"]
        ids = Ids(tenant.tenant_id, bucket, job_id, row.key_id, policy_id, upload_id, storage_id, folder_id=folder_id)
        return Known(tenant, replace(ids, vault=vault_of(tenant.service)) if is_of_vault(route) else ids, custom_key)

    return make


@pytest.fixture
def default_tenant(choose: Callable[[str, str], None]) -> Callable[[str], None]:
    """Sets the tenant of requests without a credential."""
    return lambda tenant_id: choose("STOWAGE_DEFAULT_TENANT", tenant_id)


def send(client: Client, route: Route, ids: Ids, **headers: str) -> Answer:
    """A well-formed request to `route`."""
    path, body, own = _request(route, ids)
    return client(route.method, path, body, own | headers)


def _request(route: Route, ids: Ids) -> tuple[str, Any, dict[str, str]]:
    path = route.path.replace("{path+}", "known").replace("{bucket}", ids.bucket)
    path = path.replace("{tenant_id}", ids.tenant_id).replace("{job_id}", ids.job_id).replace("{key_id}", ids.key_id)
    path = path.replace("{config_id}", ids.storage_id).replace("{folder_id}", ids.folder_id)
    path = path.replace("{key+}", "known/sign" if route.method == "POST" and route.path == "/api/storage/{key+}" else "known")
    path = path.replace("{policy_id}", ids.policy_id).replace("{token}", ids.token).replace("{upload_id}", ids.upload_id)
    assert "{" not in path, f"say here what stands for the variables of {route.path}"
    if route.path in ("/storages/policy", "/storages/cors"):
        path += f"?storage_uuid={ids.storage_id}"
    if is_of_vault(route) and route.method == "GET":
        path += f"?key_uuid={ids.vault['key_uuid']}&delta_uuid={ids.vault['delta_uuid']}"
    body: Any = None
    model = (route.body or "").partition(":")[2]
    if model in BODIES_OF_IDS:
        body = BODIES_OF_IDS[model](ids)
    elif model:
        body = BODIES[model](ids.bucket)
    elif route.raw_body:
        body = NEW_BYTES
    return path, body, _headers(route, ids)


def _headers(route: Route, ids: Ids) -> dict[str, str]:
    """What a request to `route` must carry beside its credential."""
    headers = {"tus-resumable": tus.VERSION} if route in TUS else {}
    if route.raw_body == tus.CHUNK:
        headers |= {"content-type": tus.CHUNK}
    if route.method == "PATCH" and "{upload_id}" in route.path:
        headers |= {"upload-offset": "0"}
    if route.method == "POST" and route in TUS:
        headers |= {"x-http-method-override": "HEAD"} if "{upload_id}" in route.path else creation_headers(ids.bucket)
    return headers


def test_every_route_says_here_whom_it_refuses() -> None:
    assert EXPECTED.keys() == BY_NAME.keys()


def admin(tenant: Tenant) -> Client:
    return tenant.nobody.using(tenants.create_admin_key())


# ---- every route ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("route", ROUTES, ids=list(BY_NAME))
def test_the_service_key_may_do_all_but_manage_tenants(known: Any, route: Route) -> None:
    there = known("public")
    ids = there.with_token(route) if "{token}" in route.path else there.ids
    answer = send(there.tenant.service, route, ids)
    told = OF_SERVICE.get(f"{route.method} {route.path}", min(route.answers))
    assert answer.status == (403 if route.path.startswith("/admin/") else told)


@pytest.mark.parametrize("route", ROUTES, ids=list(BY_NAME))
@pytest.mark.parametrize("visibility", ["private", "public"])
def test_who_has_no_right_by_their_credential_may_only_read_what_is_public(
    known: Any, default_tenant: Any, route: Route, visibility: str
) -> None:
    there = known(visibility)
    before, name = there.state(), f"{route.method} {route.path}"
    # A key with permissions is as good as the service key where they are for just that, and so comes last there.
    for role in ("anon",) if is_of_storages(route) else ("anon", "custom"):
        assert send(there.caller(role), route, there.ids).status == getattr(EXPECTED[name], visibility), role
    if route.needs_credential:
        for headers in CREDENTIALS:
            answer = send(there.tenant.nobody, route, there.ids, **headers)
            assert (answer.status, answer.headers["www-authenticate"][:7]) == (401, "Bearer "), headers
    default_tenant(there.tenant.tenant_id)
    answer = send(there.tenant.nobody, route, there.ids)
    assert answer.status == getattr(EXPECTED[name], f"nobody_{visibility}")
    assert (answer.status == 401) == ("www-authenticate" in answer.headers)
    assert there.state() == before
    for role in ("user", "user called service"):
        status = send(there.caller(role), route, there.ids).status
        of_a_user = is_of_vault(route) or is_of_files(route)
        assert status == (OF_USERS.get(name, 404) if of_a_user else getattr(EXPECTED[name], visibility)), role
        if status != 201:
            assert there.state() == before, role
    if is_of_storages(route):
        assert send(there.caller("custom"), route, there.ids).status == min(route.answers)


CREDENTIALS = [
    {},
    {"authorization": "Bearer sk_unknown"},
    {"authorization": "Bearer a.b.c"},
    {"authorization": "Bearer"},
    {"authorization": "Basic c2tfYQ=="},
    {"authorization": "Bearer " + "x" * 9000},
    {"authorization": "Bearer " + "." * 2},
    {"authorization": "Bearer sk_ünknown"},
    {"apikey": "sk_unknown"},
    {"apikey": "sk_unknown", "authorization": "Bearer sk_unknown"},
]


@pytest.mark.parametrize("route", ROUTES, ids=list(BY_NAME))
def test_an_admin_key_manages_tenants_and_nothing_of_theirs(known: Any, route: Route) -> None:
    there = known("public")
    before = there.state()
    answer = send(admin(there.tenant), route, there.ids)
    refused = {"GET /jobs/{job_id}": 404} | {name: 401 for name in BY_NAME if "{token}" in name}
    refused |= {name: 403 for name, each in BY_NAME.items() if each.needs_credential and each.needs_tenant}
    refused |= dict.fromkeys(["GET /api/storage/{key+}", "HEAD /api/storage/{key+}"], 403)
    refused |= dict.fromkeys(["GET /api/public/{tenant_id}/{key+}", "HEAD /api/public/{tenant_id}/{key+}"], 404)
    assert answer.status == refused.get(f"{route.method} {route.path}", min(route.answers))
    if not (route.path.startswith("/admin/") and route.method in ("POST", "PATCH", "DELETE")):
        assert there.state() == before


NAMELESS = (
    *("/storage/buckets", "/admin/tenants", "/auth/token", "/health", "/openapi.json"),
    *("/storages/create", "/storages/list", "/keys/create", "/keys/list"),
    # Keys of files are one's own: tests/files has two tenants that use the same.
    *("/auth/session", "/api/storage", "/api/storage/{key+}", "/api/storage/_sign/{key+}", "/api/storage/folder-counts"),
    *("/api/storage/from-url", "/api/folders", "/api/uploads"),
    *(f"/api/v1/backups/{each}" for each in ("storage-configs", "storage-configs/test-connection")),
)
NAMING = [route for route in ROUTES if route.path not in NAMELESS]


@pytest.mark.parametrize("route", NAMING, ids=lambda route: f"{route.method} {route.path}")
def test_what_is_another_tenants_is_like_what_does_not_exist(known: Any, new_tenant: Any, route: Route) -> None:
    theirs, stranger = known("private"), new_tenant()
    before = theirs.state()
    unknown = Ids(UNKNOWN, "b-" + UNKNOWN, UNKNOWN, UNKNOWN, f"{UNKNOWN}.{seam.new_version()}", seam.new_version(), UNKNOWN)
    for client in (stranger.service, stranger.anon, stranger.user()):
        assert _told(send(client, route, theirs.ids), theirs.ids) == _told(send(client, route, unknown), unknown)
    assert theirs.state() == before


def _told(answer: Answer, ids: Ids) -> tuple[int, dict[str, str], str]:
    """Everything that an answer tells, but for the ids that the request named and what differs between any two."""
    text = answer.body.decode()
    named = (ids.policy_id, ids.bucket, ids.tenant_id, ids.job_id, ids.key_id, ids.upload_id, ids.storage_id, ids.folder_id)
    for id_ in (*named, *ids.vault.values()):
        text = text.replace(id_, "ID")
    told = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status, told, text.replace(answer.headers["x-request-id"], "REQUEST")


# ---- strangers -----------------------------------------------------------------------------------------
SECRET_BODY = b"what nobody else may read " * 1187


@pytest.fixture
def guarded(known: Any) -> Known:
    """A tenant whose private bucket holds what must not be told, under policies of every operation that hold for no stranger."""
    there: Known = known("private")
    service, bucket = there.tenant.service, there.ids.bucket
    told = base64.b64encode(json.dumps(METADATA).encode()).decode()
    for name in ("known", "a name that nobody sends"):
        assert service.put(bucket, name, SECRET_BODY, "text/x-confidential", x_metadata=told).status in (200, 201)
    for operation in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        policy = {"bucket": bucket, "name": "for the auditor", "operation": operation, "definition": "auth_email() = 'auditor@victim.test'"}
        assert service("POST", "/storage/policies", policy).status == 201
    session: Any = UploadSession.read(there.ids.upload_id, UploadSession.SESSION)
    # A moment at which no upload that a stranger begins now would end.
    session.change([UploadSession.expires_at.set(session.expires_at - 977)], UploadSession.upload_id.exists())
    return there


def strangers(there: Known, stranger: Tenant) -> dict[str, Client]:
    """Everyone who has no right at all in a tenant's private bucket."""
    tenant, nobody = there.tenant, there.tenant.nobody
    forged = jwt.encode(claims_of(tenant, email="auditor@victim.test"), stranger.jwt_secret, algorithm="HS256")
    return {
        "nobody": nobody,
        "the tenant's anon key": tenant.anon,
        "the tenant's user": tenant.user(email="someone@victim.test"),
        "an anon key of another tenant": stranger.anon,
        "the service key of another tenant": stranger.service,
        "a custom key of another tenant": nobody.using(tenants.create_key(stranger.tenant_id, Role.CUSTOM, "", list(Permission))[0]),
        "an expired token": tenant.user(email="auditor@victim.test", exp=int(seam.timestamp()) - 3600),
        "a token of another tenant": stranger.user(email="auditor@victim.test"),
        "a token that is signed by another tenant's secret": nobody.using(forged),
    }


def secrets_of(there: Known) -> set[str]:
    """What of a tenant may stand in no answer to a stranger who did not send it."""
    service, tenant, ids = there.tenant.service, there.tenant, there.ids
    rows = service("GET", f"/storage/objects/{ids.bucket}").json()
    shown = [service("GET", f"/storage/object-info/{ids.bucket}/known").json(), service("GET", f"/storage/buckets/{ids.bucket}").json()]
    policies = service("GET", f"/storage/policies/bucket/{ids.bucket}").json()
    found = {row[column] for row in rows for column in ("id", "name", "checksum", "content_type")}
    found |= {shown[0]["version"], shown[1]["id"], str(len(SECRET_BODY)), SECRET_BODY[:20].decode(), *METADATA, *METADATA.values()}
    found |= {policy[column] for policy in policies for column in ("id", "name", "definition")}
    found |= {tenant.service_key, tenant.jwt_secret, ids.tenant_id, ids.bucket, ids.job_id, ids.key_id, "one of many tenants"}
    found |= {ids.storage_id, *VAULT_STORAGE.values()} - {UNKNOWN, "vault", "s3"}
    session: Any = UploadSession.read(ids.upload_id, UploadSession.SESSION)
    ends = seam.at(session.expires_at)
    found |= {ids.upload_id, session.physical_key, seam.iso(ends), format_datetime(ends, usegmt=True)} | {session.label} - {None}
    return found - {"known"}


def all_rows_of(there: Known) -> dict[str, list[str]]:
    """Every row of every table that is a tenant's or names anything of it."""
    bucket_id = there.ids.policy_id.partition(".")[0]
    found: dict[str, list[str]] = {}
    for table in call("ListTables")["TableNames"]:
        rows = rows_of((there.ids.tenant_id, bucket_id, there.ids.upload_id), table)
        found[table] = sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)
    return found


# Any user may make a key of its own, a folder, and a session.
NOT_FOR_USERS = {
    name: route for name, route in BY_NAME.items() if name not in ("POST /keys/create", "POST /api/folders", "POST /auth/session")
}


@pytest.mark.parametrize("route", NOT_FOR_USERS.values(), ids=list(NOT_FOR_USERS))
def test_a_stranger_is_told_nothing_and_changes_nothing(guarded: Known, new_tenant: Any, route: Route) -> None:
    secrets, before = secrets_of(guarded), all_rows_of(guarded)
    assert sum(map(len, before.values())) >= 10
    for who, client in strangers(guarded, new_tenant()).items():
        answer = send(client, route, guarded.ids)
        path, body, headers = _request(route, guarded.ids)
        sent = str((path, body, headers, creation_metadata(guarded.ids.bucket) if "upload-metadata" in headers else None))
        told = (repr(answer.headers) + answer.body.decode()).replace(answer.headers["x-request-id"], "")  # random: it may hold any digits
        assert answer.status < 500, who
        assert not [secret for secret in secrets if secret in told and secret not in sent], who
        assert "x-object-size" not in answer.headers, who
    assert all_rows_of(guarded) == before


@pytest.mark.parametrize("route", [route for route in TUS if route.method in ("PATCH", "HEAD", "DELETE")], ids=lambda route: route.method)
def test_a_method_that_is_overridden_asks_for_no_less(guarded: Known, new_tenant: Any, route: Route) -> None:
    overriding, before = BY_NAME["POST " + route.path], all_rows_of(guarded)
    sent = _headers(route, guarded.ids) | {"x-http-method-override": route.method}
    for who, client in strangers(guarded, new_tenant()).items():
        answer, plain = send(client, overriding, guarded.ids, **sent), send(client, route, guarded.ids)
        assert answer.status == plain.status, who
        assert answer.status in (401, 404), who
    assert all_rows_of(guarded) == before


# ---- ways to carry a credential ------------------------------------------------------------------------
LIST = ("GET", "/storage/buckets")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_key_goes_as_bearer_or_as_apikey(tenant: Tenant, scheme: str) -> None:
    assert tenant.nobody(*LIST, headers={"Authorization": f"{scheme} {tenant.service_key}"}).status == 200
    assert tenant.nobody(*LIST, headers={"apikey": tenant.service_key}).status == 200


def test_with_both_the_key_names_the_tenant_and_the_token_the_user(tenant: Tenant) -> None:
    answer = tenant.nobody(*LIST, headers={"apikey": tenant.service_key, "Authorization": f"Bearer {tenant.token()}"})
    assert answer.status == 403  # a user, not the service


def test_a_key_and_a_token_of_two_tenants_are_refused(tenant: Tenant, new_tenant: Any) -> None:
    other = new_tenant()
    for key, bearer in ((tenant.service_key, other.token()), (tenant.service_key, other.service_key)):
        assert tenant.nobody(*LIST, headers={"apikey": key, "Authorization": f"Bearer {bearer}"}).status == 401


def test_a_wrong_token_is_not_mended_by_a_right_key(tenant: Tenant) -> None:
    answer = tenant.nobody(*LIST, headers={"apikey": tenant.service_key, "Authorization": "Bearer a.b.c"})
    assert answer.status == 401


# ---- tokens --------------------------------------------------------------------------------------------
def status_with(tenant: Tenant, token: str) -> int:
    """403 when the token makes a user (who may not list buckets), 401 when it is refused."""
    return tenant.nobody.using(token)(*LIST).status


def signed(tenant: Tenant, claims: dict[str, Any], algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(claims, tenant.jwt_secret, algorithm=algorithm, headers=header or None)


def claims_of(tenant: Tenant, without: str = "", **changes: Any) -> dict[str, Any]:
    claims = {"tenant_id": tenant.tenant_id, "aud": "authenticated", "sub": "someone", "exp": int(seam.timestamp()) + 3600} | changes
    claims.pop(without, None)
    return claims


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": "00000000-0000-4000-8000-000000000001", "role": "editor", "email": "a@b.c", "permissions": ["org.storage.list"]},
        {"role": "service"},
        {"role": "admin", "permissions": ["org.storage.create", "org.storage.list"]},
        {"aud": ["other", "authenticated"]},
        {"nbf": 0, "iat": 0},
    ],
)
def test_a_valid_token_makes_a_user_and_no_more(tenant: Tenant, claims: dict[str, Any]) -> None:
    assert status_with(tenant, tenant.token(**claims)) == 403


def test_a_tenant_may_be_called_an_organization(tenant: Tenant) -> None:
    assert status_with(tenant, signed(tenant, claims_of(tenant, without="tenant_id", organization_id=tenant.tenant_id))) == 403


@pytest.mark.parametrize("claim", ["sub", "exp", "tenant_id", "aud"])
def test_a_token_without_a_required_claim_is_refused(tenant: Tenant, claim: str) -> None:
    assert status_with(tenant, signed(tenant, claims_of(tenant))) == 403
    assert status_with(tenant, signed(tenant, claims_of(tenant, without=claim))) == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": 5},
        {"sub": ""},
        {"sub": 5},
        {"sub": None},
        {"sub": "x" * 256},
        {"exp": "tomorrow"},
        {"exp": None},
        {"exp": True},
        {"exp": [9e9]},
        {"nbf": "yesterday"},
        {"nbf": True},
        {"tenant_id": UNKNOWN},
        {"tenant_id": ""},
        {"tenant_id": None},
        {"tenant_id": ["x"]},
        {"tenant_id": "x" * 3000},
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(tenant: Tenant, claims: dict[str, Any]) -> None:
    token = jwt.api_jws.encode(json.dumps(claims_of(tenant) | claims).encode(), tenant.jwt_secret, algorithm="HS256")
    assert status_with(tenant, token) == 401


def test_a_token_of_another_tenants_secret_is_refused(tenant: Tenant, new_tenant: Any) -> None:
    assert status_with(tenant, signed(new_tenant(), claims_of(tenant))) == 401


def test_a_token_expires_a_minute_late(tenant: Tenant, clock: Clock) -> None:
    token = tenant.token()
    clock.advance(3600 + 55)
    assert status_with(tenant, token) == 403
    clock.advance(10)
    assert status_with(tenant, token) == 401


def test_a_token_begins_a_minute_early(tenant: Tenant, clock: Clock) -> None:
    token = tenant.token(nbf=int(seam.timestamp()) + 120)
    assert status_with(tenant, token) == 401
    clock.advance(65)
    assert status_with(tenant, token) == 403


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _hmac(tenant: Tenant, header: dict[str, Any], claims: dict[str, Any], digest: Any = hashlib.sha256) -> str:
    content = f"{_part(header)}.{_part(claims)}"
    signature = hmac.new(tenant.jwt_secret.encode(), content.encode(), digest).digest()
    return f"{content}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_a_token_that_is_made_by_hand_is_taken(tenant: Tenant) -> None:
    assert status_with(tenant, _hmac(tenant, {"alg": "HS256", "typ": "JWT"}, claims_of(tenant))) == 403


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RS256"},
        {"alg": "ES256"},
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS512"},
        {"alg": "hs256"},
        {"alg": ["HS256"]},
        {"alg": None},
        {"typ": "JWT"},
        {"alg": "HS256", "crit": ["b64"], "b64": False},
    ],
)
def test_a_token_that_claims_another_algorithm_is_refused(tenant: Tenant, header: dict[str, Any]) -> None:
    assert status_with(tenant, _hmac(tenant, header, claims_of(tenant))) == 401


def test_an_unsigned_token_is_refused(tenant: Tenant) -> None:
    assert status_with(tenant, jwt.encode(claims_of(tenant), None, algorithm="none")) == 401  # type: ignore[arg-type]
    header, payload, _ = tenant.token().split(".")
    assert status_with(tenant, f"{header}.{payload}.") == 401


def test_another_keyed_hash_is_refused(tenant: Tenant) -> None:
    assert status_with(tenant, signed(tenant, claims_of(tenant), algorithm="HS512")) == 401


def test_a_token_that_was_changed_is_refused(tenant: Tenant) -> None:
    header, payload, signature = tenant.token().split(".")
    other = _part(claims_of(tenant, sub="someone else"))
    for token in (f"{header}.{other}.{signature}", f"{header}.{payload}.{'A' * len(signature)}", f"{header}.{payload}.{signature}.x"):
        assert status_with(tenant, token) == 401


@pytest.mark.parametrize(
    "token", ["..", "a..b", "é.é.é", "null.null.null", "W10.W10.W10", "eyJhbGciOiJIUzI1NiJ9.W10.AA", "e30.e30.", "a.b.c\0"]
)
def test_what_only_looks_like_a_token_is_refused(tenant: Tenant, token: str) -> None:
    assert status_with(tenant, token) == 401
