"""Health, OpenAPI, jobs and tenants over HTTP."""

from typing import TYPE_CHECKING

from chalicelib.access.permissions import require_admin
from chalicelib.core import jobs, tenants
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.tables.tenants import Tenant
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.platform import models


def health(request: Request) -> Answer:
    return json_answer(200, {"status": "ok"})


def openapi(request: Request) -> Answer:
    from chalicelib.surfaces.openapi import document

    return json_answer(200, document() | {"servers": [{"url": request.base_url}]})


def job(request: Request) -> Answer:
    found = jobs.get(request.principal, request.path("job_id"))
    shown: models.Job = {
        "id": found.job_id,
        "kind": found.kind,
        "status": found.status,  # type: ignore[typeddict-item]  # written by core/jobs.py alone
        "done": int(found.done),
        "total": None if found.total is None else int(found.total),
        "error": found.error,
    }
    return json_answer(200, shown)


def create_tenant(request: Request, body: "models.CreateTenant") -> Answer:
    require_admin(request.principal, "creating a tenant")
    created = tenants.create_tenant(body.name)
    shown: models.CreatedTenant = {
        "tenant_id": created.tenant_id,
        "service_key": created.service_key,
        "anon_key": created.anon_key,
        "jwt_secret": created.jwt_secret,
    }
    return json_answer(201, shown)


def list_tenants(request: Request) -> Answer:
    require_admin(request.principal, "listing the tenants")
    return json_answer(200, [_shown(tenant) for tenant in tenants.all_tenants()])


def get_tenant(request: Request) -> Answer:
    require_admin(request.principal, "showing a tenant")
    return json_answer(200, _shown(tenants.get_tenant(request.path("tenant_id"))))


def _shown(tenant: Tenant) -> "models.Tenant":
    return {"tenant_id": tenant.tenant_id, "name": tenant.name, "created_at": tenant.created_at}
