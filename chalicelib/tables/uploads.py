"""Uploads by id: the session (`session`), and beside it the parts that no longer fit into it (`parts#00001` …).

`fence`, `holder`, `lease_until`  keep two writers off one upload, as jobs do; `lease_until` 0: nobody holds it
`offset`         bytes that were acknowledged: those in parts, and `tail_size` more under `tail_key`
`next_part`      the number that the next part gets; one that may have been used is never used again
`recent_parts`   the last parts as `number:etag`; when there are `PARTS_PER_PAGE`, they move into an item of their own
`part_size`      of a direct upload in parts, in bytes; `checksum` the SHA-256 that the storage holds one in a single PUT to
`litter`         whether the storage may hold what the session does not name: earlier tails, what a writer that was cut off left
`storage_id`     where its bytes lie: the bucket's storage; None: the internal one, where partial uploads always lie
`content_md5`    of a direct upload, promised by the client in base64
`sources`        of an upload that joins others: their keys and sizes; `job_id` the job that joins them, in theirs too
`label`          the TUS client's own metadata, as it came; so is `concatenation`
`acl`, `folder_id`  of a file, if the client has chosen them
`files_key`      puts uploads of files into the index `newest`, by tenant; `files_of_creator_key` into `newest-of-creator`
`result`         the object's row as it was when the upload was done
`hash_state`     SHA-256 of the first `offset` bytes, put down (base64); None where that is not known
`expiry_hour`    puts the session into the index `by-expiry`, until the cleanup has been there
`expires_at`     epoch seconds; read with every use, for DynamoDB forgets rows at `forget_at`, or days later
"""

from typing import ClassVar

from chalicelib.tables.table import BooleanAttribute, JSONAttribute, NumberAttribute, Table, UnicodeAttribute, table_name

PARTS_PER_PAGE = 20


class UploadSession(Table):
    """One upload. `status`: open, done, expired or terminated. `total` bytes, None: not told yet."""

    class Meta:
        table_name: ClassVar[str] = table_name("uploads")

    upload_id = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True, default="session")
    tenant_id = UnicodeAttribute()
    creator = UnicodeAttribute()
    principal = JSONAttribute()
    kind = UnicodeAttribute()
    status = UnicodeAttribute()
    bucket = UnicodeAttribute(null=True)
    partition = UnicodeAttribute(null=True)
    name = UnicodeAttribute(null=True)
    content_type = UnicodeAttribute()
    user_metadata = UnicodeAttribute(null=True)
    upsert = BooleanAttribute()
    label = UnicodeAttribute(null=True)
    acl = UnicodeAttribute(null=True)
    folder_id = UnicodeAttribute(null=True)
    files_key = UnicodeAttribute(null=True)
    files_of_creator_key = UnicodeAttribute(null=True)
    concatenation = UnicodeAttribute(null=True)
    total = NumberAttribute(null=True)
    offset = NumberAttribute(default=0)
    physical_key = UnicodeAttribute()
    storage_id = UnicodeAttribute(null=True)
    multipart_id = UnicodeAttribute(null=True)
    next_part = NumberAttribute(default=1)
    recent_parts = JSONAttribute(default=list)
    part_pages = NumberAttribute(default=0)
    tail_key = UnicodeAttribute(null=True)
    tail_size = NumberAttribute(default=0)
    hash_state = UnicodeAttribute(null=True)
    fence = NumberAttribute(default=0)
    holder = UnicodeAttribute(null=True)
    lease_until = NumberAttribute(default=0)
    litter = BooleanAttribute(default=False)
    part_size = NumberAttribute(null=True)
    checksum = UnicodeAttribute(null=True)
    content_md5 = UnicodeAttribute(null=True)
    sources = JSONAttribute(null=True)
    job_id = UnicodeAttribute(null=True)
    result = JSONAttribute(null=True)
    created_at = UnicodeAttribute()
    expires_at = NumberAttribute()
    expiry_hour = UnicodeAttribute(null=True)
    forget_at = NumberAttribute()

    SESSION: ClassVar[str] = "session"


class PartsPage(Table):
    """`PARTS_PER_PAGE` parts of an upload, as `number:etag`. Only the cleanup removes it: an upload may outlast any date."""

    class Meta:
        table_name: ClassVar[str] = table_name("uploads")

    upload_id = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True)
    parts = JSONAttribute()

    PREFIX: ClassVar[str] = "parts#"
