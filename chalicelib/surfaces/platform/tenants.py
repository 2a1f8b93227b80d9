"""Tenants, their keys and tokens over HTTP."""

from typing import TYPE_CHECKING

from chalicelib import seam
from chalicelib.access import tokens
from chalicelib.access.permissions import require_admin, require_service
from chalicelib.access.principals import Role
from chalicelib.core import tenants
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.tables.tenants import ApiKey, Tenant
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.surfaces.platform import models


def create(request: Request, body: "models.CreateTenant") -> Answer:
    require_admin(request.principal, "creating a tenant")
    created = tenants.create_tenant(body.name, body.jwks_url, body.jwt_audience)
    shown: models.CreatedTenant = {
        "tenant_id": created.tenant_id,
        "service_key": created.service_key,
        "anon_key": created.anon_key,
        "jwt_secret": created.jwt_secret,
    }
    return json_answer(201, shown)


def list_(request: Request) -> Answer:
    require_admin(request.principal, "listing the tenants")
    return json_answer(200, [_shown(tenant) for tenant in tenants.all_tenants()])


def show(request: Request) -> Answer:
    require_admin(request.principal, "showing a tenant")
    return json_answer(200, _shown(tenants.get_tenant(request.path("tenant_id"))))


def change(request: Request, body: "models.ChangeTenant") -> Answer:
    require_admin(request.principal, "changing a tenant")
    return json_answer(200, _shown(tenants.change_tenant(request.path("tenant_id"), body.changes())))


def delete(request: Request) -> Answer:
    require_admin(request.principal, "deleting a tenant")
    shown: models.TenantDeletion = {"job_id": tenants.delete_tenant(request.principal, request.path("tenant_id")).job_id}
    return json_answer(200, shown)


def create_key(request: Request, body: "models.CreateKey") -> Answer:
    require_admin(request.principal, "creating a key")
    key, row = tenants.create_key(request.path("tenant_id"), Role(body.role), body.name, body.permissions)
    shown: models.CreatedKey = {**_shown_key(row), "key": key}
    return json_answer(201, shown)


def list_keys(request: Request) -> Answer:
    require_admin(request.principal, "listing keys")
    return json_answer(200, [_shown_key(row) for row in tenants.keys_of(request.path("tenant_id"))])


def revoke_key(request: Request) -> Answer:
    require_admin(request.principal, "revoking a key")
    tenants.revoke_key(request.path("tenant_id"), request.path("key_id"))
    return json_answer(200, {})


def create_token(request: Request, body: "models.CreateToken") -> Answer:
    require_service(request.principal, "signing a token")
    claims = body.model_dump(exclude={"ttl_seconds"}, exclude_none=True)
    token, expires_at = tokens.issue(request.principal.tenant_id, claims, body.ttl_seconds)
    shown: models.CreatedToken = {"token": token, "expires_at": seam.iso(seam.at(expires_at))}
    return json_answer(200, shown)


def _shown(tenant: Tenant) -> "models.Tenant":
    return {
        "tenant_id": tenant.tenant_id,
        "name": tenant.name,
        "jwks_url": tenant.jwks_url,
        "jwt_audience": tenant.jwt_audience,
        "created_at": tenant.created_at,
    }


def _shown_key(row: ApiKey) -> "models.Key":
    return {
        "id": row.key_id,
        "role": row.role,  # type: ignore[typeddict-item]  # written by core/tenants.py alone
        "name": row.name,
        "permissions": row.permissions,
        "created_at": row.created_at,
    }
