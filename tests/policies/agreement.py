"""Whether Stowage and PostgreSQL mean the same by a policy.

True, false and NULL must be the same on every row. Where PostgreSQL fails, Stowage must not say true: a policy
that fails denies. Expressions written by hand are held to more: where PostgreSQL fails, Stowage must as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from chalicelib.access.policy import EvaluationError, InvalidPolicy, Policy, Scope, compile_policy

from .postgres import Answers, Oracle
from .rows import Caller, Row

LETTERS: dict[bool | None, str] = {True: "t", False: "f", None: "n"}
WORDS = {"t": "true", "f": "false", "n": "NULL", "e": "error", "r": "refused"}
SHOWN = 20


@dataclass(frozen=True)
class Disagreement:
    """Two opinions of one expression for one caller on one row."""

    expression: str
    caller: Caller
    row: Row
    postgres: str
    stowage: str

    def __str__(self) -> str:
        return f"{self.expression!r}\n  PostgreSQL: {self.postgres}\n  Stowage:    {self.stowage}\n  {self.caller}\n  {self.row}"


def stowage_answer(policy: Policy | Exception, caller: Caller, row: Row) -> tuple[str, str]:
    """A letter, as PostgreSQL's, `r` (refused) or `!` (a defect: no failure of these), and a reason."""
    if isinstance(policy, InvalidPolicy):
        return "r", policy.message
    if isinstance(policy, Exception):
        return "!", f"compiling: {policy!r}"
    try:
        return LETTERS[policy.evaluate(Scope(uid=caller.uid, role=caller.role, email=caller.email, now=caller.now, row=row))], ""
    except EvaluationError as error:
        return "e", str(error)
    except Exception as error:
        return "!", repr(error)


def compiled(expression: str) -> Policy | Exception:
    """The policy, or why there is none."""
    try:
        return compile_policy(expression)
    except Exception as error:
        return error


def agrees(postgres: str, stowage: str, *, strict: bool, may_refuse: bool) -> bool:
    if postgres == stowage:
        return True
    if postgres == "e":
        return stowage in ("r" if strict else "rfn")
    return may_refuse and stowage in "re"


@dataclass
class Comparison:
    """How many opinions were compared, and those that differed."""

    made: int = 0
    differences: list[Disagreement] = field(default_factory=list)

    def __str__(self) -> str:
        """The first difference of each expression."""
        first = {different.expression: different for different in reversed(self.differences)}
        shown = "\n".join(map(str, list(first.values())[:SHOWN]))
        return f"{len(self.differences)} of {self.made} comparisons differ, in {len(first)} expressions\n{shown}"


def compare(
    oracle: Oracle,
    expressions: Sequence[str],
    rows: Sequence[Row],
    callers: Sequence[Caller],
    *,
    strict: bool = False,
    may_refuse: bool = False,
) -> Comparison:
    """Ask both about each expression, for each caller on each row. `may_refuse`: so may Stowage what PostgreSQL takes."""
    comparison = Comparison()
    for expression, told in zip(expressions, oracle.answers(expressions, rows, callers), strict=True):
        policy = compiled(expression)
        pairs = [(caller, row) for caller in callers for row in rows]
        comparison.made += len(pairs)
        for (caller, row), letter in zip(pairs, told.letters, strict=True):
            ours, reason = stowage_answer(policy, caller, row)
            if not agrees(letter, ours, strict=strict, may_refuse=may_refuse):
                said = f"{WORDS.get(ours, ours)} {reason}".strip()
                comparison.differences.append(Disagreement(expression, caller, row, _postgres_says(letter, told), said))
    return comparison


def _postgres_says(letter: str, told: Answers) -> str:
    return WORDS[letter] + (f" ({told.complaint})" if letter == "e" else "")
