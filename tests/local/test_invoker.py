"""What stands for Lambda's Invoke: asked by botocore as Lambda would be, its processes really hung, killed and restarted."""

import base64
import http.client
import io
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session
import pytest
from botocore.exceptions import ClientError
from PIL import Image

from chalicelib.images.options import Options
from chalicelib.providers.filesystem import Filesystem
from infra import invoker, stack

ACCESS_KEY = "the-key"
NAME = "image-transform"
INVOKE = f"/2015-03-31/functions/{NAME}/invocations"
SIGNED = {"Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/eu-west-1/lambda/aws4_request"}
Start = Callable[..., invoker.Server]


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "what was awaited did not happen"
        time.sleep(0.02)


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="tells processes by Linux's /proc")


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> dict[int, bool]:
    """The processes that a process has started, and of each whether it is one that works for it."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended since
            if (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(pid):
                found[int(folder.name)] = b"spawn_main" in (folder / "cmdline").read_bytes()
    return found


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filesystem:
    """A folder that processes which start from now on take for their storage; it has the picture `source`, 80 pixels by 40."""
    monkeypatch.setenv("STOWAGE_STORAGE_PROVIDER", "filesystem")
    monkeypatch.setenv("STOWAGE_STORAGE_ROOT", str(tmp_path))
    made, file = Filesystem(str(tmp_path)), io.BytesIO()
    Image.new("RGB", (80, 40), (255, 0, 0)).save(file, "PNG")
    made.put("source", file.getvalue(), "image/png")
    return made


@pytest.fixture
def start(storage: Filesystem) -> Iterator[Start]:
    """Starts invokers, and stops them after the test."""
    servers: list[invoker.Server] = []

    def begin(**options: Any) -> invoker.Server:
        servers.append(invoker.Server(0, ACCESS_KEY, **({"concurrency": 1, "patience": 0} | options)))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return servers[-1]

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(start: Start) -> invoker.Server:
    return start()


@pytest.fixture
def client_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes clients of Lambda, which the environment leads to an invoker."""

    def make(endpoint: str, access_key: str = ACCESS_KEY) -> Any:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", endpoint)
        config = botocore.config.Config(retries={"total_max_attempts": 1, "mode": "standard"})
        return botocore.session.Session().create_client(
            "lambda", region_name="eu-west-1", aws_access_key_id=access_key, aws_secret_access_key="secret", config=config
        )

    return make


@pytest.fixture
def client(server: invoker.Server, client_of: Callable[..., Any]) -> Any:
    return client_of(server.endpoint)


def event(storage: Filesystem, key: str = "source", inline: int = 10_000, **options: Any) -> bytes:
    """What the API sends to have the picture under `key` transformed to `target`."""
    found = storage.stat(key)
    source = {"key": key, "size": found.size if found else 1}
    return json.dumps({"source": source, "options": Options(**options).to_dict(), "target": "target", "inline": inline}).encode()


def invoke(client: Any, payload: bytes) -> tuple[str | None, Any]:
    """The error that the function ended with, if it did, and what it answered."""
    answer = client.invoke(FunctionName=NAME, Payload=payload)
    assert answer["StatusCode"] == 200
    return answer.get("FunctionError"), json.loads(answer["Payload"].read())


def refusal(act: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ClientError) as refused:
        act()
    return refused.value.response["ResponseMetadata"]["HTTPStatusCode"], refused.value.response["Error"]["Code"]


def process_of(server: invoker.Server) -> Any:
    return server._workers[0]._process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- answers -------------------------------------------------------------------------------------------
def test_the_function_is_run_and_its_result_given(client: Any, storage: Filesystem) -> None:
    failed, answer = invoke(client, event(storage, width=20, format="webp"))
    body = base64.b64decode(answer["body"])
    assert (failed, answer["content_type"], answer["size"]) == (None, "image/webp", len(body))
    assert Image.open(io.BytesIO(body)).size == (20, 10)
    assert storage.read("target", 0, len(body)) == body


def test_a_result_beyond_what_is_asked_for_stays_in_the_storage(client: Any, storage: Filesystem) -> None:
    failed, answer = invoke(client, event(storage, inline=5, width=20))
    found = storage.stat("target")
    assert found is not None
    assert (failed, answer) == (None, {"content_type": "image/png", "size": found.size, "body": None})


def test_what_the_function_refuses_is_a_result(client: Any, storage: Filesystem) -> None:
    storage.put("words", b"these are words", "image/png")
    failed, answer = invoke(client, event(storage, "words", width=20))
    assert (failed, answer.keys(), answer["refused"].keys()) == (None, {"refused"}, {"message", "details"})
    assert storage.stat("target") is None


@pytest.mark.parametrize(("payload", "kind"), [(None, "BytesMissing"), (b"{}", "KeyError"), (b"[]", "TypeError")])
def test_what_the_function_raises_is_told_as_lambda_tells_it(
    server: invoker.Server, client: Any, storage: Filesystem, payload: bytes | None, kind: str
) -> None:
    failed, answer = invoke(client, payload or event(storage, "absent"))
    assert (failed, answer["errorType"], answer["errorMessage"] != "") == ("Unhandled", kind, True)
    before = process_of(server)
    assert invoke(client, event(storage, width=20))[0] is None
    assert process_of(server) is before  # an error is no reason to begin anew


def test_it_tells_that_it_is_up(server: invoker.Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"{}")
    connection.close()


# ---- refusals ------------------------------------------------------------------------------------------
def test_a_path_that_is_no_functions_is_not_found(client: Any) -> None:
    asynchronous = lambda: client.invoke_async(FunctionName=NAME, InvokeArgs=b"{}")  # noqa: E731
    assert refusal(asynchronous) == (404, "ResourceNotFoundException")


def test_only_who_has_the_access_key_is_served(server: invoker.Server, client_of: Callable[..., Any], storage: Filesystem) -> None:
    for access_key in ("another", "the-key-and-more", "the"):
        stranger = client_of(server.endpoint, access_key)
        assert refusal(lambda stranger=stranger: invoke(stranger, event(storage))) == (403, "InvalidSignatureException")  # type: ignore[misc]
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("POST", INVOKE, event(storage))
    assert connection.getresponse().status == 403
    connection.close()
    assert process_of(server) is None  # nothing has run


@pytest.mark.parametrize("host", ["evil.test", "localhost:{port}", "127.0.0.1", "127.0.0.1:{port}.evil.test"])
def test_only_who_asks_by_its_address_is_served(server: invoker.Server, storage: Filesystem, host: str) -> None:
    """And not a page in a browser, whose host came to resolve to this one."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("POST", INVOKE, event(storage), SIGNED | {"Host": host.format(port=server.server_port)})
    assert connection.getresponse().status == 403
    connection.close()
    assert process_of(server) is None


def test_one_too_many_is_refused(server: invoker.Server, client: Any, storage: Filesystem) -> None:
    worker = server.idle.get()
    assert refusal(lambda: invoke(client, event(storage))) == (429, "TooManyRequestsException")
    server.idle.put(worker)
    assert invoke(client, event(storage))[0] is None


def test_a_call_waits_a_while_for_a_process(start: Start, client_of: Callable[..., Any], storage: Filesystem) -> None:
    server = start(patience=20)
    client, worker = client_of(server.endpoint), server.idle.get()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(invoke, client, event(storage, width=20))
        with pytest.raises(TimeoutError):
            coming.result(0.3)
        server.idle.put(worker)
        assert coming.result()[0] is None


def test_as_many_calls_run_at_once_as_there_are_processes(start: Start, client_of: Callable[..., Any], storage: Filesystem) -> None:
    server = start(concurrency=2, patience=20)
    client = client_of(server.endpoint)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda width: invoke(client, event(storage, width=width)), range(1, 7)))
    sizes = [Image.open(io.BytesIO(base64.b64decode(answer["body"]))).width for _, answer in answers]
    assert sizes == [1, 2, 3, 4, 5, 6]
    assert len({worker._process.pid for worker in server._workers}) == 2


def test_a_payload_that_lambda_would_not_take_is_refused(server: invoker.Server, client: Any) -> None:
    payload = json.dumps("x" * invoker.MAX_PAYLOAD).encode()
    assert refusal(lambda: invoke(client, payload)) == (413, "RequestTooLargeException")
    assert process_of(server) is None


def test_a_client_that_was_refused_may_ask_again_at_once(server: invoker.Server, storage: Filesystem) -> None:
    """On the same connection, or knowing that it is closed: else it would ask where nobody listens."""
    server.idle.get()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    for _ in range(5):
        connection.request("POST", INVOKE, event(storage), SIGNED)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["message"]) == (429, "Rate Exceeded.")
    connection.close()


def test_a_client_that_goes_before_its_answer_is_no_news(server: invoker.Server, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)) as gone:
        gone.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert gone.recv(1)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
    with socket.create_connection(("127.0.0.1", server.server_port)) as other:
        other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while other.recv(1 << 16):
            pass
    assert capfd.readouterr().err == ""


# ---- its processes -------------------------------------------------------------------------------------
def test_a_call_that_takes_too_long_has_its_process_ended(server: invoker.Server, client: Any, storage: Filesystem) -> None:
    assert invoke(client, event(storage))[0] is None
    hung = process_of(server)
    os.kill(hung.pid, signal.SIGSTOP)
    server.seconds = 0.5
    failed, answer = invoke(client, event(storage))
    assert (failed, answer["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert answer["errorMessage"].endswith("Task timed out after 0.50 seconds")
    assert hung.exitcode == -signal.SIGKILL
    server.seconds = 20
    assert invoke(client, event(storage))[0] is None
    assert process_of(server).is_alive()


def test_a_call_whose_process_dies_is_told_and_the_next_has_another(server: invoker.Server, client: Any, storage: Filesystem) -> None:
    assert invoke(client, event(storage))[0] is None
    first = process_of(server)
    os.kill(first.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(invoke, client, event(storage))
        eventually(server.idle.empty)
        time.sleep(0.3)  # and the call is on its way to the process
        os.kill(first.pid, signal.SIGKILL)
        failed, answer = coming.result()
    assert (failed, answer["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert invoke(client, event(storage))[0] is None
    assert process_of(server).pid != first.pid


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="this system does not tell the limits of other processes")
def test_a_process_has_as_much_memory_as_the_function(server: invoker.Server, client: Any, storage: Filesystem) -> None:
    assert invoke(client, event(storage))[0] is None
    configured = json.loads(Path(".chalice/config.json").read_text())["lambda_functions"]["image_transform"]["lambda_memory_size"]
    assert resource.prlimit(process_of(server).pid, resource.RLIMIT_AS) == (configured << 20,) * 2


# ---- as a program --------------------------------------------------------------------------------------
def environment(storage: Filesystem) -> dict[str, str]:
    return stack.without_aws(os.environ) | {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def program(storage: Filesystem) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`python -m infra.invoker PORT`, and the port."""
    port = free_port()
    process = stack.spawn([sys.executable, "-m", "infra.invoker", str(port)], environment(storage))
    assert stack.await_answer(port, "/", process, 30)
    yield process, port
    stack.stop(process, 20)


@needs_proc
@pytest.mark.parametrize("hung", [False, True])
def test_sigterm_ends_the_program_and_its_processes(
    program: tuple[subprocess.Popen[bytes], int], client_of: Callable[..., Any], storage: Filesystem, hung: bool
) -> None:
    process, port = program
    assert invoke(client_of(f"http://127.0.0.1:{port}"), event(storage))[0] is None
    started = children_of(process.pid)
    (worker,) = (child for child, works in started.items() if works)
    if hung:
        os.kill(worker, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    eventually(lambda: not any(map(is_alive, started)))


@needs_proc
def test_the_death_of_the_program_ends_its_processes(
    program: tuple[subprocess.Popen[bytes], int], client_of: Callable[..., Any], storage: Filesystem
) -> None:
    process, port = program
    assert invoke(client_of(f"http://127.0.0.1:{port}"), event(storage))[0] is None
    started = children_of(process.pid)
    assert any(started.values())
    process.kill()
    eventually(lambda: not any(map(is_alive, started)))


STARTER = """
import os, sys
from infra import stack
process = stack.spawn([sys.executable, "-m", "infra.invoker", sys.argv[1]], os.environ)
assert stack.await_answer(int(sys.argv[1]), "/", process, 30)
print(process.pid, flush=True)
sys.stdin.read()
"""


@needs_proc
def test_the_death_of_its_starter_ends_it_all(client_of: Callable[..., Any], storage: Filesystem) -> None:
    port = free_port()
    command = [sys.executable, "-c", STARTER, str(port)]
    starter = subprocess.Popen(command, env=environment(storage), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter.stdout:
        pid = int(starter.stdout.readline())
    try:
        assert invoke(client_of(f"http://127.0.0.1:{port}"), event(storage))[0] is None
        family = [pid, *children_of(pid)]
        starter.kill()
        starter.wait()
        eventually(lambda: not any(map(is_alive, family)))
        assert stack.port_is_free(port)
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
