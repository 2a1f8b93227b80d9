"""Garbage: physical keys that nothing needed when they were filed, by the hour in which they fall due.

The sort key is the physical key, so a key filed twice for one hour is one row. What goes over the storage lies in the
same table, under words in place of the hour:

`cursor`      by the name of a work: the oldest hour that may still hold some
`sweep`       by the name of a sweep: how far it is
`missing`     by physical key: an object whose bytes were not found; `orphan`: bytes that no row was found for
`quarantine`  by physical key: the row of an object that is out of sight, for its bytes are missing
"""

from typing import ClassVar

from chalicelib.tables.table import JSONAttribute, NumberAttribute, Table, UnicodeAttribute, table_name


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
    storage_id = UnicodeAttribute(null=True)
    attempts = NumberAttribute(default=0)


class Cursor(Table):
    """The oldest hour of a work that is not done for good."""

    class Meta:
        table_name: ClassVar[str] = table_name("garbage")

    hour = UnicodeAttribute(hash_key=True)
    physical_key = UnicodeAttribute(range_key=True)
    next_hour = UnicodeAttribute()

    HOUR: ClassVar[str] = "cursor"


class Sweep(Table):
    """A round over everything: `position` None between two rounds; `total` is what the last whole round has seen."""

    class Meta:
        table_name: ClassVar[str] = table_name("garbage")

    hour = UnicodeAttribute(hash_key=True)
    kind = UnicodeAttribute(range_key=True, attr_name="physical_key")
    position = JSONAttribute(null=True)
    began_at = NumberAttribute()
    examined = NumberAttribute(default=0)
    total = NumberAttribute(null=True)

    HOUR: ClassVar[str] = "sweep"


class Suspect(Table):
    """A row without bytes, or bytes without a row, seen `sightings` times since `first_seen` (epoch seconds)."""

    class Meta:
        table_name: ClassVar[str] = table_name("garbage")

    kind = UnicodeAttribute(hash_key=True, attr_name="hour")
    physical_key = UnicodeAttribute(range_key=True)
    partition = UnicodeAttribute()
    name = UnicodeAttribute()
    version = UnicodeAttribute()
    storage_id = UnicodeAttribute(null=True)
    first_seen = NumberAttribute()
    sightings = NumberAttribute(default=1)


class Quarantined(Table):
    """An object's row, kept `until` its bytes are given up (epoch seconds)."""

    class Meta:
        table_name: ClassVar[str] = table_name("garbage")

    hour = UnicodeAttribute(hash_key=True)
    physical_key = UnicodeAttribute(range_key=True)
    row = JSONAttribute()
    until = NumberAttribute()

    HOUR: ClassVar[str] = "quarantine"
