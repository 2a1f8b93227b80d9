"""Health, OpenAPI and jobs over HTTP."""

from typing import TYPE_CHECKING

from chalicelib.core import jobs
from chalicelib.surfaces.http import Request, json_answer
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
