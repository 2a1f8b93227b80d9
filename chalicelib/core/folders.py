"""Folders of a tenant's files: labels in a tree, of which no storage knows.

Who sees, changes or deletes a folder is asked of the policies of files, as though it were an empty file of its maker's: so to begin with
folders are their owner's alone, and a name is unique among an owner's folders in one parent. A file's folder is an attribute of its
row. A file that is stored under `photos/spring/a.jpg` and names no folder is filed in its owner's folder `photos/spring`, which is made
when it is not there.
How one is deleted is in `core/folder_ends.py`. A folder whose parent has gone lies at the top until it is lifted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from chalicelib import seam
from chalicelib.access.cache import MinuteCache
from chalicelib.access.permissions import Columns, Grant, Operation, grant, require_any
from chalicelib.access.principals import Principal
from chalicelib.core import buckets, names
from chalicelib.errors import FolderExists, FolderNotFound, Forbidden, InvalidRequest, Unavailable
from chalicelib.tables.buckets import FILES
from chalicelib.tables.folders import Folder, FolderCount, FolderName, FolderTree, count_item, name_item, names_of
from chalicelib.tables.objects import index_key
from chalicelib.tables.table import ConditionFailed, Transaction, TransactionFailed, read_together, tries

# Of an owner's. So many, with the longest names, fit into an answer.
MAX_FOLDERS = 2000
MAX_DEPTH = 32
MAX_LISTED = 2000
SEPARATOR = "/"
BUSY = "the folders are being changed by too many at once; try again shortly"

_known: MinuteCache[Folder] = MinuteCache()


# ---- reading -------------------------------------------------------------------------------------------
def page(principal: Principal, after: str = "") -> tuple[list[Folder], str | None]:
    """Folders that the principal may see, by name within a page, and where the next page begins (None: these are all).

    `after` is the place that the page before has told. Raises Forbidden, Unauthorized for who may read no file.
    """
    readable = granted(principal, Operation.SELECT)
    if readable.own_only:
        found, following = _of_owner(principal.tenant_id, readable.uid), None
    else:
        found, following = stored(principal.tenant_id, after, MAX_LISTED)
    seen = [folder for folder in found if readable.allows(_columns(folder))]
    return sorted(seen, key=lambda folder: (folder.name, folder.folder_id)), following


def stored(tenant_id: str, after: str, most: int) -> tuple[list[Folder], str | None]:
    """Folders of a tenant in the order of their ids, at most so many after one, and the last one's id if there are more."""
    query = {
        "KeyConditionExpression": "tenant_id = :t AND folder_id BETWEEN :after AND :above",
        "ExpressionAttributeValues": {":t": {"S": tenant_id}, ":after": {"S": f"{after}0"}, ":above": {"S": Folder.ABOVE_IDS}},
        "ConsistentRead": True,
    }
    found: list[Folder] = []
    for items in Folder.pages(**query):
        found += map(Folder.from_raw_data, items)
        if len(found) > most:
            return found[:most], str(found[most - 1].folder_id)
    return found, None


def _of_owner(tenant_id: str, owner_id: str | None) -> list[Folder]:
    query = {
        "KeyConditionExpression": "tenant_id = :t AND begins_with(folder_id, :n)",
        "ExpressionAttributeValues": {":t": {"S": tenant_id}, ":n": {"S": names_of(owner_id)}},
        "ConsistentRead": True,
    }
    return _read(tenant_id, [item["taken_by"]["S"] for items in FolderName.pages(**query) for item in items])


def children(tenant_id: str, folder_id: str, most: int) -> list[Folder]:
    """At most so many of the folders that lie in one, as they stand.

    The index that tells which may lag: some may lie elsewhere by now, others are not told of yet.
    """
    query = {
        "IndexName": Folder.BY_PARENT,
        "KeyConditionExpression": "parent_key = :p",
        "ExpressionAttributeValues": {":p": {"S": index_key(tenant_id, folder_id)}},
        "Limit": most,
    }
    return _read(tenant_id, [item["folder_id"]["S"] for item in next(Folder.pages(**query))])


def _read(tenant_id: str, ids: Sequence[str]) -> list[Folder]:
    once = dict.fromkeys(ids)  # one that is renamed meanwhile may be met under both names
    return [folder for folder in read_together(*((Folder, tenant_id, folder_id) for folder_id in once)) if folder is not None]


def find(principal: Principal, folder_id: str) -> Folder:
    """A folder that the principal may see, as it stands; raises FolderNotFound."""
    return _visible(principal, folder_id, Folder.read(principal.tenant_id, folder_id) if names.is_uuid(folder_id) else None)


def require(principal: Principal, folder_id: str) -> None:
    """Raise FolderNotFound unless there is a folder that the principal may see, or was a minute ago."""
    _visible(principal, folder_id, _recent(principal.tenant_id, folder_id))


def exists(tenant_id: str, folder_id: str) -> bool:
    """Whether a folder is there, or was a minute ago."""
    return _recent(tenant_id, folder_id) is not None


def forget(tenant_id: str, folder_id: str) -> None:
    """Have this process look for a folder again; others do so within a minute."""
    _known.forget(f"{tenant_id}/{folder_id}")


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
    require_on(principal, Operation.INSERT, folder)
    if parent_id is not None:
        _check_depth(len(ancestors(find(principal, parent_id))) + 1)
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
    try:
        taken = FolderName.read(tenant_id, name_item(owner_id, None, name))
        if taken is not None:
            return str(taken.taken_by)
        folder = _new(tenant_id, name, None, owner_id)
        _put(folder)
    except FolderExists as error:  # made by another request at this moment
        return error.folder_id
    except (InvalidRequest, Unavailable):
        return None
    return str(folder.folder_id)


def _new(tenant_id: str, name: str, parent_id: str | None, owner_id: str | None) -> Folder:
    now = seam.iso(seam.now())
    return Folder(tenant_id, seam.new_uuid(), name=name, owner_id=owner_id, created_at=now, updated_at=now).lying_in(parent_id)


def _put(folder: Folder) -> None:
    """Write a new folder, with its name, and counted; raises FolderExists, FolderNotFound, InvalidRequest."""
    for _ in tries(BUSY):
        try:
            with Transaction() as transaction:
                transaction.put(name_of(folder), FolderName.item.does_not_exist())
                count(transaction, folder, 1)
                transaction.put(folder)
                if folder.parent_id is not None:
                    transaction.check(Folder(folder.tenant_id, folder.parent_id), Folder.folder_id.exists())
            return
        except TransactionFailed as failed:
            taken, full, _, *parent = failed.rows
            if taken is not None and taken.row is not None and taken.row.taken_by == folder.folder_id:
                return  # ours: the answer to an earlier attempt was lost
            _raise(folder.name, folder.parent_id, taken, full, any(parent))


def name_of(folder: Folder) -> FolderName:
    """The row that says that its name is taken."""
    return FolderName(folder.tenant_id, name_item(folder.owner_id, folder.parent_id, folder.name), taken_by=folder.folder_id)


def count(transaction: Transaction, folder: Folder, number: int) -> None:
    """Have `transaction` add to how many folders the owner of one has, up to the limit."""
    room = FolderCount.folders.does_not_exist() | (FolderCount.folders < MAX_FOLDERS)
    counted = FolderCount(folder.tenant_id, count_item(folder.owner_id))
    transaction.change(counted, [FolderCount.folders.add(number)], room if number > 0 else FolderCount.item.exists())


def _raise(name: str, parent_id: str | None, taken: ConditionFailed | None, full: ConditionFailed | None, parent_gone: bool) -> None:
    """Raise what a transaction failed for, if it is not only that another was at work."""
    if taken is not None:
        raise FolderExists(f"there is a folder {name} there already", taken.row.taken_by if taken.row else None)
    if parent_gone:
        raise FolderNotFound(f"there is no folder {parent_id}")
    if full is not None:
        raise InvalidRequest(f"one has at most {MAX_FOLDERS} folders; delete some")


# ---- changing ------------------------------------------------------------------------------------------
def change(principal: Principal, folder_id: str, changes: dict[str, Any]) -> Folder:
    """Give a folder another `name`, or another `parent_id` (None: to the top), and leave what is not given.

    Raises FolderNotFound, FolderExists, InvalidRequest for a circle, Forbidden, Unauthorized.
    """
    if "name" in changes:
        check_name(changes["name"])
    granted(principal, Operation.UPDATE)  # before it is told what there is
    for _ in tries(BUSY):
        folder = find(principal, folder_id)
        require_on(principal, Operation.UPDATE, folder)
        name, parent_id = changes.get("name", folder.name), changes.get("parent_id", folder.parent_id)
        if (name, parent_id) == (folder.name, folder.parent_id):
            return folder
        tree = tree_of(principal.tenant_id) if parent_id != folder.parent_id else None
        if parent_id not in (None, folder.parent_id):
            _check_move(folder, find(principal, parent_id))
        met = rewrite(folder, name, parent_id, tree)
        if isinstance(met, Folder):
            return met
        if not (met.changed or met.has_moved):
            _raise(name, parent_id, met.taken, None, met.parent_gone)
    raise AssertionError("tries() ends by raising")


def tree_of(tenant_id: str) -> FolderTree:
    """What changes when a folder of the tenant moves."""
    return FolderTree.read(tenant_id, FolderTree.ITEM) or FolderTree(tenant_id, FolderTree.ITEM)


def _check_move(folder: Folder, parent: Folder) -> None:
    """Raise InvalidRequest unless a folder may lie in another one."""
    above = ancestors(parent)
    if folder.folder_id in above:
        raise InvalidRequest("a folder cannot lie in itself, or in one that lies in it", field="parentId")
    there = {each.folder_id: each for each in _of_owner(folder.tenant_id, folder.owner_id)}
    chains = (_chain(each, there.get) for each in there.values())
    height = max((chain.index(folder.folder_id) + 1 for chain in chains if folder.folder_id in chain), default=1)
    _check_depth(len(above) + height)


def ancestors(folder: Folder) -> Sequence[str]:
    """The ids from a folder up to the top, its own first; what lies in a folder that has gone lies at the top.

    Of a chain that is longer than one may be only the beginning: one more than `MAX_DEPTH`.
    """
    return _chain(folder, partial(Folder.read, folder.tenant_id))


def _chain(folder: Folder, look: Callable[[str], Folder | None]) -> Sequence[str]:
    found: list[str] = []
    above: Folder | None = folder
    while above is not None and len(found) <= MAX_DEPTH:
        found.append(above.folder_id)
        above = look(above.parent_id) if above.parent_id is not None else None
    return found


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"folders lie in each other at most {MAX_DEPTH} deep", field="parentId")


@dataclass(frozen=True, slots=True)
class Met:
    """What stood in the way of a rewrite: another folder of the name, a change of the folder, a move in the tree, a parent that has gone.

    None of them: another transaction was at work.
    """

    taken: ConditionFailed | None
    changed: bool
    has_moved: bool
    parent_gone: bool


def rewrite(folder: Folder, name: str, parent_id: str | None, tree: FolderTree | None) -> Folder | Met:
    """Give a folder another name or place; gives it as it is then, or what stood in the way. Its counters move on meanwhile.

    `tree` where the place is another: nothing may have moved since it was read.
    """
    wanted = Folder(**folder.attribute_values | {"name": name}).lying_in(parent_id)
    wanted.revision, wanted.updated_at = folder.revision + 1, seam.iso(seam.now())
    changes = {each: getattr(wanted, each) for each in ("name", "parent_id", "parent_key", "revision", "updated_at")}
    try:
        with Transaction() as transaction:
            transaction.put(name_of(wanted), FolderName.item.does_not_exist())
            transaction.change(folder, Folder.setting(changes), Folder.revision == folder.revision)
            transaction.remove(name_of(folder), FolderName.taken_by == folder.folder_id)
            if tree is not None:
                same = FolderTree.revision == tree.revision if tree.revision else FolderTree.revision.does_not_exist()
                transaction.change(tree, [FolderTree.revision.add(1)], same)
            if tree is not None and parent_id is not None:
                transaction.check(Folder(folder.tenant_id, parent_id), Folder.folder_id.exists())
        return wanted
    except TransactionFailed as failed:
        taken, changed, _, has_moved, parent_gone = [*failed.rows, None, None][:5]
        if taken is not None and taken.row is not None and taken.row.taken_by == folder.folder_id:
            return wanted  # ours: the answer to an earlier attempt was lost
        return Met(taken, changed is not None, has_moved is not None, parent_gone is not None)


# ---- who may -------------------------------------------------------------------------------------------
def require_on(principal: Principal, operation: Operation, folder: Folder) -> None:
    """Raise Forbidden or Unauthorized unless a principal may do this to a folder."""
    if not granted(principal, operation).allows(_columns(folder)):
        raise Forbidden(f"this credential may not {operation} folder {folder.name}")


def granted(principal: Principal, operation: Operation) -> Grant:
    """What a principal may do; raises Forbidden, Unauthorized where that is nothing."""
    bucket = buckets.recent(principal.tenant_id, FILES)
    require_any(principal, (operation,), bucket)
    return grant(principal, operation, bucket)


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
