"""Constants worked out beforehand, just as far as PostgreSQL's planner does (eval_const_expressions of clauses.c).

This is not for speed alone. `size > 0 OR 1/0 = 1` fails in PostgreSQL although its left side holds, because
the planner works out the right side first; a policy that fails there must not permit anything here.
"""

from collections.abc import Callable, Mapping

from chalicelib.access.policy.functions import IMMUTABLE
from chalicelib.access.policy.nodes import Node, constant, written
from chalicelib.access.policy.values import EvaluationError
from chalicelib.errors import InvalidPolicy

Slots = Mapping[int, Node]


def fold(node: Node, slots: Slots) -> Node:
    """The node with its constant parts worked out; raises InvalidPolicy for a part that always fails."""
    if node.kind in _KINDS:
        return _KINDS[node.kind](node, slots)
    parts = tuple(fold(part, slots) for part in node.parts)
    return _evaluated(node._replace(parts=parts))


def _evaluated(node: Node) -> Node:
    """An operation on constants as the constant that it gives."""
    from chalicelib.access.policy.closures import Scope, closure

    if node.kind == "call":
        if any(_is_null(part) for part in node.parts):
            return _constant(node, None)
        if node.value not in IMMUTABLE:
            return node
    if not node.parts or not all(part.kind == "const" for part in node.parts):
        return node
    try:
        value = closure(node)(Scope.of_nothing())
    except EvaluationError as error:
        raise InvalidPolicy(f"this always fails: {error}", node.start) from None
    if value is None:
        return _constant(node, None)
    try:
        text = written(node.type, value)
        constant(node.type, text)
    except EvaluationError:
        return node  # beyond what its type reads, though not beyond what it holds
    return _constant(node, text)


def _constant(node: Node, value: str | None) -> Node:
    return Node("const", node.type, node.start, node.end, value)


def _is_null(node: Node) -> bool:
    return node.kind == "const" and node.value is None


def _junction(deciding: str) -> Callable[[Node, Slots], Node]:
    """AND is decided by false, OR by true: what stands behind such a constant is not even looked at."""

    def folded(node: Node, slots: Slots) -> Node:
        kept, unknown = list[Node](), False
        for part in (fold(part, slots) for part in node.parts):
            if part.kind == node.kind:
                kept += part.parts
            elif part.kind != "const":
                kept.append(part)
            elif part.value is None:
                unknown = True
            elif part.value == deciding:
                return _constant(node, deciding)
        if unknown:
            kept.append(_constant(node, None))
        if not kept:
            return _constant(node, "true" if deciding == "false" else "false")
        return kept[0] if len(kept) == 1 else node._replace(parts=tuple(kept))

    return folded


def _case(node: Node, slots: Slots) -> Node:
    """Branches whose condition never holds are dropped, their results not looked at; nor is what follows one that always holds."""
    *branches, otherwise = node.parts
    kept = list[Node]()
    for condition, result in zip(branches[0::2], branches[1::2], strict=True):
        condition = fold(condition, slots)
        if condition.kind == "const" and condition.value != "true":
            continue
        result = fold(result, slots)
        if condition.kind == "const":
            return node._replace(parts=(*kept, result)) if kept else result
        kept += [condition, result]
    otherwise = fold(otherwise, slots)
    return node._replace(parts=(*kept, otherwise)) if kept else otherwise


def _coalesce(node: Node, slots: Slots) -> Node:
    kept = list[Node]()
    for part in node.parts:
        part = fold(part, slots)
        if _is_null(part):
            continue
        kept.append(part)
        if part.kind == "const":
            break
    if not kept:
        return _constant(node, None)
    return kept[0] if len(kept) == 1 else node._replace(parts=tuple(kept))


def _nullif(node: Node, slots: Slots) -> Node:
    parts = tuple(fold(part, slots) for part in node.parts)
    # NULL is equal to nothing, so the second operand is not even worked out.
    return parts[0] if any(map(_is_null, parts)) else _evaluated(node._replace(parts=parts))


def _let(node: Node, slots: Slots) -> Node:
    operand = fold(node.parts[0], slots)
    body = fold(node.parts[1], {**slots, node.value: operand})
    return node._replace(parts=(operand, body)) if _uses(body, node.value) else body


def _slot(node: Node, slots: Slots) -> Node:
    meant = slots[node.value]
    return meant if meant.kind == "const" else node


def _uses(node: Node, slot: int) -> bool:
    return (node.kind == "slot" and node.value == slot) or any(_uses(part, slot) for part in node.parts)


_KINDS: dict[str, Callable[[Node, Slots], Node]] = {
    "and": _junction("false"),
    "or": _junction("true"),
    "case": _case,
    "coalesce": _coalesce,
    "nullif": _nullif,
    "let": _let,
    "slot": _slot,
}
