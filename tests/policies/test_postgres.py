"""A policy means what PostgreSQL 15 means by it: `CORPUS` and random policies, on rows and for callers of all kinds."""

from random import Random

import pytest

from . import strategies
from .agreement import Comparison, compare
from .corpus import CORPUS, MAY_BE_REFUSED
from .postgres import Oracle
from .rows import CALLERS, ROWS
from .strategies import drawn

# Each process would start a server of its own.
pytestmark = pytest.mark.xdist_group("postgres")

GENERATED = 2500
BATCHES = 10


@pytest.mark.parametrize("section", CORPUS)
def test_policies_written_by_hand_mean_what_postgresql_says(oracle: Oracle, section: str) -> None:
    about_callers = [expression for expression in CORPUS[section] if "auth_" in expression.lower()]
    others = [expression for expression in CORPUS[section] if "auth_" not in expression.lower()]

    for expressions, callers in ((about_callers, CALLERS), (others, CALLERS[:2])):
        comparison = compare(oracle, expressions, ROWS, callers, strict=True)
        assert not comparison.differences, str(comparison)


def test_what_is_close_to_the_language_is_refused_or_means_the_same(oracle: Oracle) -> None:
    comparison = compare(oracle, MAY_BE_REFUSED, ROWS, CALLERS[:2], strict=True, may_refuse=True)

    assert not comparison.differences, str(comparison)


def test_random_policies_mean_what_postgresql_says(oracle: Oracle) -> None:
    random = Random(0)
    expressions = list(dict.fromkeys(drawn(strategies.expressions(), GENERATED)))
    rows, callers = drawn(strategies.rows(), 100), drawn(strategies.callers(), 30)
    total = Comparison()

    for batch in range(BATCHES):
        some_rows = random.sample(rows, 10) + random.sample(ROWS, 10)
        some_callers = [*random.sample(callers, 1), *random.sample(CALLERS, 1)]
        comparison = compare(oracle, expressions[batch::BATCHES], some_rows, some_callers)
        total.made += comparison.made
        total.differences += comparison.differences

    assert not total.differences, str(total)
    assert total.made >= 20_000
