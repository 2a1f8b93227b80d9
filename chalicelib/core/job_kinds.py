"""Every kind of job, and what does it."""

from chalicelib.core import buckets, checksums, copies, folder_ends, importing, joining, key_ends, migrating, publishing, staging, tenants
from chalicelib.core.jobs import Kind

KINDS: dict[str, Kind] = {
    buckets.DELETE_JOB: Kind(buckets.delete_step),
    checksums.JOB: Kind(checksums.step),
    copies.COPY_JOB: Kind(copies.copy_step, copies.give_up),
    folder_ends.JOB: Kind(folder_ends.step),
    importing.JOB: Kind(importing.step, importing.give_up),
    publishing.JOB: Kind(publishing.step),
    staging.JOB: Kind(staging.step, staging.give_up),
    joining.JOB: Kind(joining.step, joining.give_up),
    key_ends.JOB: Kind(key_ends.step),
    migrating.JOB: Kind(migrating.step, migrating.give_up),
    tenants.DELETE_JOB: Kind(tenants.delete_step),
}
