"""The policy language: PostgreSQL 15's boolean expressions over an object's row and its caller.

`compile_policy` turns a definition into a Policy once, at its creation: parsed (`grammar`), typed (`analysis`)
and its constants worked out (`folding`). `Policy.compiled` is JSON, which is stored; `Policy.evaluate` runs it
as closures (`closures`). What PostgreSQL rejects is refused, and what it fails on raises EvaluationError.
"""

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from chalicelib.access.policy.closures import Scope, closure
from chalicelib.access.policy.nodes import Node
from chalicelib.access.policy.values import EvaluationError
from chalicelib.errors import InvalidPolicy
from chalicelib.observability import logger

__all__ = ["EvaluationError", "InvalidPolicy", "Policy", "Scope", "compile_policy"]


class Policy:
    """A compiled definition."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.evaluate: Callable[[Scope], bool | None] = closure(root)
        """True, False or None (NULL) for a scope; raises EvaluationError."""

    def holds(self, scope: Scope) -> bool:
        """Whether the definition is true: neither false, nor NULL, nor an error."""
        try:
            return self.evaluate(scope) is True
        except EvaluationError:
            return False
        except Exception:  # a defect of ours: it denies this row too, instead of failing the page that the row is on
            logger().exception("a policy could not be worked out")
            return False

    def may_hold(self, scope: Scope) -> bool:
        """Whether it can be true of any row at all, as far as the caller tells who is in `scope`; its row is not looked at."""
        return _may_hold(self._of_caller, scope) and not (self.is_own_only and scope.uid is None)

    @cached_property
    def _of_caller(self) -> "_Sketch":
        return _sketched(self.root)

    @property
    def compiled(self) -> str:
        """The policy as JSON, which `from_compiled` reads back."""
        return json.dumps(_written(self.root), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_compiled(cls, text: str) -> "Policy":
        return cls(_read(json.loads(text)))

    @cached_property
    def is_own_only(self) -> bool:
        """Whether it can hold only for rows whose `owner_id` is the caller."""
        return _implies_owner(self.root)


def compile_policy(source: str) -> Policy:
    """The policy that a definition means; raises InvalidPolicy with the position of what is refused."""
    # Only the creation of a policy and `explain` parse: a request pays for the closures alone.
    from chalicelib.access.policy.analysis import analyse
    from chalicelib.access.policy.folding import fold
    from chalicelib.access.policy.grammar import parse

    try:
        return Policy(fold(analyse(parse(source)), {}))
    except RecursionError:
        raise InvalidPolicy("this is nested too deeply", 0) from None


def _written(node: Node) -> list[Any]:
    return [*node[:5], *map(_written, node.parts)]


def _read(written: list[Any]) -> Node:
    kind, type_, start, end, value, *parts = written
    return Node(kind, type_, start, end, value, tuple(map(_read, parts)))


# What of a definition says something of the caller alone: conjunctions and disjunctions of it, and None for what depends on a row.
_Sketch = tuple[str, tuple[Any, ...]] | Callable[[Scope], bool | None] | None


def _sketched(node: Node) -> _Sketch:
    if node.kind in ("and", "or"):
        return node.kind, tuple(map(_sketched, node.parts))
    return None if _depends_on_row(node) else closure(node)


def _depends_on_row(node: Node) -> bool:
    return node.kind == "column" or any(map(_depends_on_row, node.parts))


def _may_hold(sketch: _Sketch, scope: Scope) -> bool:
    if sketch is None:
        return True
    if isinstance(sketch, tuple):
        kind, parts = sketch
        return (all if kind == "and" else any)(_may_hold(part, scope) for part in parts)
    try:
        return sketch(scope) is True
    except EvaluationError:
        return False
    except Exception:  # a defect of ours: `holds` decides, row by row
        logger().exception("a policy could not be worked out")
        return True


def _implies_owner(node: Node) -> bool:
    if node.kind == "and":
        return any(map(_implies_owner, node.parts))
    if node.kind == "or":
        return all(map(_implies_owner, node.parts))
    if node.kind != "call" or node.value not in ("eq_uuid", "eq_text"):
        return False
    return {_sketch(part) for part in node.parts} == (
        {"owner", "caller as uuid"} if node.value == "eq_uuid" else {"owner as text", "caller"}
    )


def _sketch(node: Node) -> str:
    if node.kind == "call" and node.value in ("text_uuid", "uuid_text"):
        return f"{_sketch(node.parts[0])} as {node.type}"
    return {("column", "owner_id"): "owner", ("caller", "auth_uid"): "caller"}.get((node.kind, node.value), "")
