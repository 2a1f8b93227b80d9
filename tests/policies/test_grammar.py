"""What policies leave out is refused; what they take is PostgreSQL's grammar, by its own parser (pglast)."""

from typing import Any

import pytest
from pglast import ast, parse_sql  # type: ignore[import-untyped]
from pglast.parser import ParseError  # type: ignore[import-untyped]

from chalicelib.access.policy import InvalidPolicy, Policy, compile_policy

from . import strategies
from .agreement import compiled
from .corpus import MAY_BE_REFUSED, REFUSED, refused, written
from .strategies import drawn

# PostgreSQL continues a string after a comment that ends with its line; pglast, which keeps comments, does not.
MISREAD = {"'a' -- comment\n'b' = 'ab'"}


def parsed(expression: str) -> Any:
    """The syntax tree of one expression; raises ParseError for what is none, or more."""
    # Within brackets no parenthesis can be closed and opened again; within parentheses no second element fits.
    for before, after in (("ARRAY[", "]"), ("(", ")")):
        (statement,) = parse_sql(f"SELECT {before}{expression}\n{after}")
    (target,) = statement.stmt.targetList
    return target.val


@pytest.mark.parametrize("section", REFUSED)
def test_what_policies_leave_out_is_refused(section: str) -> None:
    for expression in REFUSED[section]:
        with pytest.raises(InvalidPolicy) as refusal:
            compile_policy(expression)
        assert 0 <= refusal.value.position <= len(expression), expression


def test_every_refusal_tells_a_position_within_the_policy() -> None:
    for expression in written():
        refusal = compiled(expression)
        if not isinstance(refusal, Policy):
            assert isinstance(refusal, InvalidPolicy), (expression, refusal)
            assert 0 <= refusal.position <= len(expression), expression


def test_every_policy_is_an_expression_of_postgresqls_grammar() -> None:
    expressions = {*written(), *refused(), *MAY_BE_REFUSED, *drawn(strategies.expressions(), 1000)} - MISREAD
    policies = [expression for expression in expressions if isinstance(compiled(expression), Policy)]

    for expression in policies:
        try:
            assert not isinstance(parsed(expression), ast.RowExpr), expression
        except ParseError as error:
            pytest.fail(f"PostgreSQL does not parse {expression!r}: {error}")
    assert len(policies) > 1500
