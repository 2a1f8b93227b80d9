"""Storages that tenants have brought, by tenant and id.

One model for two surfaces; `surface` says on which one a storage was made and is shown. What the other surfaces need of it is
its id. A name that has to be unique is a row of its own (`StorageName`), written in the same transaction.

`sealed`        access key, secret key and private key, sealed for this row (`access/sealing.py`); never leave it otherwise
`revision`      counts changes of the row by people: clients are made anew with it
`probe`         what the last probe found, `expected` what the last one that a person has asked for found (`core/probing.py`)
`status`        `untested`, `healthy`, or `degraded`, with the `reason` in words
`failures`      how often it did not answer since then, at most once a minute a process
`buckets`, `keys`, `backups`   how many refer to it: changed in the transaction that makes or removes one
`object_count`, `total_size_bytes`   of its buckets: moved by the stream of the objects table, so approximate; `miscounted` as of buckets
"""

from typing import ClassVar

from chalicelib.tables.table import BooleanAttribute, Item, JSONAttribute, NumberAttribute, Table, UnicodeAttribute, table_name


class Storage(Table):
    """A connection to a provider. Empty fields are those that its kind does not have."""

    class Meta:
        table_name: ClassVar[str] = table_name("storages")

    tenant_id = UnicodeAttribute(hash_key=True)
    storage_id = UnicodeAttribute(range_key=True)
    surface = UnicodeAttribute()
    name = UnicodeAttribute()
    kind = UnicodeAttribute()
    bucket = UnicodeAttribute()
    region = UnicodeAttribute(default="")
    endpoint = UnicodeAttribute(default="")
    account_id = UnicodeAttribute(default="")
    host = UnicodeAttribute(default="")
    port = NumberAttribute(default=0)
    tls = UnicodeAttribute(default="")
    host_key = UnicodeAttribute(default="")
    prefix = UnicodeAttribute(default="")
    storage_class = UnicodeAttribute(default="")
    sealed = UnicodeAttribute()
    revision = NumberAttribute(default=1)
    is_active = BooleanAttribute(default=True)
    status = UnicodeAttribute(default="untested")
    reason = UnicodeAttribute(null=True)
    probe = JSONAttribute(null=True)
    expected = JSONAttribute(null=True)
    probed_at = UnicodeAttribute(null=True)
    failures = NumberAttribute(default=0)
    buckets = NumberAttribute(default=0)
    keys = NumberAttribute(default=0)
    backups = NumberAttribute(default=0)
    backup_bytes = NumberAttribute(default=0)
    object_count = NumberAttribute(default=0)
    total_size_bytes = NumberAttribute(default=0)
    miscounted = JSONAttribute(null=True)
    last_used_at = UnicodeAttribute(null=True)
    credentials_changed_at = UnicodeAttribute()
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()


class StorageName(Table):
    """That a name is taken. Lies beside the storages under `name#{surface}#{name}`, which no id looks like."""

    class Meta:
        table_name: ClassVar[str] = table_name("storages")

    tenant_id = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True, attr_name="storage_id")
    taken_by = UnicodeAttribute()

    PREFIX: ClassVar[str] = "name#"


def is_storage(item: Item) -> bool:
    """Whether an item of the table is a storage, not a name. Only the id has to be read of it."""
    return not item["storage_id"]["S"].startswith(StorageName.PREFIX)
