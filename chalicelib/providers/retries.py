"""Another attempt where one may help, and an end to every call: wrapped around providers, which do neither by themselves.

Every operation of a provider can be repeated: what it stores is whole or absent, what it removes is gone already. What is refused is
refused the next time too, and is not asked again. Pauses grow and are jittered, so that those who failed together do not come back
together (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chalicelib import budget, seam
from chalicelib.errors import StorageUnavailable, StowageError
from chalicelib.observability import logger
from chalicelib.providers import Listed, Provider
from chalicelib.providers.failures import PASSING, Failure, failure, of_connection

if TYPE_CHECKING:
    from chalicelib.outbound import Deadline

ATTEMPTS = 3
# Seconds: the ceiling of the first pause, and from the first question to the last answer of a storage that somebody else has chosen.
FIRST_PAUSE = 0.2
WHOLE_TIMEOUT = 18.0
LISTED_AT_ONCE = 1000

_ASKED = ("put", "read", "stat", "inspect", "describe", "delete", "reach", "examine", "copy", "expire", "list_parts", "abort_all")
_ASKED_FOR_PARTS = ("create_multipart", "upload_part", "copy_part", "complete_multipart", "abort_multipart")
# What asks nobody: presigning, limits, and what the provider has learned.
_TOLD = ("close", "presign_get", "presign_put", "presign_part", "holds", "max_key_bytes", "min_part_bytes", "max_part_bytes", "max_parts")

Answer = TypeVar("Answer")


def persistent(
    provider: Provider,
    *,
    seconds: float | None = None,
    attempts: int = ATTEMPTS,
    failed: Callable[[StorageUnavailable], None] = lambda _: None,
) -> Provider:
    """`provider`, asked up to `attempts` times, and cut off after `seconds` in all where they are given. It can what it could.

    `failed` is told what comes of it when nothing helps.
    """
    return cast(Provider, _wrapper(type(provider))(provider, seconds, attempts, failed))


class Persistent:
    """A provider that is asked again; what else it has, the class made for its kind has too."""

    def __init__(self, provider: Any, seconds: float | None, attempts: int, failed: Callable[[StorageUnavailable], None]) -> None:
        self.provider, self._seconds, self._attempts, self._failed = provider, seconds, attempts, failed

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        entries = self.provider.list(prefix, after)

        def next_ones() -> list[Listed]:
            nonlocal entries
            try:
                return list(islice(entries, LISTED_AT_ONCE))
            except StorageUnavailable:
                entries = self.provider.list(prefix, after)
                raise

        while found := self.asked(next_ones):
            yield from found
            after = found[-1].key

    def asked(self, ask: Callable[[], Answer]) -> Answer:
        """What a question is answered, in the end; raises StorageUnavailable when that is a refusal, or too late."""
        try:
            return self._asked(ask)
        except StorageUnavailable as error:
            self._failed(error)
            raise

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        with _within(self._seconds) as deadline:
            for attempt in range(self._attempts):
                try:
                    answer = ask()
                except Exception as error:
                    told = self._told(error, deadline)
                    if not isinstance(told, StorageUnavailable) or told.reason not in PASSING or attempt == self._attempts - 1:
                        raise told from error
                    if deadline is not None and deadline.passed:
                        raise told from error
                    seam.sleep(seam.jitter(FIRST_PAUSE * 2**attempt))
                    continue
                if deadline is not None and deadline.passed:  # what ends with its connection looks whole
                    raise failure(Failure.TIMEOUT)
                return answer
        raise AssertionError("the last attempt ends by raising or with an answer")

    def _told(self, error: Exception, deadline: "Deadline | None") -> Exception:
        """What an attempt's failure is to its caller."""
        if deadline is None:
            return error
        if deadline.passed:
            return failure(Failure.TIMEOUT)
        if isinstance(error, StowageError):
            return error
        # A server that somebody else has chosen may answer anything, and libraries make anything of it.
        logger().warning("a storage's answer was not understood", extra={"error": type(error).__name__})
        return failure(of_connection(error))


def _within(seconds: float | None) -> AbstractContextManager["Deadline | None"]:
    """So many seconds, or what a request has left of its own; raises StorageUnavailable when that is nothing."""
    if seconds is None:
        return nullcontext()
    from chalicelib import outbound

    left = budget.left()
    if left is not None and left <= 0:
        raise failure(Failure.TIMEOUT)
    return outbound.within(seconds if left is None else min(seconds, left))


@cache
def _wrapper(kind: type) -> type[Persistent]:
    """The class that wraps providers of a kind: it has what they have and nothing else, so `isinstance` tells of it what they can."""
    asked = {name: _asking(name) for name in (*_ASKED, *_ASKED_FOR_PARTS) if hasattr(kind, name)}
    told = {name: property(_telling(name)) for name in _TOLD if hasattr(kind, name)}
    return type(f"Persistent{kind.__name__}", (Persistent,), asked | told)


def _asking(name: str) -> Callable[..., Any]:
    def ask(self: Persistent, *arguments: Any, **named: Any) -> Any:
        return self.asked(lambda: getattr(self.provider, name)(*arguments, **named))

    return ask


def _telling(name: str) -> Callable[[Persistent], Any]:
    return lambda self: getattr(self.provider, name)
