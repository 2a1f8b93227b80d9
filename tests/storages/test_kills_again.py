"""The API process is killed at every step of a write and of a delete on a tenant's own storage.

Fewer kills than `tests/durability/test_kills.py` has, and none by chance alone: what is proved there of the tables is not proved anew.
Aimed kills lie at calls of AWS; those that fall at a moment from outside also hit what is sent to the storage.
"""

import http.client
from typing import Any

import pytest

from tests.conftest import Tenant
from tests.durability.api_process import KILLED, ApiProcess, die_at
from tests.durability.test_kills import NAME, Trial

# Steps of a cold write, the look at the storage's row among them; and seconds after which it is killed from outside.
STEPS = 14
MOMENTS = (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3)
ON = {"*": ("sftp", "strict_s3")}


@pytest.fixture
def trial(tenant: Tenant, request: pytest.FixtureRequest) -> Trial:
    tenant.service.bucket("b")
    return Trial(tenant, request.node.name)


def send_and_kill(trial: Trial, number: int, method: str, body: bytes | None) -> int | None:
    """Send a request to a process that is killed over it; gives the status if an answer came all the same."""
    aimed = number < STEPS
    process = ApiProcess(die_at(number) if aimed else lambda: None)
    timer = None if aimed else process.kill_after(MOMENTS[number - STEPS])
    try:
        return process.ask(method, NAME, body, trial._headers).status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        if timer:
            timer.join()
        assert process.reap() == KILLED


def test_an_overwrite_killed_anywhere_leaves_the_old_object_or_the_new_one(trial: Trial, tenant: Any) -> None:
    old, seen = trial.body(), set()
    tenant.service.put("b", "photo.jpg", old, "image/jpeg")
    for number in range(STEPS + len(MOMENTS)):
        new = trial.body()
        status = send_and_kill(trial, number, "POST", new)
        served = trial.served()
        assert served in (old, new)
        if status is not None:
            assert served == new  # what was acknowledged is there
        seen.add(served == new)
        old = served
    assert seen == {True, False}  # the kills did fall on both sides of the flip


def test_a_delete_killed_anywhere_leaves_the_object_whole_or_gone(trial: Trial, tenant: Any) -> None:
    seen = set()
    for number in range(STEPS + len(MOMENTS)):
        body = trial.body()
        tenant.service.put("b", "photo.jpg", body, "image/jpeg")
        status = send_and_kill(trial, number, "DELETE", None)
        served = trial.served()
        assert served in (body, None)
        if status is not None:
            assert served is None
        seen.add(served is None)
    assert seen == {True, False}
