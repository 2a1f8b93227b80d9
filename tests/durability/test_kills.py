"""The API process is killed at every step of an overwrite and of a delete, two hundred times in all.

Half of the kills are aimed: the process ends itself right before an AWS call is sent, or right after its answer
came. The other half fall at random moments from outside. AWS itself, which the embedded one stands for, goes on.
"""

import hashlib
import http.client
import json
import random
from collections import Counter
from typing import Any

import pytest

from tests.durability.api_process import KILLED, ApiProcess, die_at

AIMED, RANDOM = 50, 50
# Cold, a write makes four calls beside those it is about: key, bucket. Each has a step before and one after.
STEPS = 12
LONGEST = 0.06
NAME = "/storage/object/b/photo.jpg"


class Trial:
    """One object, written and killed over and over."""

    def __init__(self, tenant: Any, seed: str) -> None:
        self._random = random.Random(seed)
        self._headers = {"Authorization": f"Bearer {tenant.service_key}", "Content-Type": "image/jpeg"}
        self.outcomes: Counter[str] = Counter()

    def body(self) -> bytes:
        return self._random.randbytes(self._random.choice([1, 100, 10_000, 300_000]))

    def send_and_kill(self, number: int, method: str, body: bytes | None) -> int | None:
        """Send a request to a process that is killed over it; gives the status if an answer came all the same."""
        aimed = number < AIMED
        process = ApiProcess(die_at(self._random.randrange(STEPS)) if aimed else lambda: None)
        timer = None if aimed else process.kill_after(self._random.uniform(0, LONGEST))
        try:
            return process.ask(method, NAME, body, self._headers).status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            if timer:
                timer.join()
            assert process.reap() == KILLED

    def served(self) -> bytes | None:
        """What a restarted process serves, which must be what its row says; None: no such object."""
        process = ApiProcess()
        try:
            answer = process.ask("GET", NAME, headers=self._headers)
            info = process.ask("GET", NAME.replace("/object/", "/object-info/"), headers=self._headers)
            assert answer.status == info.status
            if answer.status == 404:
                return None
            row = json.loads(info.body)
            assert hashlib.sha256(answer.body).hexdigest() == row["checksum"]
            assert len(answer.body) == row["size"]
            return answer.body
        finally:
            process.reap()


@pytest.fixture
def trial(tenant: Any, request: pytest.FixtureRequest) -> Trial:
    tenant.service.bucket("b")
    return Trial(tenant, request.node.name)


def test_an_overwrite_killed_anywhere_leaves_the_old_object_or_the_new_one(trial: Trial, tenant: Any) -> None:
    old = trial.body()
    tenant.service.put("b", "photo.jpg", old, "image/jpeg")
    for number in range(AIMED + RANDOM):
        new = trial.body()
        status = trial.send_and_kill(number, "POST", new)
        served = trial.served()
        assert served in (old, new)
        if status is not None:
            assert served == new  # what was acknowledged is there
        trial.outcomes["new" if served == new else "old"] += 1
        old = served
    assert trial.outcomes["new"] >= 5, trial.outcomes  # the kills did fall on both sides of the flip
    assert trial.outcomes["old"] >= 5, trial.outcomes


def test_a_delete_killed_anywhere_leaves_the_object_whole_or_gone(trial: Trial, tenant: Any) -> None:
    for number in range(AIMED + RANDOM):
        body = trial.body()
        tenant.service.put("b", "photo.jpg", body, "image/jpeg")
        status = trial.send_and_kill(number, "DELETE", None)
        served = trial.served()
        assert served in (body, None)
        if status is not None:
            assert served is None
        trial.outcomes["gone" if served is None else "there"] += 1
    assert trial.outcomes["gone"] >= 5, trial.outcomes
    assert trial.outcomes["there"] >= 5, trial.outcomes
