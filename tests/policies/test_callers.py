"""What a policy can say of its caller alone, before any row is looked at: never less than it says of some row."""

import pytest

from chalicelib.access.policy import InvalidPolicy, Policy, Scope, compile_policy

from . import strategies
from .corpus import CORPUS
from .rows import ADA, CALLERS, NOON, ROWS
from .strategies import drawn

RANDOM = 1500


def compiled(expression: str) -> Policy | None:
    try:
        return compile_policy(expression)
    except InvalidPolicy:
        return None


@pytest.mark.parametrize("of", ["by hand", "random"])
def test_who_is_left_out_is_never_one_for_whom_it_holds(of: str) -> None:
    by_hand = [expression for section in CORPUS.values() for expression in section]
    expressions = by_hand if of == "by hand" else list(dict.fromkeys(drawn(strategies.expressions(), RANDOM)))
    left_out = 0
    for expression in expressions:
        policy = compiled(expression)
        if policy is None:
            continue
        for caller in CALLERS:
            if policy.may_hold(Scope(caller.uid, caller.role, caller.email, {}, caller.now)):
                continue
            left_out += 1
            for row in ROWS[:12]:
                assert not policy.holds(Scope(caller.uid, caller.role, caller.email, row, caller.now)), (expression, caller)
    assert left_out > 100, "otherwise nothing was shown"


@pytest.mark.parametrize(
    ("source", "who"),
    [
        ("auth_role() = 'authenticated'", {"user"}),
        ("auth_role() = 'authenticated' AND owner_id = auth_uid()::uuid", {"user"}),
        ("owner_id = auth_uid()::uuid", {"user", "editor"}),
        ("owner_id = auth_uid()::uuid OR name = 'a'", {"user", "editor", "anon"}),
        ("auth_role() = 'editor' OR (auth_role() = 'authenticated' AND size < 5)", {"user", "editor"}),
        ("auth_uid() IS NOT NULL", {"user", "editor"}),
        ("auth_email() LIKE '%@example.com' AND size > 1", {"user"}),
        ("NOT auth_role() = 'anon' AND name = 'a'", {"user", "editor"}),
        ("auth_uid()::uuid = '00000000-0000-0000-0000-000000000000'", set()),
        ("auth_email()::int = 1 OR size = 1", {"user", "editor", "anon"}),
        ("auth_email()::int = 1 AND size = 1", set()),
        ("false", set()),
        ("NULL", set()),
        ("true", {"user", "editor", "anon"}),
        ("now() < '2000-01-01'", set()),
    ],
)
def test_for_whom_it_may_hold(source: str, who: set[str]) -> None:
    policy = compile_policy(source)
    callers = {
        "user": Scope(ADA, "authenticated", "ada@example.com", {}, NOON),
        "editor": Scope(ADA, "editor", None, {}, NOON),
        "anon": Scope(None, "anon", None, {}, NOON),
    }
    assert {name for name, scope in callers.items() if policy.may_hold(scope)} == who
    again = Policy.from_compiled(policy.compiled)
    assert {name for name, scope in callers.items() if again.may_hold(scope)} == who
