"""How much of what is dear a tenant may have, by tenant and by what it is."""

from typing import ClassVar

from chalicelib.tables.table import NumberAttribute, Table, UnicodeAttribute, table_name


class Limit(Table):
    """A bucket of tokens, told by the microsecond since 1970 at which it is full again; `name` is `{tenant}#{what}`."""

    class Meta:
        table_name: ClassVar[str] = table_name("limits")

    name = UnicodeAttribute(hash_key=True)
    full_at = NumberAttribute()
    expires_at = NumberAttribute()
