"""From syntax to meaning: types, operators and coercions as PostgreSQL 15's parser settles them (parse_oper.c, parse_coerce.c).

The outcome is a tree of Nodes whose every operation is a function by name (`functions.py`). A literal has the
type `unknown` until what it meets tells it one, as in PostgreSQL, and is then read by that type's input
function: a malformed one is refused here, with its position.
"""

from collections.abc import Callable, Sequence
from typing import Any

from chalicelib.access.policy import functions, values
from chalicelib.access.policy.functions import COMPARISONS
from chalicelib.access.policy.grammar import MAX_DEPTH, Syntax
from chalicelib.access.policy.nodes import Node, written
from chalicelib.access.policy.values import EvaluationError
from chalicelib.errors import InvalidPolicy

COLUMNS = {
    "id": "uuid",
    "name": "text",
    "bucket_id": "text",
    "size": "int8",
    "content_type": "text",
    "checksum": "text",
    "owner_id": "uuid",
    "user_metadata": "jsonb",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
}
CALLER = {"auth_uid": "text", "auth_role": "text", "auth_email": "text", "now": "timestamptz"}
# Parameters and result of the functions that can be called.
SIGNATURES = {
    "lower": (("text",), "text"),
    "upper": (("text",), "text"),
    "length": (("text",), "int4"),
    "split_part": (("text", "text", "int4"), "text"),
    "starts_with": (("text", "text"), "bool"),
    "strpos": (("text", "text"), "int4"),
}
NUMBERS = ("int4", "int8", "numeric")
NAMES = {"int4": "integer", "int8": "bigint", "bool": "boolean", "unknown": "a literal"}
UNKNOWN = "unknown"
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_JSON_OPERATORS = {"->": ("get", "jsonb"), "->>": ("get_text", "text"), "?": ("exists", "bool")}


def analyse(syntax: Syntax) -> Node:
    """The typed tree of a boolean expression; raises InvalidPolicy."""
    return _Analysis().boolean(syntax)


class _Analysis:
    """Gives out the numbers of slots: each names an operand that is worked out once and used more than once."""

    def __init__(self) -> None:
        self._slots = 0

    def boolean(self, syntax: Syntax, depth: int = 0) -> Node:
        node = self.node(syntax, depth)
        if node.type not in ("bool", UNKNOWN):
            raise InvalidPolicy(f"a boolean is expected here, not {_name(node)}", syntax.start)
        return coerce(node, "bool")

    def node(self, syntax: Syntax, depth: int = 0) -> Node:
        if depth > MAX_DEPTH:
            raise InvalidPolicy(f"an expression is nested at most {MAX_DEPTH} deep", syntax.start)
        return _KINDS[syntax.kind](self, syntax, depth + 1)

    def _nodes(self, syntax: Sequence[Syntax], depth: int) -> list[Node]:
        return [self.node(part, depth) for part in syntax]

    # ---- operands --------------------------------------------------------------------------------------
    def string(self, syntax: Syntax, depth: int) -> Node:
        return _const(syntax, UNKNOWN, syntax.value)

    def number(self, syntax: Syntax, depth: int) -> Node:
        if syntax.value.lstrip("-").isdigit():
            whole = int(syntax.value) if len(syntax.value) <= values.MAX_DIGITS else values.INT8.stop
            for kind, fitting in (("int4", values.INT4), ("int8", values.INT8)):
                if whole in fitting:
                    return _const(syntax, kind, str(whole))
        return coerce(_const(syntax, UNKNOWN, syntax.value), "numeric")

    def constant(self, syntax: Syntax, depth: int) -> Node:
        return _const(syntax, UNKNOWN, None) if syntax.value == "null" else _const(syntax, "bool", syntax.value)

    def column(self, syntax: Syntax, depth: int) -> Node:
        if syntax.value not in COLUMNS:
            raise InvalidPolicy(f"there is no column {syntax.value}; there are {', '.join(COLUMNS)}", syntax.start)
        return Node("column", COLUMNS[syntax.value], syntax.start, syntax.end, syntax.value)

    # ---- logic -----------------------------------------------------------------------------------------
    def logic(self, syntax: Syntax, depth: int) -> Node:
        return _node(syntax.kind, "bool", syntax, None, [self.boolean(part, depth) for part in syntax.parts])

    def is_what(self, syntax: Syntax, depth: int) -> Node:
        if syntax.value.endswith("null"):
            part = self.node(syntax.parts[0], depth)
            return _node("is", "bool", syntax, syntax.value, [coerce(part, "text") if part.type == UNKNOWN else part])
        part = self.boolean(syntax.parts[0], depth)
        return _node("is", "bool", syntax, syntax.value.replace("unknown", "null"), [part])

    def distinct(self, syntax: Syntax, depth: int) -> Node:
        left, right = self._nodes(syntax.parts, depth)
        function, left, right = _comparison("=", left, right, syntax)
        found = _node("distinct", "bool", syntax, function, [left, right])
        return _node("not", "bool", syntax, None, [found]) if syntax.value else found

    # ---- operators -------------------------------------------------------------------------------------
    def binary(self, syntax: Syntax, depth: int) -> Node:
        left, right = self._nodes(syntax.parts, depth)
        if syntax.value in COMPARISONS:
            return _compared(syntax.value, left, right, syntax)
        if syntax.value == "||":
            return _concatenated(left, right, syntax)
        if syntax.value in _ARITHMETIC:
            return _calculated(syntax.value, left, right, syntax)
        return _json_operation(left, right, syntax)

    def sign(self, syntax: Syntax, depth: int) -> Node:
        part = self.node(syntax.parts[0], depth)
        if part.type not in (*NUMBERS, "interval") or (syntax.value == "+" and part.type == "interval"):
            raise InvalidPolicy(f"the operator {syntax.value} does not take {_name(part)}", syntax.start)
        return part if syntax.value == "+" else _call("neg_" + part.type, part.type, syntax, part)

    def like(self, syntax: Syntax, depth: int) -> Node:
        text, pattern, *escape = (_text(part, syntax) for part in self._nodes(syntax.parts, depth))
        if escape:
            pattern = _call("like_escape", "text", syntax, pattern, escape[0])
        found = _call("ilike" if syntax.value.endswith("ilike") else "like", "bool", syntax, text, pattern)
        return _negated(found, syntax)

    def between(self, syntax: Syntax, depth: int) -> Node:
        operand, low, high = self._nodes(syntax.parts, depth)

        def within(subject: Node, least: Node, most: Node) -> Node:
            return _and(syntax, _compared(">=", subject, least, syntax), _compared("<=", subject, most, syntax))

        def outside(subject: Node, least: Node, most: Node) -> Node:
            return _or(syntax, _compared("<", subject, least, syntax), _compared(">", subject, most, syntax))

        check, join = (outside, _and) if syntax.value.startswith("not") else (within, _or)
        if "symmetric" not in syntax.value:
            return self._shared(operand, syntax, lambda subject: check(subject, low, high))
        return self._shared(
            operand,
            syntax,
            lambda subject: self._shared(
                low,
                syntax,
                lambda one: self._shared(high, syntax, lambda other: join(syntax, check(subject, one, other), check(subject, other, one))),
            ),
        )

    def members(self, syntax: Syntax, depth: int) -> Node:
        """IN: members without columns are one array, compared at once; those with columns come after it, one by one (transformAExprIn)."""
        operand, *members = self._nodes(syntax.parts, depth)
        comparison, kind, join = ("<>", "all", _and) if syntax.value else ("=", "any", _or)

        def compared(subject: Node) -> Node:
            fixed = [member for member in members if not _has_column(member)]
            common = _common_type([subject, *fixed]) if len(fixed) > 1 else None
            single, found = members, list[Node]()
            if common:
                single = [member for member in members if _has_column(member)]
                elements = [coerce(member, common) for member in fixed]
                function, left, first = _comparison(comparison, subject, elements[0], syntax)
                widened = [first, *(_widened(element, first.type) for element in elements[1:])]
                found.append(_node(kind, "bool", syntax, function, [left, *widened]))
            found += [_compared(comparison, subject, member, syntax) for member in single]
            return found[0] if len(found) == 1 else join(syntax, *found)

        return self._shared(operand, syntax, compared)

    def _shared(self, operand: Node, syntax: Syntax, use: Callable[[Node], Node]) -> Node:
        """`use` of an operand that stands in several places, so that it is written and worked out once."""
        if operand.kind in ("const", "column", "caller", "slot"):
            return use(operand)
        slot = self._slots = self._slots + 1
        body = use(Node("slot", operand.type, operand.start, operand.end, slot))
        return Node("let", body.type, syntax.start, syntax.end, slot, (operand, body))

    # ---- forms -----------------------------------------------------------------------------------------
    def case(self, syntax: Syntax, depth: int) -> Node:
        if not syntax.value:
            return self._branches(syntax, syntax.parts, lambda condition: self.boolean(condition, depth), depth)
        subject = self.node(syntax.parts[0], depth)
        subject = coerce(subject, "text") if subject.type == UNKNOWN else subject
        return self._shared(
            subject,
            syntax,
            lambda shared: self._branches(
                syntax, syntax.parts[1:], lambda value: _compared("=", shared, self.node(value, depth), value), depth
            ),
        )

    def _branches(self, syntax: Syntax, parts: Sequence[Syntax], condition: Callable[[Syntax], Node], depth: int) -> Node:
        """Conditions and results in turn, then the result when none holds."""
        pairs, rest = len(parts) // 2 * 2, parts[len(parts) // 2 * 2 :]
        conditions = [condition(part) for part in parts[0:pairs:2]]
        results = [*self._nodes(parts[1:pairs:2], depth), *(self._nodes(rest, depth) or [_const(syntax, UNKNOWN, None)])]
        common = _common_type_or_refuse(results, "CASE")
        branches = [node for pair in zip(conditions, (coerce(result, common) for result in results[:-1]), strict=True) for node in pair]
        return _node("case", common, syntax, None, [*branches, coerce(results[-1], common)])

    def cast(self, syntax: Syntax, depth: int) -> Node:
        part = self.node(syntax.parts[0], depth)
        cast = _cast(part, syntax.value, syntax)
        return cast._replace(start=syntax.start, end=syntax.end)

    def call(self, syntax: Syntax, depth: int) -> Node:
        if syntax.value in CALLER:
            if syntax.parts:
                raise InvalidPolicy(f"{syntax.value}() takes no arguments", syntax.start)
            return Node("caller", CALLER[syntax.value], syntax.start, syntax.end, syntax.value)
        parts = self._nodes(syntax.parts, depth)
        if syntax.value == "coalesce" and parts:
            common = _common_type_or_refuse(parts, "COALESCE")
            return _node("coalesce", common, syntax, None, [coerce(part, common) for part in parts])
        if syntax.value == "nullif" and len(parts) == 2:
            function, left, right = _comparison("=", parts[0], parts[1], syntax)
            if {parts[0].type, parts[1].type} <= {"int4", "int8"}:  # compared as they are, so the result stays what it was
                left = parts[0]
            return _node("nullif", left.type, syntax, function, [left, right])
        if syntax.value not in SIGNATURES:
            known = ", ".join([*CALLER, *SIGNATURES, "coalesce", "nullif"])
            raise InvalidPolicy(f"the function {syntax.value} cannot be called here; these can: {known}", syntax.start)
        parameters, result = SIGNATURES[syntax.value]
        if len(parts) != len(parameters) or any(part.type not in (UNKNOWN, wanted) for part, wanted in zip(parts, parameters, strict=True)):
            wanted = ", ".join(NAMES.get(parameter, parameter) for parameter in parameters)
            raise InvalidPolicy(f"{syntax.value} takes ({wanted}), not ({', '.join(map(_name, parts))})", syntax.start)
        return _call(syntax.value, result, syntax, *(coerce(part, wanted) for part, wanted in zip(parts, parameters, strict=True)))


_KINDS: dict[str, Callable[[_Analysis, Syntax, int], Node]] = {
    "string": _Analysis.string,
    "number": _Analysis.number,
    "constant": _Analysis.constant,
    "column": _Analysis.column,
    "and": _Analysis.logic,
    "or": _Analysis.logic,
    "not": _Analysis.logic,
    "is": _Analysis.is_what,
    "distinct": _Analysis.distinct,
    "binary": _Analysis.binary,
    "sign": _Analysis.sign,
    "like": _Analysis.like,
    "between": _Analysis.between,
    "in": _Analysis.members,
    "case": _Analysis.case,
    "cast": _Analysis.cast,
    "call": _Analysis.call,
}


# ---- making nodes --------------------------------------------------------------------------------------
def _node(kind: str, type_: str, syntax: Syntax, value: Any, parts: Sequence[Node]) -> Node:
    return Node(kind, type_, syntax.start, syntax.end, value, tuple(parts))


def _const(syntax: Syntax, type_: str, value: str | None) -> Node:
    return Node("const", type_, syntax.start, syntax.end, value)


def _call(function: str, type_: str, where: Syntax | Node, *parts: Node) -> Node:
    return Node("call", type_, where.start, where.end, function, parts)


def _and(syntax: Syntax, *parts: Node) -> Node:
    return _node("and", "bool", syntax, None, parts)


def _or(syntax: Syntax, *parts: Node) -> Node:
    return _node("or", "bool", syntax, None, parts)


def _negated(node: Node, syntax: Syntax) -> Node:
    return _node("not", "bool", syntax, None, [node]) if syntax.value.startswith("not") else node


def _has_column(node: Node) -> bool:
    return node.kind == "column" or any(map(_has_column, node.parts))


def _name(node: Node) -> str:
    return NAMES.get(node.type, node.type)


def _mismatch(operator: str, left: Node, right: Node, syntax: Syntax) -> InvalidPolicy:
    hint = "; add a cast, such as auth_uid()::uuid" if {left.type, right.type} == {"text", "uuid"} else ""
    return InvalidPolicy(f"the operator {operator} does not take {_name(left)} and {_name(right)}{hint}", syntax.start)


# ---- coercion ------------------------------------------------------------------------------------------
def coerce(node: Node, wanted: str) -> Node:
    """A node as an operand of type `wanted`, by implicit coercion alone; raises InvalidPolicy for a malformed literal."""
    if node.type == wanted:
        return node
    if node.type == UNKNOWN:
        return _read_literal(node, wanted)
    return _widened(node, wanted)


def _read_literal(node: Node, wanted: str) -> Node:
    if node.value is None or wanted == "text":
        return node._replace(type=wanted)
    try:
        value = functions.FUNCTIONS[f"text_{wanted}"](node.value)
    except EvaluationError as error:
        raise InvalidPolicy(str(error), node.start) from None
    # Folding looks at booleans, which so have one spelling; everything else is kept as it was read.
    return node._replace(type=wanted, value=written(wanted, value) if wanted == "bool" else node.value)


def _widened(node: Node, wanted: str) -> Node:
    if node.type == wanted:
        return node
    if wanted == "numeric":
        return _call(f"{node.type}_numeric", "numeric", node, node)
    return node._replace(type=wanted) if node.kind == "const" else Node("relabel", wanted, node.start, node.end, None, (node,))


def _cast(node: Node, target: str, syntax: Syntax) -> Node:
    if node.type in (target, UNKNOWN):
        return coerce(node, target)
    if (node.type, target) == ("int4", "int8"):
        return _widened(node, target)
    function = f"{node.type}_{target}"
    if function not in functions.FUNCTIONS or target == "jsonb":
        raise InvalidPolicy(f"{_name(node)} cannot be cast to {NAMES.get(target, target)}", syntax.start)
    return _call(function, target, syntax, node)


def _common_type(nodes: Sequence[Node]) -> str | None:
    """The type that all can be coerced to, None when there is none (select_common_type)."""
    known = {node.type for node in nodes if node.type != UNKNOWN}
    if not known:
        return "text"
    if len(known) == 1:
        return known.pop()
    return max(known, key=NUMBERS.index) if known.issubset(NUMBERS) else None


def _common_type_or_refuse(nodes: Sequence[Node], form: str) -> str:
    common = _common_type(nodes)
    if common is None:
        first = nodes[0]
        other = next(node for node in nodes if node.type not in (UNKNOWN, first.type) or first.type == UNKNOWN)
        raise InvalidPolicy(f"the types of this {form} do not match: {', '.join(sorted({_name(node) for node in nodes}))}", other.start)
    return common


# ---- operators -----------------------------------------------------------------------------------------
def _comparison(operator: str, left: Node, right: Node, syntax: Syntax) -> tuple[str, Node, Node]:
    """The comparison function of two operands, and the operands coerced for it."""
    common = _common_type([left, right])
    if common is None:
        raise _mismatch(operator, left, right, syntax)
    return f"{COMPARISONS[operator][0]}_{common}", coerce(left, common), coerce(right, common)


def _compared(operator: str, left: Node, right: Node, syntax: Syntax) -> Node:
    function, left, right = _comparison(operator, left, right, syntax)
    return _call(function, "bool", syntax, left, right)


def _text(node: Node, syntax: Syntax) -> Node:
    if node.type not in ("text", UNKNOWN):
        raise InvalidPolicy(f"LIKE compares text, not {_name(node)}; add a cast ::text", syntax.start)
    return coerce(node, "text")


def _concatenated(left: Node, right: Node, syntax: Syntax) -> Node:
    """Text with text, or with anything as text (anytextcat); at least one side must be text or a literal."""
    types = {left.type, right.type}
    if not types & {"text", UNKNOWN} or types == {UNKNOWN, "jsonb"}:
        raise _mismatch("||", left, right, syntax)
    sides = [coerce(side, "text") if side.type in ("text", UNKNOWN) else _cast(side, "text", syntax) for side in (left, right)]
    return _call("concat", "text", syntax, *sides)


def _calculated(operator: str, left: Node, right: Node, syntax: Syntax) -> Node:
    name, types = _ARITHMETIC[operator], (left.type, right.type)
    common = _common_type([left, right])
    if common in NUMBERS:
        return _call(f"{name}_{common}", common, syntax, coerce(left, common), coerce(right, common))
    if operator in "+-" and common == "interval":
        return _call(f"{name}_interval", "interval", syntax, coerce(left, "interval"), coerce(right, "interval"))
    if operator == "-" and "timestamptz" in types and common == "timestamptz":
        return _call("sub_timestamptz", "interval", syntax, coerce(left, "timestamptz"), coerce(right, "timestamptz"))
    if operator == "+" and right.type == "timestamptz" and left.type in ("interval", UNKNOWN):
        left, right = right, left
    if operator in "+-" and left.type == "timestamptz" and right.type in ("interval", UNKNOWN):
        function = "add_timestamptz" if operator == "+" else "sub_timestamptz_interval"
        return _call(function, "timestamptz", syntax, left, coerce(right, "interval"))
    raise _mismatch(operator, left, right, syntax)


def _json_operation(left: Node, right: Node, syntax: Syntax) -> Node:
    if syntax.value == "?" and left.type == UNKNOWN:  # of the types that have this operator it is the only one
        left = coerce(left, "jsonb")
    if left.type != "jsonb":
        raise _mismatch(syntax.value, left, right, syntax)
    if syntax.value == "#>>":
        if right.kind != "const" or right.type != UNKNOWN:
            raise InvalidPolicy("#>> takes a literal path, such as '{a,b}'", right.start)
        return _call("path_text", "text", syntax, left, coerce(right, "path"))
    function, result = _JSON_OPERATORS[syntax.value]
    if right.type == "int4" and syntax.value != "?":
        return _call(function, result, syntax, left, right)
    if right.type not in ("text", UNKNOWN):
        raise _mismatch(syntax.value, left, right, syntax)
    return _call(function, result, syntax, left, coerce(right, "text"))
