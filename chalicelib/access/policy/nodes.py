"""The tree of a compiled policy, and its constants as text."""

from typing import Any, NamedTuple

from chalicelib.access.policy import functions


class Node(NamedTuple):
    """One operation: `kind`, the `type` of its value, where it stands in the source, a `value`, and its parts.

    kind      value                       parts
    const     text as its type writes it  (None: NULL)
    column    name
    caller    name                        auth_uid, auth_role, auth_email, now
    call      function                    arguments; strict
    and, or, not, case, coalesce          operands
    is        `[not ]null|true|false`     one operand
    distinct  comparison function         two operands; `nullif` likewise
    any, all  comparison function         the operand, then what it is compared with
    let       number                      what slot `number` means, and the body in which it stands
    slot      number
    """

    kind: str
    type: str
    start: int
    end: int
    value: Any = None
    parts: "tuple[Node, ...]" = ()


def written(type_: str, value: Any) -> str:
    """A constant as text, in a form that its type reads back."""
    return str(functions.FUNCTIONS[f"{type_}_text"](value)) if type_ != "text" else str(value)


def constant(type_: str, text: str | None) -> Any:
    """The value of a constant that `written` wrote."""
    return text if text is None or type_ == "text" else functions.FUNCTIONS[f"text_{type_}"](text)
