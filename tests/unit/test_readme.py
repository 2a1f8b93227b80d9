"""README says what is so."""

import re

from chalicelib.settings import Settings
from infra.docs import README, with_tables

TEXT = README.read_text(encoding="utf-8")


def test_the_made_tables_are_up_to_date() -> None:
    assert with_tables(TEXT) == TEXT, "run: python -m infra.docs"


def test_every_setting_has_a_row_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `STOWAGE_(\w+)` \|([^|]*)\|", TEXT, re.MULTILINE))
    assert {name.lower() for name in rows} == set(Settings.__annotations__)
    for name, told in rows.items():
        default = getattr(Settings(), name.lower())
        shown = str(default).lower() if isinstance(default, bool) else default
        assert not default or f"`{shown}`" == told.strip(), name
