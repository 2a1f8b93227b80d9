"""Buckets by tenant and name.

`bucket_id` is new each time a name is taken, so a deleted and re-created bucket shares nothing with the one
before. The counters are moved by the stream of the objects table, and so approximate: never a condition. Once a week they are counted
anew (`core/recounting.py`): `miscounted` says by how many objects and bytes they were too high then, and when that was.
"""

from typing import ClassVar

from chalicelib.tables.table import JSONAttribute, NumberAttribute, Table, UnicodeAttribute, table_name

# Every tenant's drive: made with the tenant, and the one bucket whose objects are files, with an `acl` and a folder. No bucket that
# people make has a name that begins with a dot.
FILES = ".files"


class Bucket(Table):
    """One bucket, for good on one storage; `storage_id` None: the internal one.

    `allowed_mime_types` None: any. `file_size_limit` bytes, None: the installation's.

    `transforms` None: with any options, else as `core/transforms.py` has it; `transform_presets`: options by name.
    """

    class Meta:
        table_name: ClassVar[str] = table_name("buckets")

    tenant_id = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute(range_key=True)
    bucket_id = UnicodeAttribute()
    storage_id = UnicodeAttribute(null=True)
    revision = NumberAttribute()
    visibility = UnicodeAttribute()
    file_size_limit = NumberAttribute(null=True)
    allowed_mime_types = JSONAttribute(null=True)
    transforms = UnicodeAttribute(null=True)
    transform_presets = JSONAttribute(null=True)
    object_count = NumberAttribute(default=0)
    total_size_bytes = NumberAttribute(default=0)
    miscounted = JSONAttribute(null=True)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()

    @property
    def public(self) -> bool:
        return self.visibility == "public"

    @property
    def size_limit(self) -> int | None:
        """Bytes, or None for the installation's limit. (A number attribute reads back as int or float.)"""
        return None if self.file_size_limit is None else int(self.file_size_limit)

    @property
    def partition(self) -> str:
        """The partition of the objects table that holds this bucket's rows."""
        return f"{self.tenant_id}#{self.bucket_id}"
