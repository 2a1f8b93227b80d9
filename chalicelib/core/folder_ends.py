"""The end of a folder: it goes at once, and leaves the rest to a job.

Its children are lifted to where it lay, its files are in no folder any more. The job looks once more when nobody can still hold that the
folder is there. Killed at any step it goes on.
"""

from contextlib import suppress

from chalicelib import seam
from chalicelib.access import cache
from chalicelib.access.permissions import Operation
from chalicelib.access.principals import Principal
from chalicelib.core import buckets, folders, jobs, names
from chalicelib.core.jobs import Kind, Step
from chalicelib.errors import BucketNotFound, Unavailable
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.folders import Folder, FolderName
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject, index_key
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, tries

JOB = "folder.delete"
# Folders and files that a step of the job sees to, far within its lease.
MOVED_AT_ONCE = 100
NUMBERED = 20
# Seconds. Of the 28 that a function lives; until the job looks again after a failure, and where an index has yet to follow.
AT_ONCE = 12.0
AGAIN_AFTER = 60.0
INDEX_LAG = 5.0
# Seconds: a folder is remembered for a minute, and a request that does so then takes its time.
SETTLED_AFTER = cache.LIFETIME + buckets.REQUESTS_END_WITHIN


def delete(principal: Principal, folder_id: str) -> None:
    """Remove a folder; what was in it is seen to at once, as far as a request's time goes. Raises FolderNotFound, Forbidden, Unauthorized.

    The row goes and the job comes in one transaction: killed right after it, the worker does the rest.
    """
    ends = seam.timestamp() + AT_ONCE
    job = _begin(principal, folder_id)
    jobs.wake(job.job_id, jobs.LEASE + buckets.REQUESTS_END_WITHIN)  # by when a request that has died in between no longer holds it
    with suppress(Unavailable):  # it is deleted, and the worker sees to the rest
        jobs.work(job.job_id, {JOB: Kind(step)}, lambda: ends - seam.timestamp(), reserve=0)


def _begin(principal: Principal, folder_id: str) -> Job:
    folders.granted(principal, Operation.DELETE)  # before it is told what there is
    for _ in tries(folders.BUSY):
        folder = folders.find(principal, folder_id)
        folders.require_on(principal, Operation.DELETE, folder)
        task = {"folder_id": folder_id, "parent_id": folder.parent_id, "deleted_at": seam.timestamp()}
        job = jobs.new(JOB, principal, task)
        try:
            with Transaction() as transaction:
                transaction.remove(folder, Folder.revision == folder.revision)
                transaction.remove(folders.name_of(folder), FolderName.taken_by == folder_id)
                folders.count(transaction, folder, -1)
                transaction.put(job)
        except TransactionFailed:
            continue
        folders.forget(principal.tenant_id, folder_id)
        return job
    raise AssertionError("tries() ends by raising")


def step(job: Job) -> Step:
    """Lift children of a deleted folder, or take files out of it; `done` counts both. At the end it looks once more.

    What cannot be done now is done later: it never fails for good, for then there would be folders in none for ever.
    """
    settled = job.task["deleted_at"] + SETTLED_AFTER
    wait = max(0.0, settled - seam.timestamp())  # the clock is read before the look that may be the last
    try:
        seen, moved = _lift_children(job)
        if not seen:
            seen, moved = _empty(job)
    except Unavailable:
        return Step({}, int(job.done), wait=AGAIN_AFTER)
    done = int(job.done) + moved
    if seen:
        return Step({}, done, done, wait=0 if moved else INDEX_LAG)
    return Step({}, done, done, finished=not wait, wait=wait)


def _lift_children(job: Job) -> tuple[int, int]:
    """Lift some children; gives how many there were, and how many were lifted."""
    lying = folders.children(job.tenant_id, job.task["folder_id"], MOVED_AT_ONCE)
    lifted = [child.parent_id == job.task["folder_id"] and _lift(child, job.task["parent_id"]) for child in lying]
    return len(lying), sum(lifted)


def _empty(job: Job) -> tuple[int, int]:
    """Take some files out of the folder; gives how many there were, and how many were taken out."""
    try:
        bucket = buckets.get(job.tenant_id, FILES)
    except BucketNotFound:  # the tenant is being deleted, and its files with it
        return 0, 0
    rows = _filed_in(bucket, job.task["folder_id"])
    return len(rows), sum(_unfile(row, job.task["folder_id"]) for row in rows)


def _lift(child: Folder, parent_id: str | None) -> bool:
    """Have a child lie where its parent lay, under another name if its own is taken there; at the top if that has gone too.

    Or if that lies in the child by now, or as deep as may be: what lies in a folder that has gone may be moved into as though it lay at
    the top. What lies in the child may end deeper than folders are made. Gives whether it does; what does not is busy, and seen to later.
    """
    number = 1
    for _ in range(folders.MAX_FOLDERS):  # more names than that are not taken
        tree = folders.tree_of(child.tenant_id)
        parent = Folder.read(child.tenant_id, parent_id) if parent_id is not None else None
        above = folders.ancestors(parent) if parent is not None else ()
        if child.folder_id in above or len(above) >= folders.MAX_DEPTH:
            parent_id, number = None, 1
        met = folders.rewrite(child, _told_apart(child, number), parent_id, tree)
        if isinstance(met, Folder):
            return True
        if met.parent_gone:
            parent_id, number = None, 1
        elif met.taken is not None:
            number += 1
        elif not met.has_moved:
            return False
    return False


def _told_apart(folder: Folder, number: int) -> str:
    """A folder's name, or one that is told from it by a number, or at last by its id too, and no longer than a name may be."""
    if number == 1:
        return str(folder.name)
    beyond = number - NUMBERED
    suffix = f" ({number})" if beyond <= 0 else f" ({folder.folder_id})" if beyond == 1 else f" ({folder.folder_id} {number})"
    return folder.name.encode()[: names.MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


def _filed_in(bucket: Bucket, folder_id: str) -> list[StoredObject]:
    query = {
        "IndexName": StoredObject.FOLDER_INDEX,
        "KeyConditionExpression": "files_in_folder_key = :f",
        "ExpressionAttributeValues": {":f": {"S": index_key(bucket.partition, folder_id)}},
        "Limit": MOVED_AT_ONCE,
    }
    return [StoredObject.from_raw_data(item) for item in next(StoredObject.pages(**query))]


def _unfile(seen: StoredObject, folder_id: str) -> bool:
    """Take a file out of a folder; gives whether it was in it. The index, where it was seen, may lag."""
    row: StoredObject | None = seen
    for _ in tries(f"file {seen.name} is being written by too many at once; try again shortly"):
        if row is None or row.folder_id != folder_id:
            return False
        was_read = (StoredObject.version == row.version) & (StoredObject.revision == row.revision)
        row.filed(row.acl, None).revision += 1
        try:
            row.put(was_read)
            return True
        except ConditionFailed as failed:
            row = failed.row
    raise AssertionError("tries() ends by raising")
