"""Compiled policies as Python functions of a scope: what is worked out for each row.

Each Node becomes one closure over those of its parts. Both sides of an operation are worked out before either
is looked at, as PostgreSQL does, so that an error on the right is not hidden by a NULL on the left.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chalicelib.access.policy import patterns, values
from chalicelib.access.policy.functions import FUNCTIONS, PLAIN
from chalicelib.access.policy.nodes import Node, constant

Closure = Callable[["Scope"], Any]
Slots = Mapping[int, Closure]


@dataclass(slots=True)
class Scope:
    """Who asks, of which row, and when: one evaluation's input.

    `row` has the columns as the API stores them: times and `user_metadata` as text, ids as text, None for NULL.
    """

    uid: str | None
    role: str
    email: str | None
    row: Mapping[str, Any]
    now: datetime
    worked_out: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of_nothing(cls) -> "Scope":
        """What constants are worked out in."""
        return cls(None, "", None, {}, datetime(1970, 1, 1, tzinfo=UTC))


def closure(node: Node, slots: Slots | None = None) -> Closure:
    """The function that works out a node."""
    return _KINDS[node.kind](node, slots or {})


def _parts(node: Node, slots: Slots) -> list[Closure]:
    return [closure(part, slots) for part in node.parts]


# ---- operands --------------------------------------------------------------------------------------
def _const(node: Node, slots: Slots) -> Closure:
    value = constant(node.type, node.value)
    return lambda scope: value


def _column(node: Node, slots: Slots) -> Closure:
    name = node.value
    if node.type == "text":
        return lambda scope: scope.row[name]
    read = _READERS[node.type]
    if node.type != "jsonb":
        return lambda scope: None if (stored := scope.row[name]) is None else read(stored)

    def document(scope: Scope) -> Any:
        if name not in scope.worked_out:
            stored = scope.row[name]
            scope.worked_out[name] = None if stored is None else read(stored)
        return scope.worked_out[name]

    return document


_READERS: dict[str, Callable[[Any], Any]] = {
    "int8": int,
    "uuid": values.uuid_in,
    "jsonb": FUNCTIONS["text_jsonb"],
    "timestamptz": lambda stored: values.moment_micros(datetime.fromisoformat(stored)),
}


def _caller(node: Node, slots: Slots) -> Closure:
    return _CALLER[str(node.value)]


_CALLER: dict[str, Closure] = {
    "auth_uid": lambda scope: scope.uid,
    "auth_role": lambda scope: scope.role,
    "auth_email": lambda scope: scope.email,
    "now": lambda scope: values.moment_micros(scope.now),
}


# ---- operations ------------------------------------------------------------------------------------
def _call(node: Node, slots: Slots) -> Closure:
    function, parts = FUNCTIONS[node.value], _parts(node, slots)
    if len(parts) == 1:
        (only,) = parts
        return lambda scope: None if (value := only(scope)) is None else function(value)
    if len(parts) == 2:
        left, right = parts
        if node.parts[1].kind == "const" and node.parts[1].value is not None:
            return _with_constant(node, function, left)

        def binary(scope: Scope) -> Any:
            one, other = left(scope), right(scope)
            return None if one is None or other is None else function(one, other)

        return binary

    def call(scope: Scope) -> Any:
        arguments = [part(scope) for part in parts]
        return None if None in arguments else function(*arguments)

    return call


def _with_constant(node: Node, function: Callable[[Any, Any], Any], left: Closure) -> Closure:
    """An operation whose right side is a constant, which most comparisons are."""
    value = constant(node.parts[1].type, node.parts[1].value)
    if node.value == "like":
        matches = patterns.matcher(value)
        return lambda scope: None if (one := left(scope)) is None else matches(one)
    return lambda scope: None if (one := left(scope)) is None else function(one, value)


def _junction(deciding: bool) -> Callable[[Node, Slots], Closure]:
    """AND ends with the first false, OR with the first true; else a NULL among the parts makes it NULL."""

    def build(node: Node, slots: Slots) -> Closure:
        parts = _parts(node, slots)

        def junction(scope: Scope) -> bool | None:
            result: bool | None = not deciding
            for part in parts:
                value: bool | None = part(scope)
                if value is deciding:
                    return deciding
                if value is None:
                    result = None
            return result

        return junction

    return build


def _not(node: Node, slots: Slots) -> Closure:
    (part,) = _parts(node, slots)
    return lambda scope: None if (value := part(scope)) is None else not value


def _is(node: Node, slots: Slots) -> Closure:
    (part,) = _parts(node, slots)
    negated, wanted = node.value.startswith("not "), {"null": None, "true": True, "false": False}[node.value.rpartition(" ")[2]]
    return lambda scope: (part(scope) is wanted) is not negated


def _distinct(node: Node, slots: Slots) -> Closure:
    equal, (left, right) = FUNCTIONS[node.value], _parts(node, slots)

    def distinct(scope: Scope) -> bool:
        one, other = left(scope), right(scope)
        return (one is None) is not (other is None) if one is None or other is None else not equal(one, other)

    return distinct


def _nullif(node: Node, slots: Slots) -> Closure:
    equal, (left, right) = FUNCTIONS[node.value], _parts(node, slots)

    def nullif(scope: Scope) -> Any:
        one, other = left(scope), right(scope)
        return None if one is not None and other is not None and equal(one, other) else one

    return nullif


def _quantified(found: bool) -> Callable[[Node, Slots], Closure]:
    """`= ANY` ends with the first that is equal, `<> ALL` with the first that is not unequal."""

    def build(node: Node, slots: Slots) -> Closure:
        compare, (operand, *parts) = FUNCTIONS[node.value], _parts(node, slots)
        if all(part.kind == "const" for part in node.parts[1:]) and node.parts[0].type in PLAIN:
            return _fixed_members(operand, {constant(part.type, part.value) for part in node.parts[1:]}, found)

        def quantified(scope: Scope) -> bool | None:
            value, members = operand(scope), [part(scope) for part in parts]
            if value is None:
                return None
            if any(member is not None and compare(value, member) is found for member in members):
                return found
            return None if any(member is None for member in members) else not found

        return quantified

    return build


def _fixed_members(operand: Closure, members: set[Any], found: bool) -> Closure:
    """Members that are constants of a type whose values are equal where Python says so: looked up, however many there are."""
    otherwise = None if None in members else not found

    def looked_up(scope: Scope) -> bool | None:
        value = operand(scope)
        return None if value is None else found if value in members else otherwise

    return looked_up


def _case(node: Node, slots: Slots) -> Closure:
    *branches, otherwise = _parts(node, slots)
    pairs = list(zip(branches[0::2], branches[1::2], strict=True))

    def case(scope: Scope) -> Any:
        for condition, result in pairs:
            if condition(scope) is True:
                return result(scope)
        return otherwise(scope)

    return case


def _coalesce(node: Node, slots: Slots) -> Closure:
    parts = _parts(node, slots)
    return lambda scope: next((value for part in parts if (value := part(scope)) is not None), None)


def _let(node: Node, slots: Slots) -> Closure:
    operand, body = node.parts
    return closure(body, {**slots, node.value: closure(operand, slots)})


def _slot(node: Node, slots: Slots) -> Closure:
    operand = slots[node.value]  # which also names it: the policies of a row share a scope

    def slot(scope: Scope) -> Any:
        if operand not in scope.worked_out:
            scope.worked_out[operand] = operand(scope)
        return scope.worked_out[operand]

    return slot


def _relabel(node: Node, slots: Slots) -> Closure:
    return closure(node.parts[0], slots)


_KINDS: dict[str, Callable[[Node, Slots], Closure]] = {
    "const": _const,
    "column": _column,
    "caller": _caller,
    "call": _call,
    "and": _junction(False),
    "or": _junction(True),
    "not": _not,
    "is": _is,
    "distinct": _distinct,
    "nullif": _nullif,
    "any": _quantified(True),
    "all": _quantified(False),
    "case": _case,
    "coalesce": _coalesce,
    "let": _let,
    "slot": _slot,
    "relabel": _relabel,
}
