"""Policies over HTTP."""

from typing import TYPE_CHECKING

from chalicelib.access.permissions import Operation, require_service
from chalicelib.core import policies
from chalicelib.surfaces.http import Request, json_answer
from chalicelib.tables.policies import StoredPolicy
from chalicelib.webapp import Answer

if TYPE_CHECKING:
    from chalicelib.access.policy.explaining import Expression
    from chalicelib.surfaces.storage import models


def create(request: Request, body: "models.CreatePolicy") -> Answer:
    require_service(request.principal, "creating a policy")
    made = policies.create(request.principal.tenant_id, body.bucket, body.name, Operation(body.operation), body.definition)
    return json_answer(201, _shown(made))


def of_bucket(request: Request) -> Answer:
    require_service(request.principal, "listing policies")
    return json_answer(200, [_shown(each) for each in policies.of_bucket(request.principal.tenant_id, request.path("bucket"))])


def delete(request: Request) -> Answer:
    require_service(request.principal, "deleting a policy")
    policies.delete(request.principal.tenant_id, request.path("policy_id"))
    return json_answer(200, {})


def explain(request: Request, body: "models.ExplainPolicy") -> Answer:
    require_service(request.principal, "explaining policies")
    explanation = policies.explain(
        request.principal.tenant_id, body.bucket, Operation(body.operation), body.path, body.named_claims(), body.prospect()
    )
    verdicts: list[models.Verdict] = [
        {
            "id": verdict.policy.policy_id,
            "name": verdict.policy.name,
            "value": verdict.value,
            "expressions": [_expression(each) for each in verdict.expressions],
        }
        for verdict in explanation.verdicts
    ]
    decided = explanation.decided_by
    shown: models.Explanation = {
        "allowed": explanation.allowed,
        "reason": explanation.reason,  # type: ignore[typeddict-item]  # written by core/policies.py alone
        "decided_by": {"id": decided.policy_id, "name": decided.name} if decided else None,
        "policies": verdicts,
    }
    return json_answer(200, shown)


def _expression(part: "Expression") -> "models.Expression":
    return {"expression": part.expression, "type": part.type, "value": part.value, "error": part.error}


def _shown(policy: StoredPolicy) -> "models.Policy":
    return {
        "id": policy.policy_id,
        "bucket": policy.bucket,
        "name": policy.name,
        "operation": policy.operation,  # type: ignore[typeddict-item]  # written by core/policies.py alone
        "definition": policy.definition,
        "created_at": policy.created_at,
    }
