"""The vault's keys, by tenant: what deltas belong to, and what is counted of them.

`owner_id`      `auth_uid()` of the user whose it is, None: the service key's; `owner_key` puts it into the index `by-owner`
`storage_id`    where its deltas lie, None: the internal storage
`status`        `active`, or `deleting` until its deltas are gone
`revision`      counts whatever changes what a migration has to copy
`stored`        deltas that are there or may still come by a URL that works: what the limit counts
`deltas`        those that are there, of `size_bytes` in all
`uploads_…`, `downloads_…`   how many there were in the day and the month that they name, UTC (`core/quotas.py`)
`job_id`        the job that moves or deletes the key; `target_id` the storage that it is moved to, until it points there
`moved_from`    the storage that it pointed to when it was pointed elsewhere by hand, `internal` or an id; `internal` also when it was moved
                from there by a job, until what lies there is filed as garbage
"""

from typing import ClassVar

from chalicelib.tables.table import NumberAttribute, Table, UnicodeAttribute, table_name

ACTIVE, DELETING = "active", "deleting"
INTERNAL = "internal"


class VaultKey(Table):
    """One key."""

    class Meta:
        table_name: ClassVar[str] = table_name("keys")

    tenant_id = UnicodeAttribute(hash_key=True)
    key_uuid = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute()
    owner_id = UnicodeAttribute(null=True)
    owner_key = UnicodeAttribute(null=True)
    storage_id = UnicodeAttribute(null=True)
    status = UnicodeAttribute(default=ACTIVE)
    revision = NumberAttribute(default=1)
    stored = NumberAttribute(default=0)
    deltas = NumberAttribute(default=0)
    size_bytes = NumberAttribute(default=0)
    uploads_day = UnicodeAttribute(null=True)
    uploads_of_day = NumberAttribute(default=0)
    uploads_month = UnicodeAttribute(null=True)
    uploads_of_month = NumberAttribute(default=0)
    downloads_day = UnicodeAttribute(null=True)
    downloads_of_day = NumberAttribute(default=0)
    downloads_month = UnicodeAttribute(null=True)
    downloads_of_month = NumberAttribute(default=0)
    job_id = UnicodeAttribute(null=True)
    target_id = UnicodeAttribute(null=True)
    moved_from = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()
