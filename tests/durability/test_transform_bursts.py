"""Many who ask for the same picture at once, and what they ask failing under them: claims, the image function, its limits."""

import io
import json
import math
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from chalicelib import aws, providers, seam
from chalicelib.core import limits, transforms
from chalicelib.errors import Throttled
from chalicelib.images.options import parse
from chalicelib.surfaces import dispatch
from chalicelib.surfaces.mounted import SURFACES
from chalicelib.surfaces.platform.routes import SURFACE as PLATFORM
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.transforms import Transform
from chalicelib.webapp import StowageApp
from infra import invoker
from tests.client import Answer, Client, together
from tests.conftest import Call, Clock
from tests.durability.api_process import KILLED, ApiProcess, die_at

ASKING = 40
PATH = "/storage/object/b/photo.png"
INVOKE, GET_ITEM = Call("lambda", "Invoke"), Call("dynamodb", "GetItem")


def written(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


PHOTO = written(Image.new("RGB", (80, 40), (255, 0, 0)))
# Three kilobytes that take a second: 23 megapixels of one bit each.
SLOW = written(Image.new("1", (4800, 4800)))


def told(answer: Any) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["code"] if answer.status >= 400 else ""


def size_of(answer: Any) -> tuple[int, int]:
    assert answer.status == 200, answer.body
    return Image.open(io.BytesIO(answer.body)).size


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "what was awaited did not happen"
        time.sleep(0.01)


class Photo:
    """The picture `photo.png` in bucket `b` of a tenant, 80 pixels by 40."""

    def __init__(self, tenant: Any) -> None:
        self.tenant = tenant
        self.bucket_id = tenant.service.bucket("b")["id"]
        self.version = tenant.service.put("b", "photo.png", PHOTO, "image/png").json()["version"]
        tenant.service.get("b", "photo.png")  # by now this process has seen key and bucket

    def ask(self, width: int = 20, client: Client | None = None) -> Answer:
        return (client or self.tenant.service)("GET", f"{PATH}?width={width}")

    def key(self, width: int = 20) -> str:
        return f"{transforms.FOLDER}{self.bucket_id}/{self.version}/{parse({'width': str(width)})}"

    def row(self, width: int = 20) -> Any:
        """What is known of that transform, or None."""
        return Transform.read(self.key(width))

    def claim(self, seconds: float, width: int = 20) -> Transform:
        """The claim of someone who is never heard of again, for so many more seconds."""
        now = seam.timestamp()
        row = Transform(self.key(width), token="theirs", state=transforms.MAKING, until=now + seconds, expires_at=int(now) + 86_400)
        row.save()
        return row

    def functions(self, number: int) -> list[Client]:
        """As many clients, each of an app of its own: a Lambda process serves one request at a time."""
        made = []
        for _ in range(number):
            app = StowageApp("stowage")
            dispatch.mount(app, SURFACES, otherwise=PLATFORM)
            made.append(Client(app, self.tenant.service_key))
        return made


class StandingClock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))


@pytest.fixture
def standing(embedded: Any, monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    made = StandingClock()
    monkeypatch.setattr(seam, "timestamp", lambda: made.now)
    return made


@pytest.fixture
def photo(image_function: Any, tenant: Any) -> Photo:
    return Photo(tenant)


# ---- many at once --------------------------------------------------------------------------------------
def test_of_forty_that_ask_at_once_one_has_it_made(photo: Photo, calls: list[Call]) -> None:
    answers = together([lambda client=client: photo.ask(client=client) for client in photo.functions(ASKING)])  # type: ignore[misc]
    assert [answer.status for answer in answers] == [200] * ASKING
    assert {answer.body for answer in answers} == {photo.ask().body}
    assert {answer.headers["etag"] for answer in answers} == {photo.ask().headers["etag"]}
    assert calls.count(INVOKE) == 1


def test_of_twenty_pictures_that_are_asked_for_at_once_each_is_right(photo: Photo, calls: list[Call]) -> None:
    widths = [2 * (number % 20 + 1) for number in range(ASKING)]
    clients = photo.functions(ASKING)
    answers = together([lambda at=at: photo.ask(widths[at], clients[at]) for at in range(ASKING)])  # type: ignore[misc]
    assert [size_of(answer) for answer in answers] == [(width, width // 2) for width in widths]
    assert calls.count(INVOKE) == 20


def test_of_many_that_ask_for_what_cannot_be_decoded_one_has_it_tried(photo: Photo, calls: list[Call]) -> None:
    photo.tenant.service.put("b", "photo.png", PHOTO[:60], "image/png")
    answers = together([lambda client=client: photo.ask(client=client) for client in photo.functions(8)])  # type: ignore[misc]
    assert [told(answer) for answer in answers] == [(422, "UnprocessableImage")] * 8
    assert calls.count(INVOKE) == 1


def test_of_many_that_ask_when_no_more_may_be_made_each_is_told_at_once(
    photo: Photo, choose: Callable[[str, str], None], standing: StandingClock, calls: list[Call]
) -> None:
    choose("STOWAGE_TRANSFORMS_PER_MINUTE", "1")
    assert photo.ask(30).status == 200
    calls.clear()
    answers = together([lambda client=client: photo.ask(client=client) for client in photo.functions(8)])  # type: ignore[misc]
    assert [told(answer) for answer in answers] == [(429, "Throttled")] * 8
    assert INVOKE not in calls
    assert photo.row() is None
    standing.now += 60
    assert size_of(photo.ask()) == (20, 10)


# ---- claims --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [-1, 0.3])
def test_the_claim_of_who_died_is_taken_over_when_it_is_past(photo: Photo, calls: list[Call], seconds: float) -> None:
    photo.claim(seconds)
    ends = seam.timestamp() + seconds
    assert size_of(photo.ask()) == (20, 10)
    assert seam.timestamp() >= ends
    assert calls.count(INVOKE) == 1
    assert (photo.row().state, photo.row().token == "theirs") == (transforms.MADE, False)


def test_of_many_that_find_a_past_claim_one_takes_it_over(photo: Photo, calls: list[Call]) -> None:
    photo.claim(-1)
    answers = together([lambda client=client: photo.ask(client=client) for client in photo.functions(8)])  # type: ignore[misc]
    assert [size_of(answer) for answer in answers] == [(20, 10)] * 8
    assert calls.count(INVOKE) == 1


@pytest.fixture
def waiting(photo: Photo, standing: StandingClock, calls: list[Call]) -> Any:
    """Asks for what another is making, and gives the answer to come once it waits."""
    with ThreadPoolExecutor(1) as pool:

        def begin() -> Any:
            calls.clear()
            coming = pool.submit(photo.ask)
            eventually(lambda: calls.count(GET_ITEM) >= 3)
            assert not coming.done()
            assert INVOKE not in calls
            return coming

        yield begin


def test_who_waits_has_what_the_other_made(photo: Photo, waiting: Any, calls: list[Call]) -> None:
    row = photo.claim(20)
    coming, made = waiting(), written(Image.new("RGB", (7, 7)))
    providers.internal().put(photo.key(), made, "image/png")
    row.state = transforms.MADE
    row.save()
    assert coming.result().body == made
    assert INVOKE not in calls


def test_who_waits_has_the_refusal_that_the_other_met(photo: Photo, waiting: Any, calls: list[Call]) -> None:
    row = photo.claim(20)
    coming = waiting()
    row.state, row.refusal = transforms.REFUSAL, json.dumps({"message": "it is too odd", "details": {"most": 3}})
    row.save()
    answer = coming.result()
    assert told(answer) == (422, "UnprocessableImage")
    assert (answer.json()["message"], answer.json()["details"]) == ("it is too odd", {"most": 3})
    assert INVOKE not in calls


def test_who_waits_makes_it_when_the_other_gave_up(photo: Photo, waiting: Any, calls: list[Call]) -> None:
    row = photo.claim(20)
    coming = waiting()
    row.delete()
    assert size_of(coming.result()) == (20, 10)
    assert calls.count(INVOKE) == 1


def test_who_has_waited_too_long_is_told_to_come_again(
    photo: Photo, clock: Clock, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo.claim(60)
    monkeypatch.setattr(seam, "sleep", clock.advance)
    answer = photo.ask()
    assert told(answer) == (503, "Unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert clock.moved < 28  # what the API function has in all
    assert INVOKE not in calls
    assert photo.row().token == "theirs"


def test_who_has_waited_for_long_makes_nothing_that_it_could_not_answer_with(
    photo: Photo, clock: Clock, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API function lives 28 seconds, and making a picture may take most of them."""
    row = photo.claim(60)

    def give_up_meanwhile(seconds: float) -> None:
        clock.advance(seconds)
        if clock.moved > 10:
            row.delete()

    monkeypatch.setattr(seam, "sleep", give_up_meanwhile)
    assert told(photo.ask()) == (503, "Unavailable")
    assert clock.moved < 12
    assert INVOKE not in calls
    assert size_of(photo.ask()) == (20, 10)


def test_who_was_taken_over_answers_and_leaves_the_claim_to_the_other(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke = transforms._invoke

    def overtaken(*arguments: Any) -> Any:
        answer = invoke(*arguments)
        photo.claim(20)
        return answer

    monkeypatch.setattr(transforms, "_invoke", overtaken)
    assert size_of(photo.ask()) == (20, 10)
    assert (photo.row().token, photo.row().state) == ("theirs", transforms.MAKING)


# ---- answers that get lost -----------------------------------------------------------------------------
def lose(monkeypatch: pytest.MonkeyPatch, client: Any, is_lost: Callable[[Any], bool]) -> list[int]:
    """The first answer to a request that `is_lost` is lost after the server has done it."""
    lost: list[int] = []
    session = client._endpoint.http_session
    send = session.send

    def sending(request: Any) -> Any:
        answer = send(request)
        if not lost and is_lost(request):
            lost.append(answer.status_code)
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer

    monkeypatch.setattr(session, "send", sending)
    return lost


@pytest.mark.parametrize(("operation", "number"), [("PutItem", 1), ("UpdateItem", 1), ("PutItem", 2)], ids=["claim", "token", "end"])
def test_a_write_whose_first_answer_was_lost_is_not_noticed(
    photo: Photo, calls: list[Call], monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    seen: list[Any] = []

    def is_lost(request: Any) -> bool:
        seen.extend([operation] * request.headers["X-Amz-Target"].decode().endswith(operation))
        return len(seen) == number

    lost = lose(monkeypatch, aws.client("dynamodb"), is_lost)
    assert size_of(photo.ask()) == (20, 10)
    assert lost == [200]
    assert calls.count(INVOKE) == 1
    assert photo.row().state == transforms.MADE


def test_what_was_made_and_not_told_is_there_for_the_next(photo: Photo, calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    lost = lose(monkeypatch, transforms._lambda(), lambda _: True)
    assert told(photo.ask()) == (503, "Unavailable")
    assert lost == [200]
    assert photo.row() is None
    assert size_of(photo.ask()) == (20, 10)
    assert calls.count(INVOKE) == 1


def of_its_own(arm: Callable[[], None]) -> Callable[[], None]:
    """Have a process make a client of Lambda for itself, too, before it is armed."""

    def before() -> None:
        transforms._lambda.cache_clear()
        arm()

    return before


def test_a_request_that_is_killed_at_any_step_keeps_nobody_from_the_picture(photo: Photo, clock: Clock, calls: list[Call]) -> None:
    headers = {"Authorization": f"Bearer {photo.tenant.service_key}"}
    ended = 0
    for step in range(40):
        api = ApiProcess(before=of_its_own(die_at(step)))
        try:
            answer = api.ask("GET", f"{PATH}?width={step + 1}", headers=headers)
        except OSError:
            ended += 1
        else:
            assert size_of(answer)[0] == step + 1
            break
        finally:
            assert api.reap() == KILLED
    assert ended >= 12  # a look, a claim, a token, an invocation and the end: before and after each
    clock.advance(transforms.CLAIM + 1)
    calls.clear()
    assert [size_of(photo.ask(width))[0] for width in range(1, ended + 1)] == list(range(1, ended + 1))
    assert 0 < calls.count(INVOKE) < ended  # what was made is not made again


# ---- the image function --------------------------------------------------------------------------------
@pytest.fixture
def alone(photo: Photo, new_image_function: Any) -> invoker.Server:
    """An image function of one process, which has just been at work, and for which nobody waits."""
    server: invoker.Server = new_image_function(concurrency=1, patience=0)
    assert size_of(photo.ask(80)) == (80, 40)
    return server


def process_of(server: invoker.Server) -> Any:
    return server._workers[0]._process


def test_a_function_that_is_busy_is_to_be_asked_again(photo: Photo, alone: invoker.Server, calls: list[Call]) -> None:
    worker = alone.idle.get()
    for _ in range(2):
        answer = photo.ask()
        assert (told(answer), answer.headers["retry-after"]) == ((429, "Throttled"), "1")
        assert photo.row() is None
    alone.idle.put(worker)
    calls.clear()
    assert size_of(photo.ask()) == (20, 10)
    assert calls.count(INVOKE) == 1


def test_what_was_refused_by_a_busy_function_comes_when_it_is_asked_again(photo: Photo, alone: invoker.Server) -> None:
    left, met = dict(zip(range(1, 9), photo.functions(8), strict=True)), set()
    for _ in range(20):
        answers = together([lambda width=width, client=client: photo.ask(width, client) for width, client in left.items()])  # type: ignore[misc]
        met |= {told(answer) for answer in answers}
        done = [width for width, answer in zip(left, answers, strict=True) if answer.status == 200 and size_of(answer)[0] == width]
        left = {width: client for width, client in left.items() if width not in done}
        if not left:
            break
    assert left == {}
    assert met == {(200, ""), (429, "Throttled")}


def test_a_call_that_hangs_is_ended_and_the_image_remembered_for_a_while(
    photo: Photo, alone: invoker.Server, calls: list[Call], clock: Clock
) -> None:
    os.kill(process_of(alone).pid, signal.SIGSTOP)
    alone.seconds = 0.5
    calls.clear()
    assert [told(photo.ask()) for _ in range(2)] == [(422, "UnprocessableImage")] * 2
    assert calls.count(INVOKE) == 1
    alone.seconds = 20
    assert size_of(photo.ask(21)) == (21, 10)
    clock.advance(transforms.OVERCOME + 1)
    assert size_of(photo.ask()) == (20, 10)  # it may have been the storage that was slow


def test_an_image_that_takes_too_long_is_refused_and_remembered(photo: Photo, alone: invoker.Server, calls: list[Call]) -> None:
    photo.tenant.service.put("b", "slow.png", SLOW, "image/png")
    alone.seconds = 0.1
    calls.clear()
    answers = [photo.tenant.service("GET", "/storage/object/b/slow.png?format=avif") for _ in range(2)]
    assert [told(answer) for answer in answers] == [(422, "UnprocessableImage")] * 2
    assert "more time or memory" in answers[0].json()["message"]
    assert calls.count(INVOKE) == 1


def test_a_process_that_is_killed_at_work_is_replaced(photo: Photo, alone: invoker.Server, calls: list[Call]) -> None:
    process = process_of(alone)
    os.kill(process.pid, signal.SIGSTOP)
    calls.clear()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(photo.ask)
        eventually(alone.idle.empty)
        time.sleep(0.3)  # and the call is on its way to the process
        os.kill(process.pid, signal.SIGKILL)
        assert told(coming.result()) == (422, "UnprocessableImage")
    assert told(photo.ask()) == (422, "UnprocessableImage")
    assert calls.count(INVOKE) == 1
    assert size_of(photo.ask(21)) == (21, 10)
    assert process_of(alone).pid != process.pid


def test_a_process_that_is_killed_at_rest_is_not_missed(photo: Photo, alone: invoker.Server) -> None:
    process = process_of(alone)
    process.kill()
    process.join()
    assert size_of(photo.ask()) == (20, 10)


def test_a_function_that_cannot_be_reached_is_unavailable_and_leaves_no_claim(
    photo: Photo, new_image_function: Any, calls: list[Call]
) -> None:
    server = new_image_function(concurrency=1)
    server.shutdown()
    server.server_close()
    for _ in range(2):
        answer = photo.ask()
        assert told(answer) == (503, "Unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert photo.row() is None
    assert calls.count(INVOKE) == 2
    new_image_function(concurrency=1)
    assert size_of(photo.ask()) == (20, 10)


class Wire:
    """What lies between the API and the image function; it may lose the connections there are, as a frozen process's are lost."""

    def __init__(self, port: int) -> None:
        self._port, self._opened, self._lost, self.resets = port, 0, 0, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self) -> None:
        """Have the connections of now reset at the next byte that is sent; nobody is told before."""
        self._lost = self._opened

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, far = self._listening.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                self._opened += 1
                threading.Thread(target=self._carry, args=(near, far, self._opened), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, self._opened), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, number: int) -> None:
        with suppress(OSError), source:
            while piece := source.recv(1 << 16):
                if number <= self._lost:
                    self.resets += 1
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                target.sendall(piece)

    def close(self) -> None:
        self._listening.close()


def test_a_connection_that_was_lost_at_rest_is_not_noticed(photo: Photo, alone: invoker.Server, new_image_function: Any) -> None:
    """Lambda freezes a process between requests, and its connections may be gone when it goes on."""
    wire = Wire(alone.server_port)
    alone.server_port = wire.port  # by which it is asked from now on
    try:
        new_image_function.ask(alone)
        assert size_of(photo.ask(30)) == (30, 15)
        wire.lose()
        assert size_of(photo.ask(31)) == (31, 16)
        assert wire.resets == 1
    finally:
        wire.close()


def test_bytes_that_are_missing_are_told_as_of_a_download_and_not_remembered(photo: Photo, calls: list[Call]) -> None:
    row = StoredObject.read(f"{photo.tenant.tenant_id}#{photo.bucket_id}", "photo.png")
    assert row is not None
    providers.internal().delete([row.physical_key])
    plain = photo.tenant.service.get("b", "photo.png")
    for number in (1, 2):
        answer = photo.ask()
        assert told(answer) == told(plain) == (503, "BytesMissing")
        assert answer.headers["retry-after"] == plain.headers["retry-after"]
        assert row.physical_key.encode() not in answer.body
        assert photo.row() is None
        assert calls.count(INVOKE) == number
    providers.internal().put(row.physical_key, PHOTO, "image/png")
    assert size_of(photo.ask()) == (20, 10)


# ---- so many a minute ----------------------------------------------------------------------------------
PROPERTY = hypothesis_settings(
    deadline=None, max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def taken(tenant_id: str, per_minute: int) -> int:
    """0 if a token was to be had, else the seconds until one is said to be."""
    try:
        limits.take(tenant_id, "tests", per_minute)
    except Throttled as refused:
        return int(refused.headers["Retry-After"])
    return 0


@PROPERTY
@given(
    per_minute=st.sampled_from([1, 2, 3, 5, 6, 10, 12]),
    quarters=st.lists(st.integers(0, 6) | st.integers(0, 150) | st.integers(220, 280), max_size=30),
)
def test_tokens_come_back_one_by_one_up_to_a_minutes_worth(standing: StandingClock, per_minute: int, quarters: list[int]) -> None:
    tenant_id, left = seam.new_uuid(), Fraction(per_minute)
    given_at: list[float] = []
    emptied_at: list[float] = []
    for quarter in [0, *quarters]:
        standing.now += quarter / 4
        left = min(Fraction(per_minute), left + Fraction(quarter * per_minute, 240))
        wait = max(1, math.ceil((1 - left) * 60 / per_minute)) if left < 1 else 0
        assert taken(tenant_id, per_minute) == wait
        if not wait:
            left -= 1
            given_at.append(standing.now)
            emptied_at += [standing.now] * (left == 0)
    for emptied in emptied_at:
        assert sum(emptied < moment <= emptied + 60 for moment in given_at) <= per_minute


@pytest.mark.parametrize("per_minute", [1, 3, 8, 20])
def test_after_a_burst_there_are_so_many_a_minute_and_no_more(standing: StandingClock, per_minute: int) -> None:
    tenant_id = seam.new_uuid()
    assert [taken(tenant_id, per_minute) for _ in range(per_minute)] == [0] * per_minute
    given_at = [standing.now]
    for _ in range(8 * per_minute):  # two minutes
        standing.now += 15 / per_minute
        if not taken(tenant_id, per_minute):
            given_at.append(standing.now)
    assert len(given_at) == 1 + 2 * per_minute
    for begun in given_at:
        assert sum(begun < moment <= begun + 60 for moment in given_at) <= per_minute


@pytest.mark.parametrize("per_minute", [1, 7, 11, 37])
@pytest.mark.parametrize("fraction", [0.0, 0.123456])
def test_at_one_moment_there_are_exactly_so_many(standing: StandingClock, per_minute: int, fraction: float) -> None:
    standing.now += fraction
    tenant_id = seam.new_uuid()
    assert [taken(tenant_id, per_minute) for _ in range(per_minute)] == [0] * per_minute
    seconds = taken(tenant_id, per_minute)
    assert seconds == math.ceil(60 / per_minute)
    standing.now += seconds - 1
    assert taken(tenant_id, per_minute) > 0
    standing.now += 1
    assert taken(tenant_id, per_minute) == 0


def test_of_thirty_at_once_as_many_have_a_token_as_there_are(standing: StandingClock) -> None:
    tenant_id, start = seam.new_uuid(), threading.Barrier(30)

    def take(_: int) -> int:
        start.wait()
        return taken(tenant_id, 10)

    with ThreadPoolExecutor(30) as pool:
        outcomes = list(pool.map(take, range(30)))
    assert sorted(outcomes) == [0] * 10 + [6] * 20


def test_tenants_and_things_have_tokens_of_their_own(standing: StandingClock) -> None:
    one, other = seam.new_uuid(), seam.new_uuid()
    limits.take(one, "tests", 1)
    limits.take(other, "tests", 1)
    limits.take(one, "trials", 1)
    for tenant_id, what in ((one, "tests"), (other, "tests"), (one, "trials")):
        with pytest.raises(Throttled):
            limits.take(tenant_id, what, 1)


def test_a_limit_that_was_changed_counts_at_once(standing: StandingClock) -> None:
    tenant_id = seam.new_uuid()
    assert [taken(tenant_id, 4) for _ in range(5)] == [0, 0, 0, 0, 15]
    standing.now += 30
    assert [taken(tenant_id, 60) for _ in range(31)] == [0] * 30 + [1]
    assert taken(tenant_id, 4) == 15
