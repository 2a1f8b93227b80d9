"""Starts the programs that tests talk to, and sees that they end with whoever started them.

Every program runs below `infra.lifeline`, so that a test run that is killed leaves none behind.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
# Seconds.
START_LIMIT = 30
STOP_LIMIT = 10
GRACE = 2
LOG_TAIL = 4000
PORT_TRIES = 3
SET_CHILD_SUBREAPER = 36  # linux/prctl.h

T = TypeVar("T")


class StartError(RuntimeError):
    """A server did not start; ends with the tail of its log."""


def free_port() -> int:
    """A port on which nothing listens now. Another process may take it before you do."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def installed(path: str, package: str) -> str:
    """The path of a program of a Debian package, which has to be there."""
    if not os.access(path, os.X_OK):
        raise StartError(f"{path} is missing: run tests/install-packages.sh as root, or install the Debian package {package}")
    return path


def external(*command: str) -> list[str]:
    """What `running` wants, for a program that is not Python's."""
    return ["tests.servers.process:run", *command]


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[str], T | None]) -> Iterator[T]:
    """Run `MODULE:FUNCTION ARGUMENT…` in a process of its own until the block ends.

    Gives what `ready` makes of the log's text, as soon as that is not None.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.lifeline", *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl+C is for the tests, which then stop it
        )
    try:
        yield _wait(process, command, log, ready)
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin
        process.stdin.close()


def _wait(process: "subprocess.Popen[bytes]", command: list[str], log: Path, ready: Callable[[str], T | None]) -> T:
    deadline = time.monotonic() + START_LIMIT
    while True:
        ended = process.poll() is not None
        text = log.read_text(errors="replace")
        if not ended and (found := ready(text)) is not None:
            return found
        if ended or time.monotonic() > deadline:
            what = f"ended with status {process.returncode}" if ended else f"was not ready within {START_LIMIT} seconds"
            raise StartError(f"{' '.join(command)} {what}; {log} ends with:\n{text[-LOG_TAIL:]}")
        time.sleep(0.02)


def listening_port(text: str) -> int | None:
    """The port that a server of ours says that it listens on."""
    found = re.search(r"^listening on port (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def say_listening(port: int) -> None:
    """Say it so that `listening_port` finds it."""
    sys.stdout.write(f"listening on port {port}\n")
    sys.stdout.flush()


@contextmanager
def on_port(port: int, start: Callable[[int], AbstractContextManager[T]]) -> Iterator[T]:
    """Start a server on the port, or on a free one if it is 0. Another process may have just taken it: more than one try."""
    with ExitStack() as stack:
        for tries_left in reversed(range(PORT_TRIES)):
            try:
                started = stack.enter_context(start(port or free_port()))
            except StartError:
                if not tries_left:
                    raise
            else:
                break
        yield started


# ---- in the child process --------------------------------------------------------------------------------------
def run() -> int:
    """Run the program of the command line; when it or this process ends, so does all that it has started."""
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # even what has become a daemon stays a descendant
    signal.signal(signal.SIGTERM, _stop)
    try:
        return subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL).wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_descendants()


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def _end_descendants() -> None:
    deadline = time.monotonic() + GRACE
    for pid in _descendants():
        _send(pid, signal.SIGTERM)
    while left := _descendants():
        if time.monotonic() > deadline:
            for pid in left:
                _send(pid, signal.SIGKILL)
        time.sleep(0.01)
    with suppress(ChildProcessError):  # nobody else may collect them
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _descendants() -> list[int]:
    """The living ones, in no particular order."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, look_at = [], [os.getpid()]
    while look_at:
        below = children.get(look_at.pop(), [])
        found += below
        look_at += below
    return found
