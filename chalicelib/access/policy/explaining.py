"""Why a policy holds or not: the value of each of its sub-expressions for one row."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from chalicelib.access.policy.analysis import NAMES, analyse
from chalicelib.access.policy.closures import Scope, closure
from chalicelib.access.policy.folding import Slots, fold
from chalicelib.access.policy.grammar import parse
from chalicelib.access.policy.nodes import Node, written
from chalicelib.access.policy.values import EvaluationError
from chalicelib.errors import InvalidPolicy


class Expression(NamedTuple):
    """A part of a definition as it is written, its type, and its value as text (None: NULL) or the error it raises."""

    expression: str
    type: str
    value: str | None
    error: str | None


def explain(source: str, scope: Callable[[], Scope]) -> list[Expression]:
    """The whole expression, then its parts from the outside in, without literals. Each is worked out by itself, folded as a policy is."""
    shown: dict[tuple[int, int], Expression] = {}
    for node, slots in _walk(analyse(parse(source)), {}):
        if (node.kind != "const" or not shown) and (node.start, node.end) not in shown:
            value, error = _worked_out(node, slots, scope())
            shown[node.start, node.end] = Expression(source[node.start : node.end], NAMES.get(node.type, node.type), value, error)
    return list(shown.values())


def _walk(node: Node, slots: Slots) -> Iterator[tuple[Node, Slots]]:
    yield node, slots
    parts = node.parts
    if node.kind == "let":  # the operand, then the body in which its slot stands
        yield from _walk(parts[0], slots)
        slots, parts = {**slots, node.value: parts[0]}, parts[1:]
    for part in parts:
        yield from _walk(part, slots)


def _worked_out(node: Node, slots: Slots, scope: Scope) -> tuple[str | None, str | None]:
    try:
        meant = {number: fold(operand, slots) for number, operand in slots.items()}
        value = closure(fold(node, meant), {number: closure(operand) for number, operand in meant.items()})(scope)
        return None if value is None else written(node.type, value), None
    except (EvaluationError, InvalidPolicy) as error:
        return None, str(error)
