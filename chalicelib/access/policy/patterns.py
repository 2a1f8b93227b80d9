"""LIKE: `%` any text, `_` any character, `\\` takes the next literally (MatchText of PostgreSQL's like_match.c).

A pattern is cut at each `%` into segments, which are looked for from left to right: the first at the beginning, the
last at the end, each between as early as it occurs. No match that takes one later could do more, so nothing is
tried twice, whatever the pattern.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from chalicelib.access.policy.values import EvaluationError

MAX_COMPARED = 1_000_000
_ELEMENT = re.compile(r"\\(.)|(%)|(_)|([^\\%_]+)|(\\\Z)", re.DOTALL)

Matcher = Callable[[str], bool]


class Segment(NamedTuple):
    """Text between two `%`: its characters, and where it has `_` a regular expression of as many."""

    length: int
    literal: str
    expression: "re.Pattern[str] | None"
    takes_anything: bool

    def at(self, text: str, position: int) -> bool:
        return text.startswith(self.literal, position) if self.expression is None else bool(self.expression.match(text, position))

    def find(self, text: str, position: int) -> int:
        if self.expression is None:
            return text.find(self.literal, position)
        if len(text) * self.length > MAX_COMPARED:
            raise EvaluationError("matching this pattern would take too long")
        found = self.expression.search(text, position)
        return found.start() if found else -1


@lru_cache(maxsize=1024)
def matcher(pattern: str) -> Matcher:
    """What tells whether a text matches; it raises EvaluationError where PostgreSQL meets a `\\` that ends the pattern."""
    segments, broken = _segments(pattern)
    if broken:
        return lambda text: _match_broken(segments, text)
    first, *rest = segments
    if not rest:
        return lambda text: len(text) == first.length and first.at(text, 0)
    *middle, last = rest
    if middle or last.length or first.expression is not None:
        return lambda text: _match(first, middle, last, text)
    beginning = first.literal
    return lambda text: text.startswith(beginning)


def _match(first: Segment, middle: list[Segment], last: Segment, text: str) -> bool:
    position = _after(first, middle, text)
    ending = len(text) - last.length
    return 0 <= position <= ending and last.at(text, ending)


def _after(first: Segment, middle: list[Segment], text: str) -> int:
    """Where the text goes on after these segments, -1 where they are not in it."""
    if len(text) < first.length or not first.at(text, 0):
        return -1
    position = first.length
    for segment in middle:
        found = segment.find(text, position)
        if found < 0:
            return -1
        position = found + segment.length
    return position


def _match_broken(segments: list[Segment], text: str) -> bool:
    """No text matches a pattern that ends with a single `\\`, and PostgreSQL fails if it gets that far with text left."""
    *before, last = segments
    if not before:
        reached = len(text) > last.length and last.at(text, 0)
    else:
        position = _after(before[0], before[1:], text)
        found = last.find(text, position) if 0 <= position < len(text) else -1
        # After `%` PostgreSQL looks at what follows the `_` even where no text is left.
        reached = 0 <= found <= len(text) - last.length - (not last.takes_anything)
    if reached:
        raise EvaluationError("a LIKE pattern must not end with its escape character")
    return False


def _segments(pattern: str) -> tuple[list[Segment], bool]:
    """The segments of a pattern, and whether it ends with a single `\\`."""
    segments, literal, expression, broken = list[Segment](), "", "", False
    has_any = False
    for escaped, percent, any_one, plain, lone in _ELEMENT.findall(pattern):
        broken = bool(lone)
        if percent:
            if segments and not expression.strip("."):  # `%_%` is `%_`
                continue
            segments.append(_segment(literal, expression, has_any))
            literal, expression, has_any = "", "", False
        elif any_one:
            literal, expression, has_any = literal + "_", expression + ".", True
        else:
            literal, expression = literal + (escaped or plain), expression + re.escape(escaped or plain)
    return [*segments, _segment(literal, expression, has_any)], broken


def _segment(literal: str, expression: str, has_any: bool) -> Segment:
    return Segment(len(literal), literal, re.compile(expression, re.DOTALL) if has_any else None, not expression.strip("."))
