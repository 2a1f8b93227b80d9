"""Transforms under way, and what came of those that were not: a row a transformed image, by its key in the storage.

A row counts until `until`; whoever finds it past may take it over. Rows go a day later by `expires_at`.
A row beside them tells of which versions there are transforms where anybody may fetch them.
"""

from typing import ClassVar

from chalicelib.tables.table import NumberAttribute, Table, UnicodeAttribute, table_name


class Transform(Table):
    """One transformed image. `state`: making, made or refused (then `refusal` says why); `until` in seconds since 1970."""

    class Meta:
        table_name: ClassVar[str] = table_name("transforms")

    result_key = UnicodeAttribute(hash_key=True)
    token = UnicodeAttribute()
    state = UnicodeAttribute()
    until = NumberAttribute()
    refusal = UnicodeAttribute(null=True)
    expires_at = NumberAttribute()


class Published(Table):
    """That what lies below `folder`, which is of one version, was made to be fetched by anybody (`core/publishing.py`)."""

    class Meta:
        table_name: ClassVar[str] = table_name("transforms")

    folder = UnicodeAttribute(hash_key=True, attr_name="result_key")
    expires_at = NumberAttribute()
