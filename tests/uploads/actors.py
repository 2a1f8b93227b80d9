"""Requests that can be stopped, put in any order and killed at every step.

An actor does its work in a thread of its own, but only while it is told to go on: it stops before each AWS call is sent
and again when its answer is here. So whoever holds the actors decides what happens between any two calls, and one
that is killed ends there as a process would: what it has sent has happened, and nothing of it goes on.
"""

import threading
from collections.abc import Callable
from typing import Any

_running = threading.local()


class Killed(BaseException):
    """The process ends here."""


class Actor:
    """One request, or one run of the cleanup. `result` is what it gave, None while it lives and if it was killed."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.alive = True
        self._act = act
        self._dying = False
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _running.actor = self
        self._go.acquire()
        try:
            if not self._dying:
                self.result = self._act()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.alive = False
        self._stopped.release()

    def stop_here(self) -> None:
        self._stopped.release()
        self._go.acquire()
        if self._dying:
            raise Killed

    def go_on(self, steps: int) -> None:
        """Let it come `steps` stops further, or to its end."""
        for _ in range(steps):
            if not self.alive:
                break
            self._go.release()
            self._stopped.acquire()
        if self.error:
            raise self.error

    def finish(self) -> Any:
        """Let it come to its end; gives its result."""
        while self.alive:
            self.go_on(1)
        if self.error:
            raise self.error
        return self.result

    def kill(self) -> None:
        """End it where it is."""
        self._dying = True
        while self.alive:
            self.go_on(1)


def stop(**_: Any) -> None:
    """For botocore's events `before-send` and `before-parse`: whoever is an actor stops here."""
    actor = getattr(_running, "actor", None)
    if actor is not None:
        actor.stop_here()
