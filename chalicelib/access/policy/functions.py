"""What operators, casts and functions of policies do, by the name that compiled policies call them by.

All are strict: they are called with values and never with NULL, and may answer NULL. `stable` ones depend on
settings of a PostgreSQL session, so its planner does not work them out beforehand, and neither do we.
"""

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from chalicelib.access.policy import patterns, values
from chalicelib.access.policy.values import EvaluationError

Function = Callable[..., Any]


# ---- text ----------------------------------------------------------------------------------------------
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
lower = values.lower_ascii


def upper(text: str) -> str:
    return text.translate(_UPPER)


def concatenate(left: str, right: str) -> str:
    if len(left) + len(right) > values.MAX_TEXT:
        raise EvaluationError(f"a text has at most {values.MAX_TEXT} characters")
    return left + right


def split_part(text: str, delimiter: str, field: int) -> str:
    if not field:
        raise EvaluationError("field position must not be zero")
    parts = text.split(delimiter) if delimiter else [text]
    position = field - 1 if field > 0 else len(parts) + field
    return parts[position] if 0 <= position < len(parts) else ""


def like(text: str, pattern: str) -> bool:
    return patterns.matcher(pattern)(text)


def ilike(text: str, pattern: str) -> bool:
    return patterns.matcher(lower(pattern))(lower(text))


def like_escape(pattern: str, escape: str) -> str:
    """The pattern with `\\` as its escape character in place of `escape` (empty: none)."""
    if not escape:
        return pattern.replace("\\", "\\\\")
    if len(escape) > 1:
        raise EvaluationError("an escape is one character or empty")
    if escape == "\\":
        return pattern
    written, escaped = [], False
    for character in pattern:
        if character == escape and not escaped:
            written.append("\\")
            escaped = True
        else:
            written.append("\\\\" if character == "\\" and not escaped else character)
            escaped = False
    return "".join(written)


# ---- numbers -------------------------------------------------------------------------------------------
def _checked(check: Callable[[int], int], calculate: Callable[[int, int], int]) -> Function:
    return lambda left, right: check(calculate(left, right))


def _quotient(left: int, right: int) -> int:
    if not right:
        raise EvaluationError("division by zero")
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _ordered(key: Callable[[Any], Any], compare: Callable[[Any, Any], bool]) -> Function:
    return lambda left, right: compare(key(left), key(right))


# ---- jsonb ---------------------------------------------------------------------------------------------
def get(value: Any, key: str | int) -> Any:
    """`->`: a Json, or NULL."""
    found = values.jsonb_field(value.value, key)
    return Json(found[0]) if found else None


def get_text(value: Any, key: str | int) -> str | None:
    """`->>`"""
    found = values.jsonb_field(value.value, key)
    return values.jsonb_text(found[0]) if found else None


def path_text(value: Any, path: list[str | None]) -> str | None:
    """`#>>`"""
    here = value.value
    if not path and isinstance(here, list | dict):
        return values.jsonb_out(here)
    for step in path:
        key: str | int | None = _index(step) if isinstance(here, list) else step
        found = () if key is None else values.jsonb_field(here, key)
        if not found:
            return None
        here = found[0]
    return values.jsonb_text(here)


def _index(step: str | None) -> int | None:
    try:
        return None if step is None else values.int4_in(step)
    except EvaluationError:
        return None


def exists(value: Any, key: str) -> bool:
    """`?`: a key of an object, a text of an array, or the text itself."""
    here = value.value
    return key in here if isinstance(here, dict) else any(type(each) is str and each == key for each in values.members_of(here))


class Json:
    """A jsonb value, wrapped so that JSON's null is not NULL."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _jsonb_in(text: str) -> Json:
    return Json(values.jsonb_in(text))


def _jsonb_number(convert: Callable[[int], int], name: str) -> Function:
    return lambda value: convert(values.numeric_to_int(values.jsonb_scalar(value.value, Decimal, name)))


def _jsonb_ordered(compare: Callable[[int, int], bool]) -> Function:
    return lambda left, right: compare(values.jsonb_compare(left.value, right.value), 0)


# ---- the table -----------------------------------------------------------------------------------------
COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "=": ("eq", operator.eq),
    "<>": ("ne", operator.ne),
    "<": ("lt", operator.lt),
    "<=": ("le", operator.le),
    ">": ("gt", operator.gt),
    ">=": ("ge", operator.ge),
}
PLAIN = ("bool", "int4", "int8", "text", "uuid", "timestamptz")
_KEYS: dict[str, Callable[[Any], Any]] = {"numeric": values.numeric_order, "interval": values.interval_order}

IMMUTABLE: dict[str, Function] = {
    **{f"{name}_{kind}": compare for kind in PLAIN for name, compare in COMPARISONS.values()},
    **{f"{name}_{kind}": _ordered(key, compare) for kind, key in _KEYS.items() for name, compare in COMPARISONS.values()},
    **{f"{name}_jsonb": _jsonb_ordered(compare) for name, compare in COMPARISONS.values()},
    **{
        f"{name}_{kind}": _checked(check, calculate)
        for kind, check in (("int4", values.int4), ("int8", values.int8))
        for name, calculate in (("add", operator.add), ("sub", operator.sub), ("mul", operator.mul), ("div", _quotient))
    },
    "add_numeric": values.add,
    "sub_numeric": values.subtract,
    "mul_numeric": values.multiply,
    "div_numeric": values.divide,
    "neg_int4": lambda value: values.int4(-value),
    "neg_int8": lambda value: values.int8(-value),
    "neg_numeric": lambda value: value.copy_negate() if value else value,
    "neg_interval": lambda value: values.combine((0, 0, 0), value, -1),
    "add_interval": lambda left, right: values.combine(left, right, 1),
    "sub_interval": lambda left, right: values.combine(left, right, -1),
    "sub_timestamptz": values.difference,
    "concat": concatenate,
    "like": like,
    "ilike": ilike,
    "like_escape": like_escape,
    "lower": lower,
    "upper": upper,
    "length": len,
    "split_part": split_part,
    "starts_with": str.startswith,
    "strpos": lambda text, part: text.find(part) + 1,
    "get": get,
    "get_text": get_text,
    "path_text": path_text,
    "exists": exists,
    # casts
    "text_bool": values.bool_in,
    "text_int4": values.int4_in,
    "text_int8": values.int8_in,
    "text_numeric": values.numeric_in,
    "text_uuid": values.uuid_in,
    "text_jsonb": _jsonb_in,
    "text_path": values.text_array_in,
    "bool_text": values.bool_out,
    "int4_text": str,
    "int8_text": str,
    "numeric_text": values.numeric_out,
    "uuid_text": str,
    "jsonb_text": lambda value: values.jsonb_out(value.value),
    "bool_int4": int,
    "int4_bool": bool,
    "int8_int4": values.int4,
    "int4_numeric": Decimal,
    "int8_numeric": Decimal,
    "numeric_int4": lambda value: values.int4(values.numeric_to_int(value)),
    "numeric_int8": lambda value: values.int8(values.numeric_to_int(value)),
    "jsonb_bool": lambda value: values.jsonb_scalar(value.value, bool, "boolean"),
    "jsonb_int4": _jsonb_number(values.int4, "integer"),
    "jsonb_int8": _jsonb_number(values.int8, "bigint"),
    "jsonb_numeric": lambda value: values.jsonb_scalar(value.value, Decimal, "numeric"),
}
STABLE: dict[str, Function] = {
    "text_timestamptz": values.timestamptz_in,
    "text_interval": values.interval_in,
    "timestamptz_text": values.timestamptz_out,
    "interval_text": values.interval_out,
    "add_timestamptz": values.add_interval,
    "sub_timestamptz_interval": lambda moment, interval: values.add_interval(moment, (-interval[0], -interval[1], -interval[2])),
}
FUNCTIONS: dict[str, Function] = IMMUTABLE | STABLE
