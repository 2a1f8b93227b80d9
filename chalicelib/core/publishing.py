"""Transformed images of public files, which anybody may fetch from an origin of the installation's (`STOWAGE_PUBLIC_BASE_URL`).

    public/{bucket_id}/{version}/{options}     in the internal storage; the origin shows what lies below `public/`, and nothing else

What lies there is of a version that is the object of a public file. Before any is made, a row marks the version (`Published`), and the
file is looked at once more. When it is overwritten, deleted or made private, the stream of the objects table finds the mark and has a job
remove what lies there, and look again when no request can be under way that took it for public. A lifecycle rule removes what is a day
old, whatever becomes of the job; a mark stays longer.
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from chalicelib import providers, seam
from chalicelib.access.principals import Principal, Role
from chalicelib.core import garbage, jobs
from chalicelib.core.buckets import REQUESTS_END_WITHIN
from chalicelib.core.jobs import Step
from chalicelib.errors import ObjectNotFound, StorageUnavailable
from chalicelib.observability import logger
from chalicelib.settings import settings
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import PUBLIC, StoredObject
from chalicelib.tables.table import ConditionFailed, read_together
from chalicelib.tables.transforms import Published

JOB = "files.unpublish"
FOLDER = "public/"
REMOVED_AT_ONCE = 500
# Seconds, after a storage that does not delete.
AGAIN_AFTER = 300
DAY = 24 * 3600
MARKED = 7 * DAY
_JOBS = uuid.UUID("a2c0e9b4-53c5-4f0e-9e5b-0f1ce5a3d3c6")


def is_published(row: StoredObject) -> bool:
    """Whether anybody may see transforms of it."""
    return bool(settings().public_base_url) and row.acl == PUBLIC


def folder_of(row: StoredObject) -> str:
    """What lies below it is made of one version."""
    return f"{FOLDER}{row.bucket_id}/{row.version}/"


def is_for_anybody(key: str) -> bool:
    """Whether what lies there, or in a folder of this name, may be fetched by anybody."""
    return key.startswith(FOLDER)


def url_of(key: str) -> str:
    """Where the origin shows what lies under a key of the folder."""
    return f"{settings().public_base_url.rstrip('/')}/{key.removeprefix(FOLDER)}"


def announce(row: StoredObject) -> None:
    """Mark a version before anything of it is published; raises ObjectNotFound if it is not to be seen any more.

    A change that comes after this finds the mark; one that has come is found here.
    """
    until = int(seam.timestamp()) + MARKED
    with suppress(ConditionFailed):  # marked for long enough
        Published(folder_of(row), expires_at=until).put(Published.folder.does_not_exist() | (Published.expires_at < until - DAY))
    if not _shows(StoredObject.read(row.partition, row.name), row):
        raise ObjectNotFound(f"there is no object {row.name}")


def withdraw(changes: Sequence[tuple[StoredObject | None, StoredObject | None]]) -> None:
    """Have what was published of rows removed that are not to be seen any more. The same change, told again, is one job."""
    ended = [before for before, after in changes if before is not None and before.acl == PUBLIC and not _shows(after, before)]
    folders = sorted({folder_of(row) for row in ended})
    marked = {mark.folder for mark in read_together(*((Published, folder, None) for folder in folders)) if mark is not None}
    for row in ended:
        if folder_of(row) in marked:
            _start(row)


def _shows(row: StoredObject | None, version: StoredObject) -> bool:
    return row is not None and row.acl == PUBLIC and row.version == version.version


def _start(row: StoredObject) -> None:
    principal = Principal(Role.SERVICE, row.tenant_id)
    job = jobs.new(JOB, principal, {"row": row.attribute_values, "withdrawn_at": seam.timestamp()})
    job.job_id = str(uuid.uuid5(_JOBS, f"{row.version}.{int(row.revision)}"))
    jobs.restart(job, None)


def step(job: Job) -> Step:
    """Remove a page of what was published, unless it may be seen again by now; at the end it looks once more.

    It never fails for good: nobody would remove it then.
    """
    wait = max(0.0, job.task["withdrawn_at"] + REQUESTS_END_WITHIN - seam.timestamp())  # before the look that may be the last
    row, storage = StoredObject(**job.task["row"]), providers.internal()
    if _is_public_again(row):
        return Step({}, int(job.done), int(job.done), finished=True)
    try:
        keys = [listed.key for listed in islice(storage.list(folder_of(row)), REMOVED_AT_ONCE)]
        left = storage.delete(keys) if keys else {}
    except StorageUnavailable:
        return Step({}, int(job.done), wait=AGAIN_AFTER)
    if left:
        logger().error("what was published cannot be removed", extra={"keys": len(left)})
        return Step({}, int(job.done), wait=AGAIN_AFTER)
    done = int(job.done) + len(keys)
    return Step({}, done, done, finished=not keys and not wait, wait=0 if keys else wait)


def _is_public_again(row: StoredObject) -> bool:
    """Whether a version is the object of a public file, which was moved, or turned public again."""
    named = garbage.namer(row.partition, row.name, row.version, row.physical_key)
    current = StoredObject.read(named.partition, named.name) if named else None  # one in quarantine is not to be seen
    return _shows(current, row)
