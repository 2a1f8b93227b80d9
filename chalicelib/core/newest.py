"""Pages of a tenant's files, newest first, and how many there are in which folder.

A page is read from the index that holds just what it shows: of all files, those of an owner, those in a folder, or those of an owner in
a folder. So it costs what it shows and not what the drive holds. Where policies say more than that files are their owner's, and with a
`prefix` or `search`, rows are passed over: then a page looks at no more than 2,000 of them, or for 8 seconds, and comes short, with a
cursor to go on at. A prefix that few names have is answered at once all the same: the names that begin so are read by name, and put
into order here.

The indexes follow the rows by moments. No model object is made for a row.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib import seam
from chalicelib.access.permissions import Grant, Operation, grant, require_any
from chalicelib.access.principals import Principal
from chalicelib.core import buckets, cursors, folders, names
from chalicelib.core.listing import LONGEST_RANGE, MAX_OFFSET, MAX_RANGES, MAX_ROWS, MAX_SECONDS, ROW_BYTES, columns
from chalicelib.errors import InvalidRequest
from chalicelib.settings import settings
from chalicelib.tables.buckets import FILES, Bucket
from chalicelib.tables.folders import Folder
from chalicelib.tables.objects import ROOT, StoredObject, index_key
from chalicelib.tables.table import Item, call

MAX_LIMIT = 200
DEFAULT_LIMIT = 50
MAX_SEARCH_CHARACTERS = 200
# Names that begin alike are put into order here if they are no more than so many: one query of some 350 KB.
MAX_SORTED = 500
# Files that are counted one by one.
MAX_COUNTED = 10_000
MAX_MOMENT_BYTES = 40

File = dict[str, Any]
"""A file: the attributes of `tables/objects.py` that it has, by their names there."""
Place = tuple[str, str]
"""Where a file stands in the order of files: when it was made, and its key."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files. `folder_id` ROOT: those in none, None: all; `search` is looked for in keys, whatever the case."""

    prefix: str = ""
    folder_id: str | None = None
    search: str = ""

    @property
    def passes_over(self) -> bool:
        """Whether rows of the index are not shown, whoever asks."""
        return bool(self.prefix or self.search)


@dataclass(frozen=True, slots=True)
class Page:
    """Files, how many there are in all where that is known, and where the next page begins (None: there is none)."""

    files: list[File]
    total: int | None
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Files by folder, and those in none.

    `complete`: whether they all were counted. If not, the numbers are of what was reached; those of the service key then count
    files of folders that were not as in none.
    """

    in_folders: dict[str, int]
    in_none: int
    total: int
    complete: bool


def page(principal: Principal, wanted: Wanted, limit: int = DEFAULT_LIMIT, offset: int = 0, cursor: str = "") -> Page:
    """One page; raises InvalidRequest, InvalidName, InvalidCursor, Forbidden, Unauthorized."""
    names.check_prefix(wanted.prefix)
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit lies between 1 and {MAX_LIMIT}")
    if not 0 <= offset <= MAX_OFFSET:
        raise InvalidRequest(f"offset lies between 0 and {MAX_OFFSET}; go deeper with cursor")
    if offset and cursor:
        raise InvalidRequest("a cursor says where the page begins; leave offset out")
    if len(wanted.search) > MAX_SEARCH_CHARACTERS:
        raise InvalidRequest(f"search has at most {MAX_SEARCH_CHARACTERS} characters")
    if wanted.folder_id not in (None, ROOT) and not names.is_uuid(str(wanted.folder_id)):
        raise InvalidRequest(f"folderId is the id of a folder, or {ROOT}")
    bucket, readable = _readable(principal)
    listing = _Listing(bucket, readable, wanted, limit, offset)
    if cursor:
        listing.go_on(cursor)
    files, ended = listing.page()
    return Page(files, _total(bucket, readable, wanted), None if ended else listing.cursor())


def _readable(principal: Principal) -> tuple[Bucket, Grant]:
    bucket = buckets.recent(principal.tenant_id, FILES)
    require_any(principal, (Operation.SELECT,), bucket)
    return bucket, grant(principal, Operation.SELECT, bucket)


def _total(bucket: Bucket, readable: Grant, wanted: Wanted) -> int | None:
    """How many files there are, where a counter says it: of who sees all of them, in the whole drive or in a folder."""
    if not readable.everything or wanted.passes_over or wanted.folder_id == ROOT:
        return None
    if wanted.folder_id is None:
        return _counted(buckets.get(bucket.tenant_id, FILES))
    folder = Folder.read(bucket.tenant_id, wanted.folder_id)
    return _counted(folder) if folder else 0


def _counted(row: Bucket | Folder) -> int:
    return max(0, int(row.object_count))  # what leaves may be told of before what came


# ---- where rows are read -------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Index:
    name: str
    attribute: str
    partition: str


def _index_of(bucket: Bucket, owner_id: str | None, folder_id: str | None) -> _Index:
    of = [each for each in (owner_id, folder_id) if each is not None]
    name, attribute = {
        (False, False): ("newest", "files_key"),
        (True, False): ("newest-of-owner", "files_of_owner_key"),
        (False, True): (StoredObject.FOLDER_INDEX, "files_in_folder_key"),
        (True, True): ("newest-of-owner-in-folder", "files_of_owner_in_folder_key"),
    }[owner_id is not None, folder_id is not None]
    return _Index(name, attribute, index_key(bucket.partition, *of))


def _query(names_of: dict[str, str], values: dict[str, str], **more: Any) -> dict[str, Any]:
    return call(
        "Query",
        TableName=StoredObject.Meta.table_name,
        ExpressionAttributeNames=names_of,
        ExpressionAttributeValues={name: {"S": value} for name, value in values.items()},
        **more,
    )


def _newest(index: _Index, after: Place | None, bucket: Bucket, **more: Any) -> dict[str, Any]:
    if after is not None:
        key = {index.attribute: index.partition, "created_at": after[0], "partition": bucket.partition, "name": after[1]}
        more["ExclusiveStartKey"] = {name: {"S": value} for name, value in key.items()}
    return _query(
        {"#p": index.attribute},
        {":p": index.partition},
        IndexName=index.name,
        KeyConditionExpression="#p = :p",
        ScanIndexForward=False,
        **more,
    )


def _place(item: Item) -> Place:
    return item["created_at"]["S"], item["name"]["S"]


# ---- a page --------------------------------------------------------------------------------------------
class _Listing:
    """The making of one page: files come after `place`, of which `skip` are not shown."""

    def __init__(self, bucket: Bucket, readable: Grant, wanted: Wanted, limit: int, offset: int) -> None:
        self._bucket = bucket
        self._readable = readable
        self._wanted = wanted
        self._owner = readable.uid if readable.own_only else None
        self._index = _index_of(bucket, self._owner, wanted.folder_id)
        self._search = wanted.search.casefold()
        self._limit = limit
        self._skip = offset
        self._place: Place | None = None
        self._by_name = bool(wanted.prefix)
        self._files: list[File] = []
        self._bytes = 0
        self._deadline = seam.timestamp() + MAX_SECONDS

    def go_on(self, cursor: str) -> None:
        """Begin where a cursor says."""
        match cursors.decode(cursor, self._bucket, self._readable):
            case [str(made), str(name), int(skip), bool(by_name)] if (
                type(skip) is int
                and 0 <= skip <= MAX_OFFSET
                and cursors.fits(made, MAX_MOMENT_BYTES)
                and cursors.fits(name, names.MAX_NAME_BYTES)
            ):
                self._place, self._skip = (made, name) if made and name else None, skip
                self._by_name = self._by_name and by_name
            case _:
                raise cursors.invalid()

    def cursor(self) -> str:
        """Where the next page begins."""
        made, name = self._place or ("", "")
        return cursors.encode([made, name, self._skip, self._by_name], self._bucket, self._readable)

    def page(self) -> tuple[list[File], bool]:
        """The files, and whether they are the last."""
        if self._by_name:
            found = self._beginning_alike()
            if found is not None:
                return self._files, self._take(found)
            self._by_name = False  # nor will the pages that follow try
        if self._skip and self._readable.everything and not self._wanted.passes_over and not self._pass_over():
            return [], True
        return self._files, self._from_index()

    def _beginning_alike(self) -> list[Item] | None:
        """Every file whose key begins with the prefix, newest first; None if they are too many to be put into order here."""
        source = ("owner_key", index_key(self._bucket.partition, self._owner)) if self._owner else ("partition", self._bucket.partition)
        where = {"IndexName": StoredObject.OWNER_INDEX} if self._owner else {"ConsistentRead": True}
        found = _query(
            {"#p": source[0], "#n": "name"},
            {":p": source[1], ":n": self._wanted.prefix},
            KeyConditionExpression="#p = :p AND begins_with(#n, :n)",
            Limit=MAX_SORTED + 1,
            **where,
        )
        if "LastEvaluatedKey" in found:
            return None
        items = sorted(found["Items"], key=_place, reverse=True)
        return [item for item in items if self._place is None or _place(item) < self._place]

    def _pass_over(self) -> bool:
        """Count off the offset in the index; gives whether files are left."""
        while self._skip:
            answer = _newest(self._index, self._place, self._bucket, Limit=self._skip, Select="COUNT")
            self._skip -= answer["Count"]
            last = answer.get("LastEvaluatedKey")
            if last is None:
                return False
            self._place = _place(last)
        return True

    def _from_index(self) -> bool:
        size, read = self._limit + 1, 0
        for _ in range(MAX_RANGES):
            answer = _newest(self._index, self._place, self._bucket, Limit=min(size, MAX_ROWS - read))
            read += len(answer["Items"])
            is_last = self._take(answer["Items"])
            if not is_last or "LastEvaluatedKey" not in answer:
                return is_last
            if read >= MAX_ROWS or seam.timestamp() > self._deadline:
                return False
            size = min(size * 2, LONGEST_RANGE)
        return False

    def _take(self, items: Sequence[Item]) -> bool:
        """Show files until the page is full or time is over; gives whether all of these fitted."""
        for item in items:
            if seam.timestamp() > self._deadline:
                return False
            if not self._is_shown(item):
                self._place = _place(item)
            elif self._skip:
                self._skip, self._place = self._skip - 1, _place(item)
            else:
                size = ROW_BYTES + sum(len(value["S"].encode()) for name, value in item.items() if name in ("name", "user_metadata"))
                if len(self._files) == self._limit or (self._files and self._bytes + 2 * size > settings().max_body):
                    return False
                self._files.append(_file(item))
                self._bytes, self._place = self._bytes + 2 * size, _place(item)
        return True

    def _is_shown(self, item: Item) -> bool:
        name, folder = item["name"]["S"], item["folder_id"]["S"] if "folder_id" in item else ROOT
        if not name.startswith(self._wanted.prefix) or self._wanted.folder_id not in (None, folder) or self._search not in name.casefold():
            return False
        return self._readable.everything or self._readable.allows(columns(item, FILES))


def _file(item: Item) -> File:
    return {name: int(value["N"]) if "N" in value else value["S"] for name, value in item.items() if "N" in value or "S" in value}


# ---- counts --------------------------------------------------------------------------------------------
def counts(principal: Principal) -> Counts:
    """How many files there are in which folder, of those that the principal may read; raises Forbidden, Unauthorized.

    Who sees all of them is told what the counters say. For others they are counted, as far as `MAX_COUNTED` of them and the time go.
    """
    bucket, readable = _readable(principal)
    if readable.everything:
        some, more = folders.stored(principal.tenant_id, "", MAX_COUNTED)
        in_folders = {folder.folder_id: _counted(folder) for folder in some}
        total = _counted(buckets.get(principal.tenant_id, FILES))
        return Counts(in_folders, max(0, total - sum(in_folders.values())), total, complete=more is None)
    counted: Counter[str] = Counter()
    complete, deadline = True, seam.timestamp() + MAX_SECONDS
    for number, item in enumerate(_all(bucket, readable)):
        if number == MAX_COUNTED or seam.timestamp() > deadline:
            complete = False
            break
        if readable.allows(columns(item, FILES)):
            counted[item["folder_id"]["S"] if "folder_id" in item else ROOT] += 1
    total, in_none = counted.total(), counted.pop(ROOT, 0)
    return Counts(dict(counted), in_none, total, complete)


def _all(bucket: Bucket, readable: Grant) -> Iterator[Item]:
    index, place = _index_of(bucket, readable.uid if readable.own_only else None, None), None
    while True:
        answer = _newest(index, place, bucket)
        yield from answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        place = _place(answer["LastEvaluatedKey"])
