"""Whatever happens between any two calls: what was acknowledged is what the object has, and nothing else is left behind.

Each run plays several clients on one upload, by its seed, against the real engine on the embedded AWS: chunks that overlap,
repeat and contradict each other, requests stopped before and after any AWS call, killed there or let go on when their
lease is over, completion, termination, other writers of the same name, the cleanup in between, expiry. The storage takes
parts of 16 bytes here, and a page of parts has three, so that small uploads have everything that large ones have.
"""

import functools
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib import aws, providers, seam, workers
from chalicelib.access import cache
from chalicelib.core import sessions, sweeps, tenants
from chalicelib.providers.s3 import S3
from chalicelib.settings import settings
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import scan
from chalicelib.tables.uploads import UploadSession
from infra import stack
from tests.client import Answer, Client
from tests.conftest import Context, empty_everything, read_environment_again
from tests.durability.conftest import Stream
from tests.uploads import actors
from tests.uploads.actors import Actor

RUNS, BATCHES = 500, 20
STEPS = 40
PART = 16
TUS = "/storage/v1/upload/tus"
HEADERS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
HOUR, DAY = 3600, 24 * 3600
# What a client may be told in the middle of such a crowd; 503 only where too many write at once.
FORESEEN = {200, 204, 404, 409, 410, 413, 423, 503}


@pytest.fixture(scope="module")
def machinery(embedded: stack.EmbeddedAWS) -> Iterator[stack.EmbeddedAWS]:
    """Clients that stop at each call, small parts, tables that hold nothing else."""
    patch = pytest.MonkeyPatch()
    patch.setattr(S3, "min_part_bytes", PART)
    patch.setattr(sessions, "PARTS_PER_PAGE", 3)
    # Python 3.11 has one lock for all cached properties of a class, and a request's principal is one: nobody may stop in it.
    patch.setattr(cache, "LIFETIME", 10**9)
    read_environment_again()
    for event in ("before-send", "before-parse"):
        aws.session().register(event, actors.stop)
    patch.setattr(embedded, "client", functools.lru_cache(embedded.client))  # making one costs as much as a whole run
    yield embedded
    patch.undo()
    read_environment_again()


class Crowd:
    """One upload, and everybody who wants something of it. `told` is what happened, for whoever has to find out why."""

    # ---- the scene -----------------------------------------------------------------------------------
    def __init__(self, embedded: stack.EmbeddedAWS, seed: int, patch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(seed)
        self.told: list[str] = [f"seed {seed}"]
        self._moved = 0.0
        self._patch = patch
        patch.setattr(seam, "timestamp", lambda: time.time() + self._moved)
        from app import app

        made = tenants.create_tenant("crowd")
        self.aws, self.tenant_id = embedded, made.tenant_id
        self.client = Client(app, made.service_key)
        self.stream = Stream(embedded, made.tenant_id)
        self.client.bucket("b")
        self.actors: list[Actor] = []
        self.chunks: list[tuple[Actor, int, bytes]] = []
        self.reached = 0
        self.ended = self.completed = self.replaced = False
        self._begin()

    def _begin(self) -> None:
        self.total = self.random.choice([0, self.random.randint(1, PART), self.random.randint(PART, 12 * PART), 8 * PART])
        self.resumable = self.random.random() < 0.3
        self.deferred = not self.resumable and self.random.random() < 0.25
        if self.resumable:
            answer = self.client("POST", "/storage/upload/resumable", {"bucket": "b", "path": "o", "size": self.total})
            self.upload_id = answer.json()["upload_id"]
        else:
            length = {"Upload-Defer-Length": "1"} if self.deferred else {"Upload-Length": str(self.total)}
            answer = self.client("POST", TUS, headers={"Tus-Resumable": "1.0.0", "Upload-Metadata": "bucket Yg==,filename bw==", **length})
            self.upload_id = answer.headers["location"].rpartition("/")[2]
        assert answer.status == 201, answer.body
        self.told.append(f"{self.total} bytes, resumable {self.resumable}, deferred {self.deferred}")

    def _tus(self, method: str, body: bytes | None = None, **headers: str) -> Answer:
        sent = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.client(method, f"{TUS}/{self.upload_id}", body, sent)
        assert answer.status in FORESEEN, answer
        return answer

    def _act(self, what: str, act: Callable[[], Any], steps: int | None = None) -> Actor:
        """Somebody begins something, and comes some steps far with it, or to its end."""
        actor = Actor(act)
        self.actors.append(actor)
        steps = self.random.choice([0, self.random.randint(1, 12), 99]) if steps is None else steps
        self.told.append(f"#{len(self.actors) - 1} {what}, {steps} steps")
        actor.go_on(steps)
        return actor

    # ---- what may happen -----------------------------------------------------------------------------
    def play(self) -> None:
        """A number of things, at random, and after each what must hold."""
        weighted = [
            (self._send, 24),
            (self._send_elsewhere, 3),
            (self._overtake, 6),
            (self._go_on, 16),
            (self._finish, 8),
            (self._kill, 5),
            (self._outlast_the_lease, 6),
            (self._ask, 5),
            (self._complete_early, 5 if self.resumable else 0),
            (self._clean_up, 2),
            (self._replace, 1),
            (self._give_up, 0.5),
            (self._wait, 0.5),
            (self._expire, 0.3),
        ]
        happenings, weights = zip(*weighted, strict=True)
        for _ in range(self.random.randint(5, STEPS)):
            self.random.choices(happenings, weights)[0]()
            self._offsets_never_go_back()

    def _send(self) -> None:
        self._send_from(self.reached)

    def _send_elsewhere(self) -> None:
        self._send_from(self.random.choice([0, self.reached + 1, max(0, self.reached - self.random.randint(1, PART))]))

    def _overtake(self) -> None:
        """One stands still with the upload in hand; another takes over and gets some way; then the first goes on."""
        offset = self.reached
        self._send_from(offset, self.random.randint(2, 7))
        first = self.actors[-1]
        self._outlast_the_lease()
        self._send_from(offset, self.random.choice([99, self.random.randint(4, 12)]))
        self.told.append("the first goes on")
        first.finish()

    def _send_from(self, offset: int, steps: int | None = None) -> None:
        length = self.random.choice([0, 1, self.random.randint(1, 3 * PART), self.random.randint(1, PART), PART, self.total])
        room = max(0, self.total - offset)
        too_much = not self.deferred and self.random.random() < 0.05
        chunk = self.random.randbytes(room + 1 if too_much else min(length, room))
        told = {"Upload_Length": str(self.total)} if self.deferred and self.random.random() < 0.5 else {}

        def send() -> Answer:
            return self._tus("PATCH", chunk, Upload_Offset=str(offset), **told)

        self.chunks.append((self._act(f"sends {len(chunk)} bytes at {offset} {told or ''}", send, steps), offset, chunk))

    def _ask(self) -> None:
        self._act("asks", lambda: self._tus("HEAD"))

    def _complete_early(self) -> None:
        self._act("completes", self._complete)

    def _complete(self) -> Answer:
        answer = self.client("POST", f"/storage/upload/{self.upload_id}/complete")
        assert answer.status in FORESEEN, answer
        return answer

    def _somebody(self, what: str) -> Actor | None:
        alive = [number for number, actor in enumerate(self.actors) if actor.alive]
        if not alive:
            return None
        number = self.random.choice(alive)
        self.told.append(f"#{number} {what}")
        return self.actors[number]

    def _go_on(self) -> None:
        steps = self.random.randint(1, 8)
        if actor := self._somebody(f"goes on {steps} steps"):
            actor.go_on(steps)

    def _finish(self) -> None:
        if actor := self._somebody("finishes"):
            actor.finish()

    def _kill(self) -> None:
        if actor := self._somebody("is killed"):
            actor.kill()

    def _outlast_the_lease(self) -> None:
        """No function lives so long, but a machine that stood still might."""
        self.told.append("a lease passes")
        self._moved += sessions.LEASE + 1

    def _wait(self) -> None:
        """An hour: by now every function of before has ended."""
        self.told.append("an hour passes")
        for actor in self.actors:
            actor.kill()
        self._moved += HOUR

    def _clean_up(self) -> None:
        self._act("cleans up", lambda: workers.hourly({}, Context()))

    def _give_up(self) -> None:
        self.ended = True
        self._act("gives up", lambda: self._tus("DELETE"))

    def _replace(self) -> None:
        """Somebody else writes an object of the same name, or deletes what is there."""
        self.replaced = True
        self.told.append("the object is replaced or deleted")
        answer = self.client.delete("b", "o") if self.random.random() < 0.5 else self.client.put("b", "o", b"by somebody else")
        assert answer.status in (200, 201, 404)

    def _expire(self) -> None:
        self._wait()
        self.told.append("a day passes")
        self._moved += DAY
        self.ended = True

    # ---- what must hold ------------------------------------------------------------------------------
    def _offsets_never_go_back(self) -> None:
        session = UploadSession.read(self.upload_id, UploadSession.SESSION)
        assert session is not None
        assert session.offset >= self.reached
        self.reached = int(session.offset)
        for offset, chunk in self._acknowledged():
            assert self.reached >= offset + len(chunk)

    def _acknowledged(self) -> list[tuple[int, bytes]]:
        return [(offset, chunk) for actor, offset, chunk in self.chunks if actor.result is not None and actor.result.status == 204]

    def _check_bytes(self, body: bytes) -> None:
        """The object is what was acknowledged, and is made of chunks that were sent where they lie."""
        assert len(body) == self.total
        for offset, chunk in self._acknowledged():
            assert body[offset : offset + len(chunk)] == chunk
        ends = {0}
        for _, offset, chunk in sorted(self.chunks, key=lambda each: each[1]):
            if offset in ends and body[offset : offset + len(chunk)] == chunk:
                ends.add(offset + len(chunk))
        assert self.total in ends

    def _body(self, row: StoredObject) -> bytes:
        return providers.internal().read(row.physical_key, 0, int(row.size))

    # ---- the end -------------------------------------------------------------------------------------
    def end(self) -> None:
        """Everybody is gone; one comes back and goes on; then time passes."""
        for actor in self.actors:
            actor.kill()
        self._moved += sessions.LEASE + 1
        self._resume()
        self._check_object()
        self._leave_nothing()

    def leave(self) -> None:
        """Nothing of this run is there for the next."""
        for actor in self.actors:
            actor.kill()
        empty_everything()

    def _resume(self) -> None:
        """Whoever comes back later can go on, unless the upload was given up or has expired."""
        for _ in range(50):
            answer = self._tus("HEAD")
            if answer.status != 200:
                assert self.ended or (answer.status, self.total) == (404, 0), answer
                return
            offset = int(answer.headers["upload-offset"])
            if offset == self.total and "upload-defer-length" not in answer.headers:
                break
            chunk = self.random.randbytes(min(self.total - offset, self.random.randrange(1, 2 * PART)))
            told = {"Upload_Length": str(self.total)} if self.deferred else {}
            send = functools.partial(self._tus, "PATCH", chunk, Upload_Offset=str(offset), **told)
            actor = self._act(f"resumes with {len(chunk)} bytes at {offset}", send)
            self.chunks.append((actor, offset, chunk))
            assert actor.finish().status == 204, actor.result
        if self.resumable:
            assert self._complete().status == 200
        self.completed = True

    def _check_object(self) -> None:
        session = UploadSession.read(self.upload_id, UploadSession.SESSION)
        assert session is not None
        assert not self.completed or session.status == sessions.DONE
        if session.status != sessions.DONE:
            return
        made = StoredObject(**session.result)
        now_there = StoredObject.read(made.partition, made.name)
        if not self.replaced:
            assert now_there is not None
            assert now_there.version == made.version
        self._check_bytes(self._body(made))  # superseded or not: its bytes stay for a day
        assert made.checksum == hashlib.sha256(self._body(made)).hexdigest()

    def _leave_nothing(self) -> None:
        """After a day, and another for the garbage, the storage holds what rows name and nothing else."""
        self.stream.deliver()
        self._moved += DAY + 2 * HOUR
        self._clean_until_nothing_is_due()
        self._moved += DAY + 2 * HOUR
        self._clean_until_nothing_is_due()
        if self._stray():  # bytes of a writer that was killed right after it had stored them
            self._sweep()
        assert self._stray() == set()
        assert self._multipart_uploads() == []
        for row in self._rows():
            assert providers.internal().stat(row.physical_key)

    def _clean_until_nothing_is_due(self) -> None:
        report = workers.hourly({}, Context())
        assert report["uploads"]["left"] == 0, report
        assert all(each["stopped"] is None for each in report["sweeps"].values()) or self._stray(), report

    def _rows(self) -> list[StoredObject]:
        return [StoredObject.from_raw_data(item) for page in scan(StoredObject) for item in page if "physical_key" in item]

    def _stray(self) -> set[str]:
        named = {row.physical_key for row in self._rows()}
        stored = providers.internal().list(f"objects/{self.tenant_id}-")
        staged = providers.internal().list(f"uploads/{self.upload_id}/")
        return {listed.key for listing in (stored, staged) for listed in listing} - named

    def _multipart_uploads(self) -> list[str]:
        answer = self.aws.client("s3").list_multipart_uploads(Bucket=settings().s3_bucket)
        return [upload["Key"] for upload in answer.get("Uploads", ()) if self.tenant_id in upload["Key"]]

    def _sweep(self) -> None:
        """In the next round the orphans are found, then looked at again and again, and go when their week is over."""
        self._patch.setattr(sweeps, "MOST", 1.0)  # they are few among many, elsewhere
        self._moved += 8 * DAY
        for _ in range(sweeps.SIGHTINGS + 1):
            self._moved += 9 * HOUR
            workers.hourly({}, Context())
        self._moved += 8 * DAY
        workers.hourly({}, Context())


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_crowd_on_one_upload_leaves_the_right_object_or_none_and_nothing_else(machinery: stack.EmbeddedAWS, batch: int) -> None:
    for seed in range(batch * RUNS // BATCHES, (batch + 1) * RUNS // BATCHES):
        with pytest.MonkeyPatch.context() as patch:
            crowd = Crowd(machinery, seed, patch)
            try:
                crowd.play()
                crowd.end()
            except BaseException as error:
                error.add_note("\n".join(crowd.told))
                raise
            finally:
                crowd.leave()
