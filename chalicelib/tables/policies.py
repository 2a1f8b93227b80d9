"""Policies by bucket.

The id begins with the bucket's, so that a policy is found by its id alone, and a bucket that takes a deleted
one's name has none of its policies.
"""

from typing import ClassVar

from chalicelib.tables.table import Table, UnicodeAttribute, table_name


class StoredPolicy(Table):
    """One policy: `definition` is the source, `compiled` the JSON that requests run (`access/policy`)."""

    class Meta:
        table_name: ClassVar[str] = table_name("policies")

    bucket_id = UnicodeAttribute(hash_key=True)
    policy_id = UnicodeAttribute(range_key=True)
    tenant_id = UnicodeAttribute()
    bucket = UnicodeAttribute()
    name = UnicodeAttribute()
    operation = UnicodeAttribute()
    definition = UnicodeAttribute()
    compiled = UnicodeAttribute()
    created_at = UnicodeAttribute()
