"""Every kind of job and the function that does one step of it."""

from chalicelib.core import buckets, copies
from chalicelib.core.jobs import Kind

KINDS: dict[str, Kind] = {
    buckets.DELETE_JOB: buckets.delete_step,
    copies.COPY_JOB: copies.copy_step,
}
