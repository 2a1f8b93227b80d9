"""Uploads that bypass the API: what happens when bytes appear in the internal bucket by themselves.

Direct uploads end in `.direct`; the bucket's ObjectCreated event tells of them. Bytes that no upload expects
are never adopted: they are filed as garbage, and a day later they go.
"""

from chalicelib import seam
from chalicelib.core import garbage, names
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.garbage import Garbage

DIRECT = ".direct"


def object_created(physical_key: str) -> Garbage | None:
    """Take note of an object that was put into the internal bucket; gives what was filed."""
    placed = names.placed(physical_key.removesuffix(DIRECT)) if physical_key.endswith(DIRECT) else None
    if placed is None:
        return None
    bucket = Bucket.read(placed.tenant_id, placed.bucket)
    partition = bucket.partition if bucket else f"{placed.tenant_id}#"  # a deleted bucket has no rows to look through
    filed = garbage.entry(partition, placed.name, placed.version, physical_key, seam.timestamp())
    garbage.file_all([filed])
    return filed
