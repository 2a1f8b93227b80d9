"""Garbage: physical keys that nothing needed when they were filed, by the hour in which they fall due.

The sort key is the physical key, so a key filed twice for one hour is one row. One row of the same table,
`cursor`, remembers the oldest hour that may still hold some.
"""

from typing import ClassVar

from chalicelib.tables.table import NumberAttribute, Table, UnicodeAttribute, table_name


class Garbage(Table):
    """One key that may go at `due_at` (epoch seconds) if no row names it then."""

    class Meta:
        table_name: ClassVar[str] = table_name("garbage")

    hour = UnicodeAttribute(hash_key=True)
    physical_key = UnicodeAttribute(range_key=True)
    due_at = NumberAttribute()
    partition = UnicodeAttribute()
    name = UnicodeAttribute()
    version = UnicodeAttribute()
    attempts = NumberAttribute(default=0)


class Cursor(Table):
    """The oldest hour of garbage that the collector has not emptied for good."""

    class Meta:
        table_name: ClassVar[str] = table_name("garbage")

    hour = UnicodeAttribute(hash_key=True)
    physical_key = UnicodeAttribute(range_key=True)
    next_hour = UnicodeAttribute()

    HOUR: ClassVar[str] = "cursor"
    KEY: ClassVar[str] = "collector"
