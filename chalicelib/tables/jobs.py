"""Jobs: work that outlives a request, and where it stands.

`lease_until`, `fence` and `holder` keep two workers off one job; a job that is not finished carries `pending` and so
shows in the sparse index `pending`, oldest change first. Finished jobs go a week later by `expires_at`.
"""

from typing import ClassVar

from chalicelib.tables.table import JSONAttribute, NumberAttribute, Table, UnicodeAttribute, table_name


class Job(Table):
    """One job. `status`: queued, running, done or failed; `done` of `total` in the kind's own unit."""

    class Meta:
        table_name: ClassVar[str] = table_name("jobs")

    job_id = UnicodeAttribute(hash_key=True)
    tenant_id = UnicodeAttribute()
    kind = UnicodeAttribute()
    status = UnicodeAttribute()
    task = JSONAttribute()
    checkpoint = JSONAttribute(default=dict)
    done = NumberAttribute(default=0)
    total = NumberAttribute(null=True)
    error = UnicodeAttribute(null=True)
    failures = NumberAttribute(default=0)
    fence = NumberAttribute(default=0)
    holder = UnicodeAttribute(null=True)
    lease_until = NumberAttribute(default=0)
    pending = UnicodeAttribute(null=True)
    created_at = UnicodeAttribute()
    updated_at = UnicodeAttribute()
    expires_at = NumberAttribute(null=True)
