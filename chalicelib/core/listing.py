"""Pages of a bucket's objects, by name in code-point order, straight from the rows.

No model object is made for a row: a page of 1,000 is read, folded and shown as DynamoDB's own JSON. With a
delimiter, what lies below a folder is passed over by key ranges instead of being read, so a page costs what
it shows and not what the bucket holds. A page reads at most 2,000 rows in at most 100 ranges; what does not
fit is behind its cursor, which also carries what is left of an offset.

Only rows whose SELECT holds are shown, and folders with such a row below. Where the policies hold for nobody
but a row's owner, the page is read from the index by owner, which lags the rows by moments.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import TypedDict  # pydantic, which shows it in OpenAPI, needs this one below Python 3.12

from chalicelib import seam
from chalicelib.access.permissions import Columns, Grant, Operation, denial_of_missing, grant, require_credential
from chalicelib.access.principals import Principal, Role
from chalicelib.core import buckets, cursors, names
from chalicelib.errors import BucketNotFound, InvalidRequest
from chalicelib.settings import settings
from chalicelib.tables.buckets import Bucket
from chalicelib.tables.objects import StoredObject, index_key
from chalicelib.tables.table import Item, call

MAX_LIMIT = 1000
MAX_OFFSET = 10_000
MAX_ROWS = 2000
MAX_RANGES = 100
# Of working out policies: far beyond what they take, and far within what a function may.
MAX_SECONDS = 8
# Keys, ids, times and the longest content type of one row.
ROW_BYTES = 800
DELIMITER = "/"
# After a folder the next one often follows at once, so a range begins small and doubles while it is used up.
FIRST_RANGE = 4
# How many of the rows that come next are visible is not known where policies decide: ranges double up to this.
LONGEST_RANGE = 512
MAX_START_BYTES = names.MAX_NAME_BYTES + 8
_HIGHEST = "\U0010ffff"
# No name holds it, so a name and this is the very next text after the name.
_LEAST = "\0"
_NAME = {"#n": "name"}
_SHOWN = ("id", "size", "content_type", "checksum", "owner_id", "user_metadata", "created_at", "updated_at")
_PROJECTED = {**_NAME, **{f"#{position}": name for position, name in enumerate(_SHOWN)}}
_PROJECTION = ", ".join(_PROJECTED)


class Row(TypedDict):
    """An object, or a folder: then `id` and all else but a name ending in `/` is null."""

    id: str | None
    name: str
    size: int | None
    content_type: str | None
    checksum: str | None
    owner_id: str | None
    user_metadata: dict[str, Any] | None
    created_at: str | None
    updated_at: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and where the next page begins (None: there is none)."""

    rows: list[Row]
    cursor: str | None


@dataclass(slots=True)
class _Position:
    """Where a listing stands: names from `start` on come next, of which `skip` are not shown."""

    start: str
    skip: int


def page(
    principal: Principal, bucket_name: str, *, prefix: str = "", delimiter: str = "", limit: int = 100, offset: int = 0, cursor: str = ""
) -> Page:
    """One page; raises BucketNotFound, InvalidRequest, InvalidCursor, InvalidName, Forbidden, Unauthorized."""
    names.check_prefix(prefix)
    if delimiter not in ("", DELIMITER):
        raise InvalidRequest("the delimiter is '/' or absent")
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit lies between 1 and {MAX_LIMIT}")
    if not 0 <= offset <= MAX_OFFSET:
        raise InvalidRequest(f"offset lies between 0 and {MAX_OFFSET}; go deeper with cursor")
    try:
        bucket = buckets.recent(principal.tenant_id, bucket_name)
    except BucketNotFound as error:
        if principal.is_service or principal.role is Role.NOBODY:
            raise denial_of_missing(principal, Operation.SELECT, bucket_name, prefix) from error
        return Page([], None)
    readable = grant(principal, Operation.SELECT, bucket)
    require_credential(principal, not readable.nothing)
    position = _decode(cursor, bucket, readable) if cursor else _Position(prefix, offset)
    position.start = max(position.start, prefix)
    if readable.nothing or (readable.own_only and readable.uid is None):
        return Page([], None)  # a list holds the rows that one may see: none
    found = _Listing(bucket, readable, prefix, delimiter, limit, position).page()
    require_credential(principal, readable.everything or bool(found.rows or found.cursor))
    if not found.rows and buckets.is_outdated(bucket):  # its name is free, or another bucket's, by now
        return page(principal, bucket_name, prefix=prefix, delimiter=delimiter, limit=limit, offset=offset, cursor=cursor)
    return found


@dataclass(frozen=True, slots=True)
class _Source:
    """Where rows are read: the table, consistently, or the index by owner."""

    attribute: str
    partition: str
    options: Mapping[str, Any]


def _source(bucket: Bucket, readable: Grant) -> _Source:
    if readable.own_only and readable.uid is not None:
        return _Source("owner_key", index_key(bucket.partition, readable.uid), {"IndexName": StoredObject.OWNER_INDEX})
    return _Source("partition", bucket.partition, {"ConsistentRead": True})


class _Listing:
    """The making of one page."""

    def __init__(self, bucket: Bucket, readable: Grant, prefix: str, delimiter: str, limit: int, position: _Position) -> None:
        self._bucket = bucket
        self._readable = readable
        self._source = _source(bucket, readable)
        self._prefix = prefix
        self._end = _successor(prefix)
        self._delimiter = delimiter
        self._limit = limit
        self._position = position
        self._rows: list[Row] = []
        self._one_too_many = ""
        self._read = 0
        self._ranges = 0
        self._past_end = False
        self._deadline = seam.timestamp() + MAX_SECONDS
        self._out_of_time = False
        self._bytes = 0

    def page(self) -> Page:
        if self._position.skip and not self._delimiter and self._readable.everything and not self._pass_over():
            return Page([], None)
        size = self._limit + 1
        while self._ranges < MAX_RANGES and self._read < MAX_ROWS and not self._out_of_time:
            items, ended = self._range(min(size, MAX_ROWS - self._read))
            jumped = self._take(items)
            if self._one_too_many:
                return Page(self._rows, self._cursor(_Position(self._one_too_many, 0)))
            if (ended and not self._out_of_time) or self._past_end:
                return Page(self._rows, None)
            size = FIRST_RANGE if jumped else min(size * 2, LONGEST_RANGE)
            if self._readable.everything:
                size = min(size, self._limit + 1 - len(self._rows) + self._position.skip)
        return Page(self._rows, self._cursor(self._position))

    def _cursor(self, position: _Position) -> str:
        return cursors.encode([position.start, position.skip], self._bucket, self._readable)

    # ---- reading -------------------------------------------------------------------------------------
    def _pass_over(self) -> bool:
        """Count off the offset where nothing folds: rows are counted in the table and not sent. False: none are left."""
        while self._position.skip:
            answer = self._query({"Limit": self._position.skip, "Select": "COUNT"})
            self._position.skip -= answer["Count"]
            last = answer.get("LastEvaluatedKey")
            if last is None:
                return False
            self._position.start = last["name"]["S"] + _LEAST
        return True

    def _range(self, size: int) -> tuple[list[Item], bool]:
        self._ranges += 1
        answer = self._query({"Limit": size, "ProjectionExpression": _PROJECTION}, _PROJECTED)
        self._read += len(answer["Items"])
        return answer["Items"], "LastEvaluatedKey" not in answer

    def _query(self, more: dict[str, Any], attributes: Mapping[str, str] = _NAME) -> dict[str, Any]:
        condition = "#p = :p AND #n >= :start"
        values = {":p": {"S": self._source.partition}, ":start": {"S": self._position.start or _LEAST}}
        if self._end:
            if self._position.start > self._end:
                return {"Items": [], "Count": 0}
            condition = "#p = :p AND #n BETWEEN :start AND :end"
            values[":end"] = {"S": self._end}
        return call(
            "Query",
            TableName=StoredObject.Meta.table_name,
            KeyConditionExpression=condition,
            ExpressionAttributeNames={"#p": self._source.attribute, **attributes},
            ExpressionAttributeValues=values,
            **self._source.options,
            **more,
        )

    # ---- folding -------------------------------------------------------------------------------------
    def _take(self, items: list[Item]) -> bool:
        """Show rows until the page is full; gives whether the range ended inside a folder, which is then passed over."""
        folder = ""
        for item in items:
            name = item["name"]["S"]
            if folder and name.startswith(folder):
                continue
            if not name.startswith(self._prefix):  # the bound of the range is itself a name
                self._past_end = True
                break
            if not self._readable.everything:
                if seam.timestamp() > self._deadline:
                    self._out_of_time = True
                    break
                if not self._readable.allows(columns(item, self._bucket.name)):
                    self._position.start, folder = name + _LEAST, ""
                    continue
            folder = self._folder_of(name)
            row, size = (_folder_row(folder), _most_bytes(folder, None)) if folder else (_object_row(item), _most_bytes(name, item))
            if not self._show(folder or name, row, size):
                break
            self._position.start = _successor(folder) if folder else name + _LEAST
        return bool(folder)

    def _folder_of(self, name: str) -> str:
        if not self._delimiter:
            return ""
        end = name.find(self._delimiter, len(self._prefix))
        return name[: end + 1] if end >= 0 else ""

    def _show(self, start: str, row: Row, size: int) -> bool:
        if self._position.skip:
            self._position.skip -= 1
        elif len(self._rows) == self._limit or (self._rows and self._bytes + size > settings().max_body):
            self._one_too_many = start
            return False
        else:
            self._rows.append(row)
            self._bytes += size
        return True


def columns(item: Item, bucket_name: str) -> Columns:
    """A raw row as policies see it."""
    plain = {name: item[name].get("S") if name in item else None for name in ("name", *_SHOWN)}
    return {**plain, "bucket_id": bucket_name, "size": item["size"]["N"]}


def _object_row(item: Item) -> Row:
    metadata = item.get("user_metadata")
    return {
        "id": item["id"]["S"],
        "name": item["name"]["S"],
        "size": int(item["size"]["N"]),
        "content_type": item["content_type"]["S"],
        "checksum": item["checksum"]["S"] if "checksum" in item else None,
        "owner_id": item["owner_id"]["S"] if "owner_id" in item else None,
        "user_metadata": json.loads(metadata["S"]) if metadata else None,
        "created_at": item["created_at"]["S"],
        "updated_at": item["updated_at"]["S"],
    }


def _most_bytes(name: str, item: Item | None) -> int:
    """An upper bound of what a row takes in the answer."""
    metadata = item.get("user_metadata") if item else None
    return ROW_BYTES + 2 * len(name.encode()) + (len(metadata["S"].encode()) if metadata else 0)


def _folder_row(name: str) -> Row:
    return {
        "id": None,
        "name": name,
        "size": None,
        "content_type": None,
        "checksum": None,
        "owner_id": None,
        "user_metadata": None,
        "created_at": None,
        "updated_at": None,
    }


def _successor(prefix: str) -> str:
    """The least text above everything that starts with `prefix`; empty when there is none."""
    kept = prefix.rstrip(_HIGHEST)
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # no surrogate is a character


def _decode(cursor: str, bucket: Bucket, readable: Grant) -> _Position:
    match cursors.decode(cursor, bucket, readable):
        case [str(start), int(skip)] if type(skip) is int and 0 <= skip <= MAX_OFFSET and cursors.fits(start, MAX_START_BYTES):
            return _Position(start, skip)
    raise cursors.invalid()
