"""The routes that belong to no seed."""

from chalicelib.errors import Forbidden, InvalidName, JobNotFound, KeyNotFound, TenantNotFound
from chalicelib.surfaces.routes import Route, Surface
from chalicelib.surfaces.storage.routes import render

_VIEWS = "chalicelib.surfaces.platform.views:"
_SESSIONS = "chalicelib.surfaces.platform.sessions:"
_TENANTS = "chalicelib.surfaces.platform.tenants:"
_MODELS = "chalicelib.surfaces.platform.models:"
_TENANT_ERRORS = (TenantNotFound, InvalidName)

ROUTES = (
    Route("GET", "/health", _VIEWS + "health", "Whether the API answers", {200: _MODELS + "Health"}, needs_credential=False),
    Route("GET", "/openapi.json", _VIEWS + "openapi", "This document", {200: None}, needs_credential=False),
    Route(
        "POST", "/auth/token", _TENANTS + "create_token", "Sign a user token", {200: _MODELS + "CreatedToken"}, body=_MODELS + "CreateToken"
    ),
    Route(
        "POST",
        "/auth/session",
        _SESSIONS + "begin",
        "Exchange a user token for a cookie that the files surface takes",
        {200: _MODELS + "SessionBegun"},
    ),
    Route(
        "DELETE",
        "/auth/session",
        _SESSIONS + "end",
        "End a session",
        {200: _MODELS + "SessionEnded"},
        errors=(Forbidden,),
        needs_credential=False,
    ),
    Route(
        "POST",
        "/admin/tenants",
        _TENANTS + "create",
        "Create a tenant",
        {201: _MODELS + "CreatedTenant"},
        body=_MODELS + "CreateTenant",
        needs_tenant=False,
    ),
    Route("GET", "/admin/tenants", _TENANTS + "list_", "List the tenants", {200: _MODELS + "Tenants"}, needs_tenant=False),
    Route(
        "GET",
        "/admin/tenants/{tenant_id}",
        _TENANTS + "show",
        "Show a tenant",
        {200: _MODELS + "Tenant"},
        errors=_TENANT_ERRORS,
        needs_tenant=False,
    ),
    Route(
        "PATCH",
        "/admin/tenants/{tenant_id}",
        _TENANTS + "change",
        "Change a tenant's name, key set or audience",
        {200: _MODELS + "Tenant"},
        body=_MODELS + "ChangeTenant",
        errors=_TENANT_ERRORS,
        needs_tenant=False,
    ),
    Route(
        "DELETE",
        "/admin/tenants/{tenant_id}",
        _TENANTS + "delete",
        "Delete a tenant: its credentials within a minute, its buckets by a job",
        {200: _MODELS + "TenantDeletion"},
        errors=_TENANT_ERRORS,
        needs_tenant=False,
    ),
    Route(
        "POST",
        "/admin/tenants/{tenant_id}/keys",
        _TENANTS + "create_key",
        "Create a key",
        {201: _MODELS + "CreatedKey"},
        body=_MODELS + "CreateKey",
        errors=_TENANT_ERRORS,
        needs_tenant=False,
    ),
    Route(
        "GET",
        "/admin/tenants/{tenant_id}/keys",
        _TENANTS + "list_keys",
        "List the keys, oldest first",
        {200: _MODELS + "Keys"},
        errors=_TENANT_ERRORS,
        needs_tenant=False,
    ),
    Route(
        "DELETE",
        "/admin/tenants/{tenant_id}/keys/{key_id}",
        _TENANTS + "revoke_key",
        "Revoke a key, within a minute",
        {200: _MODELS + "Revoked"},
        errors=(*_TENANT_ERRORS, KeyNotFound),
        needs_tenant=False,
    ),
)

SURFACE = Surface("platform", ROUTES, render)

# Files that are fetched by a job may have been asked for by a session.
JOBS_SURFACE = Surface(
    "jobs",
    (
        Route(
            "GET",
            "/jobs/{job_id}",
            _VIEWS + "job",
            "How far a job is",
            {200: _MODELS + "Job"},
            errors=(JobNotFound, InvalidName),
            needs_tenant=False,  # the deletion of a tenant is an admin's
        ),
    ),
    render,
    takes_cookie=True,
)
