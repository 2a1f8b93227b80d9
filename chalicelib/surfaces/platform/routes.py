"""The routes that belong to no seed."""

from chalicelib.errors import InvalidName, JobNotFound, TenantNotFound
from chalicelib.surfaces.routes import Route, Surface
from chalicelib.surfaces.storage.routes import SURFACE as STORAGE

_VIEWS = "chalicelib.surfaces.platform.views:"
_MODELS = "chalicelib.surfaces.platform.models:"

ROUTES = (
    Route("GET", "/health", _VIEWS + "health", "Whether the API answers", {200: _MODELS + "Health"}, needs_credential=False),
    Route("GET", "/openapi.json", _VIEWS + "openapi", "This document", {200: None}, needs_credential=False),
    Route("GET", "/jobs/{job_id}", _VIEWS + "job", "How far a job is", {200: _MODELS + "Job"}, errors=(JobNotFound, InvalidName)),
    Route(
        "POST",
        "/admin/tenants",
        _VIEWS + "create_tenant",
        "Create a tenant",
        {201: _MODELS + "CreatedTenant"},
        body=_MODELS + "CreateTenant",
        needs_tenant=False,
    ),
    Route("GET", "/admin/tenants", _VIEWS + "list_tenants", "List the tenants", {200: _MODELS + "Tenants"}, needs_tenant=False),
    Route(
        "GET",
        "/admin/tenants/{tenant_id}",
        _VIEWS + "get_tenant",
        "Show a tenant",
        {200: _MODELS + "Tenant"},
        errors=(TenantNotFound, InvalidName),
        needs_tenant=False,
    ),
)

SURFACE = Surface("platform", ROUTES, STORAGE.render)
