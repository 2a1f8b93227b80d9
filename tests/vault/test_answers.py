"""What the vault's routes answer is what /openapi.json says, fields, types and all."""

from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chalicelib.surfaces.vault.routes import SURFACE
from tests.client import Answer
from tests.conftest import run_job
from tests.vault.conftest import UNKNOWN, Vault, put

ROUTES = {(route.method, route.path) for route in SURFACE.routes if not route.path.startswith("/storages/")}


@pytest.fixture
def checked(own: Vault) -> Callable[..., Any]:
    """Asks, and gives the answer once it has been held against the document; `checked.asked` are the routes so far."""
    document = own.client("GET", "/openapi.json").json()

    def ask(method: str, path: str, body: dict[str, Any] | None = None, status: int = 200) -> Any:
        answer: Answer = own.client(method, path, body)
        assert answer.status == status, answer.body
        route = path.partition("?")[0]
        declared = document["paths"][route][method.lower()]["responses"][str(status)]["content"]["application/json"]["schema"]
        schema = {**document, **_strict(declared, document)}
        problems = [problem.message for problem in Draft202012Validator(schema).iter_errors(answer.json())]
        assert problems == []
        ask.asked.add((method, route))  # type: ignore[attr-defined]
        return answer.json()

    ask.asked = set()  # type: ignore[attr-defined]
    return ask


def _strict(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """The schema, whose objects have no fields but those that it names."""
    for each in document["components"]["schemas"].values():
        if each.get("type") == "object" and "properties" in each:
            each["additionalProperties"] = False
    return schema


def test_every_route_answers_what_the_document_says(checked: Any, own: Vault, internal: Vault, brought: Callable[..., Vault]) -> None:
    key_uuid = checked("POST", "/keys/create", {"name": "n", "storage_uuid": own.storage_uuid}, 201)["key_uuid"]
    at_home = checked("POST", "/keys/create", {"name": "n"}, 201)["key_uuid"]
    checked("PATCH", "/keys/edit", {"key_uuid": key_uuid, "name": "m"})
    wanted = {"key_uuid": key_uuid, "size_bytes": 51, "content_md5": own.begin(key_uuid)["headers"]["Content-MD5"]}
    begun = checked("POST", "/deltas/upload", wanted, 201)
    assert put(begun) == 200
    ids = {name: begun[name] for name in ("delta_uuid", "upload_attempt_uuid")}
    checked("POST", "/deltas/confirm", ids)
    checked("GET", "/keys/list")
    checked("GET", f"/deltas/list?key_uuid={key_uuid}")
    checked("GET", f"/deltas/download?delta_uuid={begun['delta_uuid']}")
    checked("GET", "/keys/storage-limits")
    for each in (key_uuid, at_home):
        checked("GET", f"/keys/storage-limits?key_uuid={each}")
    section = {"delta_uuid": begun["delta_uuid"], "start": 0, "length": 1}
    claim_id = checked("POST", "/deltas/claim", section, 201)["claim_id"]
    checked("GET", f"/deltas/claims?delta_uuid={begun['delta_uuid']}")
    checked("DELETE", "/deltas/claim", {"delta_uuid": begun["delta_uuid"], "claim_id": claim_id})
    other = brought()
    job_id = checked("POST", "/keys/migrate", {"key_uuid": key_uuid, "storage_uuid": other.storage_uuid}, 202)["job_id"]
    run_job(job_id)
    other.owner.delete([f"{other.folder}{key_uuid}/{begun['delta_uuid']}"])
    assert checked("GET", f"/keys/check-layout?key_uuid={key_uuid}")["missing"]
    checked("DELETE", f"/deltas/delete?delta_uuid={begun['delta_uuid']}")
    checked("POST", "/keys/delete", {"key_uuid": key_uuid})
    checked("DELETE", f"/keys/delete?key_uuid={at_home}")
    checked("DELETE", f"/keys/delete?key_uuid={UNKNOWN}", status=404)
    assert checked.asked == ROUTES
