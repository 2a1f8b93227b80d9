"""One PostgreSQL for all of these tests."""

from collections.abc import Iterator

import pytest

from .postgres import PROGRAMS, Oracle, running_oracle


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    if not (PROGRAMS / "postgres").exists():
        pytest.skip(f"PostgreSQL 15 is not in {PROGRAMS}: see tests/install-packages.sh")
    with running_oracle() as running:
        yield running
