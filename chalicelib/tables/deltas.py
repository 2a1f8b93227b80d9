"""Deltas by their key, each with a pointer beside it by which it is found when only its own id is told.

    {key_uuid}      {delta_uuid}    the delta
    {delta_uuid}    key             which key it belongs to

So all that a key has is one consistent query, in the order in which it came: ids of deltas are UUIDs of version 7.

`status`       `pending` until an upload is confirmed, then `stored`; `expired` when no URL works any more and nothing came; `deleted`
               as long as something of it may lie where only the cleanup deletes it
`attempts`     the uploads that were begun, newest last: `attempt`, `size`, `md5` in base64, `storage_id`, `expires_at` (epoch seconds)
`attempt`      the one whose bytes are the delta, with its `size_bytes` and `content_md5`
`claims`       sections that are taken: `claim_id`, `start`, `length`, `claimed_by`, `created_at`
`revision`     counts changes of the row: each is conditional on the one that was read
`cleaning_until`   until then somebody may be deleting a broken object, and nothing is confirmed (epoch seconds)
`expires_at`   when the last URL ends; of what has expired, when it is forgotten; of what was deleted, an hour after its last URL
`expiry_hour`  puts the row into the index `by-expiry`, until the cleanup has been there
"""

from typing import ClassVar

from chalicelib.tables.table import JSONAttribute, NumberAttribute, Table, UnicodeAttribute, table_name

PENDING, STORED, EXPIRED, DELETED = "pending", "stored", "expired", "deleted"


class Delta(Table):
    """One write-once part of a vault."""

    class Meta:
        table_name: ClassVar[str] = table_name("deltas")

    key_uuid = UnicodeAttribute(hash_key=True, attr_name="partition")
    delta_uuid = UnicodeAttribute(range_key=True, attr_name="item")
    tenant_id = UnicodeAttribute()
    status = UnicodeAttribute(default=PENDING)
    attempts = JSONAttribute(default=list)
    attempt = UnicodeAttribute(null=True)
    size_bytes = NumberAttribute(null=True)
    content_md5 = UnicodeAttribute(null=True)
    claims = JSONAttribute(default=list)
    revision = NumberAttribute(default=1)
    created_at = UnicodeAttribute()
    confirmed_at = UnicodeAttribute(null=True)
    cleaning_until = NumberAttribute(default=0)
    expires_at = NumberAttribute()
    expiry_hour = UnicodeAttribute(null=True)


class DeltaPointer(Table):
    """Which key a delta belongs to."""

    class Meta:
        table_name: ClassVar[str] = table_name("deltas")

    delta_uuid = UnicodeAttribute(hash_key=True, attr_name="partition")
    item = UnicodeAttribute(range_key=True, default="key")
    key_uuid = UnicodeAttribute()

    ITEM: ClassVar[str] = "key"
