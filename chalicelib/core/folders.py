"""Folders of a tenant's files: labels in a tree, of which no storage knows.

Who sees, changes or deletes a folder is asked of the policies of files, as though it were an empty file of its maker's: so to begin with
folders are their owner's alone, and a name is unique among an owner's folders in one parent. A file's folder is an attribute of its
row. A file that is stored under `photos/spring/a.jpg` and names no folder is filed in its owner's folder `photos/spring`, which is made
when it is not there.

Deleting one removes it at once and leaves the rest to a job: its children are lifted to its parent, its files are in no folder any more.
The job looks once more when nobody can still hold that the folder is there. Killed at any step it goes on; a folder whose parent has
gone lies at the top until then.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from chalicelib import seam
from chalicelib.access import cache
from chalicelib.access.cache import MinuteCache
from chalicelib.access.permissions import Columns, Operation, grant, require_any
from chalicelib.access.principals import Principal
from chalicelib.core import buckets, jobs, names
from chalicelib.core.jobs import Kind, Step
from chalicelib.errors import BucketNotFound, FolderExists, FolderNotFound, Forbidden, InvalidRequest, Unavailable
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.folders import Folder, FolderCount, FolderName, FolderTree, count_item, name_item, names_of
from chalicelib.tables.jobs import Job
from chalicelib.tables.objects import StoredObject, index_key
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, read_together, tries

DELETE_JOB = "folder.delete"
# Of an owner's. So many, with the longest names, fit into an answer.
MAX_FOLDERS = 2000
MAX_DEPTH = 32
MAX_LISTED = 2000
SEPARATOR = "/"
# Folders and files that a step of the job sees to, far within its lease.
MOVED_AT_ONCE = 100
NUMBERED = 20
# Seconds. Of the 28 that a function lives; and until the job looks again after a failure.
AT_ONCE = 12.0
AGAIN_AFTER = 60.0
# Seconds: a folder is remembered for a minute, and a request that does so then takes its time.
SETTLED_AFTER = cache.LIFETIME + buckets.REQUESTS_END_WITHIN
_BUSY = "the folders are being changed by too many at once; try again shortly"

_known: MinuteCache[Folder] = MinuteCache()


# ---- reading -------------------------------------------------------------------------------------------
def page(principal: Principal, after: str = "") -> tuple[list[Folder], str | None]:
    """Folders that the principal may see, by name, and where the next page begins (None: these are all).

    `after` is the place that the page before has told. Raises Forbidden, Unauthorized for who may read no file.
    """
    bucket = buckets.recent(principal.tenant_id, FILES)
    require_any(principal, (Operation.SELECT,), bucket)
    readable = grant(principal, Operation.SELECT, bucket)
    if readable.own_only:
        found, following = _of_owner(principal.tenant_id, readable.uid), None
    else:
        found, following = _stored(principal.tenant_id, after, MAX_LISTED)
    seen = [folder for folder in found if readable.allows(_columns(folder))]
    return sorted(seen, key=lambda folder: (folder.name, folder.folder_id)), following


def all_of(tenant_id: str) -> list[Folder]:
    """Every folder of a tenant as it stands."""
    return _stored(tenant_id, "", None)[0]


def _stored(tenant_id: str, after: str, most: int | None) -> tuple[list[Folder], str | None]:
    """Folders of a tenant by id, at least so many if there are more, and the last one's id if there may be more."""
    query = {
        "KeyConditionExpression": "tenant_id = :t AND folder_id BETWEEN :after AND :above",
        "ExpressionAttributeValues": {":t": {"S": tenant_id}, ":after": {"S": f"{after}0"}, ":above": {"S": Folder.ABOVE_IDS}},
        "ConsistentRead": True,
    }
    found: list[Folder] = []
    for items in Folder.pages(**query):
        found += map(Folder.from_raw_data, items)
        if most is not None and len(found) > most:
            return found[:most], str(found[most - 1].folder_id)
    return found, None


def _of_owner(tenant_id: str, owner_id: str | None) -> list[Folder]:
    query = {
        "KeyConditionExpression": "tenant_id = :t AND begins_with(folder_id, :n)",
        "ExpressionAttributeValues": {":t": {"S": tenant_id}, ":n": {"S": names_of(owner_id)}},
        "ConsistentRead": True,
    }
    ids = [item["taken_by"]["S"] for items in FolderName.pages(**query) for item in items]
    return [folder for folder in read_together(*((Folder, tenant_id, folder_id) for folder_id in ids)) if folder is not None]


def find(principal: Principal, folder_id: str) -> Folder:
    """A folder that the principal may see, as it stands; raises FolderNotFound."""
    return _visible(principal, folder_id, Folder.read(principal.tenant_id, folder_id) if names.is_uuid(folder_id) else None)


def require(principal: Principal, folder_id: str) -> None:
    """Raise FolderNotFound unless there is a folder that the principal may see, or was a minute ago."""
    _visible(principal, folder_id, _recent(principal.tenant_id, folder_id))


def exists(tenant_id: str, folder_id: str) -> bool:
    """Whether a folder is there, or was a minute ago."""
    return _recent(tenant_id, folder_id) is not None


def _recent(tenant_id: str, folder_id: str) -> Folder | None:
    if not names.is_uuid(folder_id):
        return None
    return _known.get(f"{tenant_id}/{folder_id}", lambda: Folder.read(tenant_id, folder_id))


def _visible(principal: Principal, folder_id: str, folder: Folder | None) -> Folder:
    bucket = buckets.recent(principal.tenant_id, FILES)
    if folder is None or not grant(principal, Operation.SELECT, bucket).allows(_columns(folder)):
        raise FolderNotFound(f"there is no folder {folder_id[:64]}")
    return folder


# ---- making --------------------------------------------------------------------------------------------
def create(principal: Principal, name: str, parent_id: str | None) -> Folder:
    """A new folder; raises FolderExists, FolderNotFound, InvalidRequest, Forbidden, Unauthorized."""
    folder = _new(principal.tenant_id, check_name(name), parent_id, principal.uid)
    _require(principal, Operation.INSERT, folder)
    if parent_id is not None:
        find(principal, parent_id)
        _check_depth(len(_ancestors(parent_id, partial(Folder.read, principal.tenant_id))) + 1)
    _put(folder)
    return folder


def check_name(name: str) -> str:
    """`name`, or InvalidRequest if it cannot name a folder. It may hold `/`."""
    if not name.strip() or len(name.encode(errors="surrogatepass")) > names.MAX_NAME_BYTES or not name.isprintable():
        raise InvalidRequest(f"name: 1 to {names.MAX_NAME_BYTES} bytes of characters that can be printed", field="name")
    return name


def of_key(tenant_id: str, key: str, owner_id: str | None) -> str | None:
    """The id of the folder that an owner's file is filed in by its key, which is made if it is not there; None for a key without folders.

    It is never a reason to refuse a file, which is in none where no folder can be made.
    """
    name = key.rpartition(SEPARATOR)[0]
    if not name or not name.isprintable():
        return None
    taken = FolderName.read(tenant_id, name_item(owner_id, None, name))
    if taken is not None:
        return str(taken.taken_by)
    folder = _new(tenant_id, name, None, owner_id)
    try:
        _put(folder)
    except FolderExists as error:  # made by another request at this moment
        return error.folder_id
    except (InvalidRequest, Unavailable):
        return None
    return str(folder.folder_id)


def _new(tenant_id: str, name: str, parent_id: str | None, owner_id: str | None) -> Folder:
    now = seam.iso(seam.now())
    return Folder(tenant_id, seam.new_uuid(), name=name, parent_id=parent_id, owner_id=owner_id, created_at=now, updated_at=now)


def _put(folder: Folder) -> None:
    """Write a new folder, with its name, and counted; raises FolderExists, FolderNotFound, InvalidRequest."""
    for _ in tries(_BUSY):
        try:
            with Transaction() as transaction:
                transaction.put(_name_of(folder), FolderName.item.does_not_exist())
                _count(transaction, folder, 1)
                transaction.put(folder)
                if folder.parent_id is not None:
                    transaction.check(Folder(folder.tenant_id, folder.parent_id), Folder.folder_id.exists())
            return
        except TransactionFailed as failed:
            taken, full, _, *parent = failed.rows
            if taken is not None and taken.row is not None and taken.row.taken_by == folder.folder_id:
                return  # ours: the answer to an earlier attempt was lost
            _raise(folder, taken, full, parent[0] if parent else None)


def _name_of(folder: Folder) -> FolderName:
    return FolderName(folder.tenant_id, name_item(folder.owner_id, folder.parent_id, folder.name), taken_by=folder.folder_id)


def _count(transaction: Transaction, folder: Folder, number: int) -> None:
    room = FolderCount.folders.does_not_exist() | (FolderCount.folders < MAX_FOLDERS)
    counted = FolderCount(folder.tenant_id, count_item(folder.owner_id))
    transaction.change(counted, [FolderCount.folders.add(number)], room if number > 0 else FolderCount.item.exists())


def _raise(folder: Folder, taken: ConditionFailed | None, full: ConditionFailed | None, parent: ConditionFailed | None) -> None:
    """Raise what a transaction failed for, if it is not only that another was at work."""
    if taken is not None:
        raise FolderExists(f"there is a folder {folder.name} there already", taken.row.taken_by if taken.row else None)
    if parent is not None:
        raise FolderNotFound(f"there is no folder {folder.parent_id}")
    if full is not None:
        raise InvalidRequest(f"one has at most {MAX_FOLDERS} folders; delete some")


# ---- changing ------------------------------------------------------------------------------------------
def change(principal: Principal, folder_id: str, changes: dict[str, Any]) -> Folder:
    """Give a folder another `name`, or another `parent_id` (None: to the top), and leave what is not given.

    Raises FolderNotFound, FolderExists, InvalidRequest for a circle, Forbidden, Unauthorized.
    """
    if "name" in changes:
        check_name(changes["name"])
    require_any(principal, (Operation.UPDATE,), buckets.recent(principal.tenant_id, FILES))
    for _ in tries(_BUSY):
        folder = find(principal, folder_id)
        _require(principal, Operation.UPDATE, folder)
        tree = _tree(principal.tenant_id)
        wanted = Folder(**folder.attribute_values | changes)
        if wanted.parent_id is not None and wanted.parent_id != folder.parent_id:
            find(principal, wanted.parent_id)
            _check_move(folder, wanted.parent_id)
        if (wanted.name, wanted.parent_id) == (folder.name, folder.parent_id) or _replace(folder, wanted, tree):
            return wanted
    raise AssertionError("tries() ends by raising")


def _tree(tenant_id: str) -> FolderTree:
    return FolderTree.read(tenant_id, FolderTree.ITEM) or FolderTree(tenant_id, FolderTree.ITEM)


def _move_on(transaction: Transaction, tree: FolderTree) -> None:
    """Have `transaction` hold only if nothing has moved since the tree was read."""
    same = FolderTree.revision == tree.revision if tree.revision else FolderTree.revision.does_not_exist()
    transaction.change(tree, [FolderTree.revision.add(1)], same)


def _check_move(folder: Folder, parent_id: str) -> None:
    """Raise InvalidRequest unless a folder may lie in another one."""
    there = {each.folder_id: each for each in all_of(folder.tenant_id)}
    above = _ancestors(parent_id, there.get)
    if not above:
        raise FolderNotFound(f"there is no folder {parent_id}")
    if folder.folder_id in above:
        raise InvalidRequest("a folder cannot lie in itself, or in one that lies in it", field="parentId")
    chains = (_ancestors(each, there.get) for each in there)
    height = max((chain.index(folder.folder_id) + 1 for chain in chains if folder.folder_id in chain), default=1)
    _check_depth(len(above) + height)


def _ancestors(folder_id: str, look: Callable[[str], Folder | None]) -> Sequence[str]:
    """The ids from a folder up to the top, its own first, as far as matters; what lies in a folder that has gone lies at the top."""
    found: list[str] = []
    above: str | None = folder_id
    while above is not None and len(found) <= MAX_DEPTH:
        folder = look(above)
        if folder is None:
            break
        found.append(above)
        above = folder.parent_id
    return found


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"folders lie in each other at most {MAX_DEPTH} deep", field="parentId")


def _replace(folder: Folder, wanted: Folder, tree: FolderTree) -> bool:
    """Write a folder's new name and place, if nothing has moved in the tree since; gives whether it did. Raises FolderExists."""
    wanted.revision, wanted.updated_at = folder.revision + 1, seam.iso(seam.now())
    try:
        with Transaction() as transaction:
            transaction.put(_name_of(wanted), FolderName.item.does_not_exist())
            _move_on(transaction, tree)
            _rewrite(transaction, folder, wanted)
            transaction.remove(_name_of(folder), FolderName.taken_by == folder.folder_id)
            if wanted.parent_id not in (None, folder.parent_id):
                transaction.check(Folder(folder.tenant_id, wanted.parent_id), Folder.folder_id.exists())
        return True
    except TransactionFailed as failed:
        taken, changed = failed.rows[0], failed.rows[1]
        if taken is not None and taken.row is not None and taken.row.taken_by == folder.folder_id:
            return True  # ours: the answer to an earlier attempt was lost
        if changed is None:
            _raise(wanted, taken, None, None)
        return False


def _rewrite(transaction: Transaction, folder: Folder, wanted: Folder) -> None:
    """Have `transaction` set what people change of a folder, while its counters move on."""
    changes = {name: getattr(wanted, name) for name in ("name", "parent_id", "revision", "updated_at")}
    transaction.change(folder, Folder.setting(changes), Folder.revision == folder.revision)


# ---- deleting ------------------------------------------------------------------------------------------
def delete(principal: Principal, folder_id: str) -> None:
    """Remove a folder; what was in it is seen to at once, as far as a request's time goes. Raises FolderNotFound, Forbidden, Unauthorized.

    The row goes and the job comes in one transaction: killed right after it, the worker does the rest.
    """
    ends = seam.timestamp() + AT_ONCE
    job = _begin_deletion(principal, folder_id)
    jobs.wake(job.job_id, jobs.LEASE)
    with suppress(Unavailable):  # it is deleted, and the worker sees to the rest
        jobs.work(job.job_id, {DELETE_JOB: Kind(delete_step)}, lambda: ends - seam.timestamp(), reserve=0)


def _begin_deletion(principal: Principal, folder_id: str) -> Job:
    require_any(principal, (Operation.DELETE,), buckets.recent(principal.tenant_id, FILES))
    for _ in tries(_BUSY):
        folder = find(principal, folder_id)
        _require(principal, Operation.DELETE, folder)
        task = {"folder_id": folder_id, "parent_id": folder.parent_id, "deleted_at": seam.timestamp()}
        job = jobs.new(DELETE_JOB, principal, task)
        try:
            with Transaction() as transaction:
                transaction.remove(folder, Folder.revision == folder.revision)
                transaction.remove(_name_of(folder), FolderName.taken_by == folder_id)
                _count(transaction, folder, -1)
                transaction.put(job)
        except TransactionFailed:
            continue
        _known.forget(f"{principal.tenant_id}/{folder_id}")
        return job
    raise AssertionError("tries() ends by raising")


def delete_step(job: Job) -> Step:
    """Lift children of a deleted folder, or take files out of it; `done` counts both. At the end it looks once more.

    What cannot be done now is done later: it never fails for good, for then there would be folders in none for ever.
    """
    settled = job.task["deleted_at"] + SETTLED_AFTER
    wait = max(0.0, settled - seam.timestamp())  # the clock is read before the look that may be the last
    try:
        moved = _lift_children(job) or _empty(job)
    except Unavailable:
        return Step({}, int(job.done), wait=AGAIN_AFTER)
    done = int(job.done) + moved
    return Step({}, done, done, finished=not moved and not wait, wait=0 if moved else wait)


def _lift_children(job: Job) -> int:
    children = [folder for folder in all_of(job.tenant_id) if folder.parent_id == job.task["folder_id"]][:MOVED_AT_ONCE]
    for child in children:
        _lift(child, job.task["parent_id"])
    return len(children)


def _empty(job: Job) -> int:
    with suppress(BucketNotFound):  # the tenant is being deleted, and its files with it
        rows = _filed_in(buckets.get(job.tenant_id, FILES), job.task["folder_id"])
        for row in rows:
            _unfile(row, job.task["folder_id"])
        return len(rows)
    return 0


def _lift(child: Folder, parent_id: str | None) -> None:
    """Have a child lie where its parent lay, under another name if its own is taken there; at the top if that has gone too.

    Or if that lies in the child by now: what lies in a folder that has gone may be moved into as though it lay at the top.
    """
    number = 1
    for _ in range(MAX_FOLDERS):  # more names than that are not taken; what is left the next step sees to
        tree = _tree(child.tenant_id)
        if parent_id is not None and child.folder_id in _ancestors(parent_id, partial(Folder.read, child.tenant_id)):
            parent_id, number = None, 1
        wanted = Folder(**child.attribute_values)
        wanted.name, wanted.parent_id = _told_apart(child, number), parent_id
        wanted.revision, wanted.updated_at = child.revision + 1, seam.iso(seam.now())
        try:
            with Transaction() as transaction:
                transaction.put(_name_of(wanted), FolderName.item.does_not_exist())
                transaction.remove(_name_of(child), FolderName.taken_by == child.folder_id)
                _rewrite(transaction, child, wanted)
                _move_on(transaction, tree)
                if parent_id is not None:
                    transaction.check(Folder(child.tenant_id, parent_id), Folder.folder_id.exists())
            return
        except TransactionFailed as failed:
            taken, _, _, moved, *parent = failed.rows
            if parent and parent[0] is not None:
                parent_id, number = None, 1
            elif moved is not None and taken is None:
                continue
            elif taken is None or (taken.row is not None and taken.row.taken_by == child.folder_id):
                return  # done, if an answer was lost; or changed meanwhile, or busy: the next step looks again
            else:
                number += 1


def _told_apart(folder: Folder, number: int) -> str:
    """A folder's name, or one that is told from it by a number, or at last by its id too, and no longer than a name may be."""
    if number == 1:
        return str(folder.name)
    beyond = number - NUMBERED
    suffix = f" ({number})" if beyond <= 0 else f" ({folder.folder_id})" if beyond == 1 else f" ({folder.folder_id} {number})"
    return folder.name.encode()[: names.MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


def _filed_in(bucket: Bucket, folder_id: str) -> list[StoredObject]:
    query = {
        "IndexName": "newest-in-folder",
        "KeyConditionExpression": "files_in_folder_key = :f",
        "ExpressionAttributeValues": {":f": {"S": index_key(bucket.partition, folder_id)}},
        "Limit": MOVED_AT_ONCE,
    }
    return [StoredObject.from_raw_data(item) for item in next(StoredObject.pages(**query))]


def _unfile(seen: StoredObject, folder_id: str) -> None:
    """Take a file out of a folder, if it is in it. The index, where it was seen, may lag."""
    row: StoredObject | None = seen
    for _ in tries(f"file {seen.name} is being written by too many at once; try again shortly"):
        if row is None or row.folder_id != folder_id:
            return
        was_read = (StoredObject.version == row.version) & (StoredObject.revision == row.revision)
        row.filed(row.acl, None).revision += 1
        try:
            row.put(was_read)
            return
        except ConditionFailed as failed:
            row = failed.row


# ---- who may -------------------------------------------------------------------------------------------
def _require(principal: Principal, operation: Operation, folder: Folder) -> None:
    bucket = buckets.recent(principal.tenant_id, FILES)
    require_any(principal, (operation,), bucket)
    if not grant(principal, operation, bucket).allows(_columns(folder)):
        raise Forbidden(f"this credential may not {operation} folder {folder.name}")


def _columns(folder: Folder) -> Columns:
    """A folder as policies see it: an empty file, whose name ends in `/`."""
    return {
        "id": folder.folder_id,
        "name": folder.name + SEPARATOR,
        "bucket_id": FILES,
        "size": 0,
        "content_type": "inode/directory",
        "checksum": None,
        "owner_id": folder.owner_id,
        "user_metadata": None,
        "created_at": folder.created_at,
        "updated_at": folder.updated_at,
    }
