"""Objects as files on a server: what SFTP and FTP share.

    {base}/{key}                                             an object; a key's segments are folders
    {base}/.stowage/staging/{random}                         a write under way: a rename makes it an object
    {base}/.stowage/parts/{upload}/{number}.{etag}           a part of a multipart upload, with the SHA-256 of its bytes
    {base}/.stowage/parts/{upload}/joined.{plan}             as much of the parts as is joined already

The base folder is the storage's bucket and has to be there; folders below it are made and removed as keys come and go. A rename on
one file system is atomic, so a reader sees the old object or the new one, whole. An upload's id begins with a digest of its key.

No server joins files by itself, so completing a multipart upload moves its bytes through here, as many as there is time for. Who joins
takes the joined part by renaming it to a name of its own, so nobody ever writes to what another reads; out of time, it gives
back what it has and asks to be called again. One that dies leaves the parts, and the next one begins anew.
"""

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from chalicelib import outbound, seam
from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Capabilities, Inspected, Listed, ListedPart, Part, Stat
from chalicelib.providers.connections import Connection, Connections
from chalicelib.providers.failures import Failure, failure
from chalicelib.providers.filesystem import ESCAPE, file_segment, key_segment

OWN = ".stowage"
PIECE = 2 << 20
# Seconds: well within a request's, so that what is joined so far can be given back.
JOINS_FOR = 12
GIVES_BACK_IN = 2
FORGOTTEN_AFTER = 24 * 3600
UPLOAD_ID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a server tells of a path: `size` in bytes, `modified` in seconds since 1970 by its own clock."""

    size: int
    is_folder: bool
    modified: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a folder."""

    name: str
    size: int
    is_folder: bool


class NoSuchPath(Exception):
    """There is no such file or folder: proven, not guessed."""


class Denied(StorageUnavailable):
    """The server refused one request; the connection is as good as before."""


class Unreadable(Denied):
    """A folder holds what cannot be told."""


def denied(cause: Failure) -> Denied:
    """The refusal for a cause."""
    told = failure(cause)
    return Denied(told.message, told.reason)


class Files(Connection, Protocol):
    """What a connection does with files. All raise StorageUnavailable (Denied, if the server has answered), and NoSuchPath where
    the path, or a folder on it, is not there.
    """

    def write(self, path: str, body: bytes) -> None:
        """Make a new file of these bytes, in a folder that is there."""

    def append(self, path: str, body: bytes) -> None:
        """Add bytes to a file's end."""

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, fewer only where the file ends."""

    def attributes(self, path: str) -> Attributes | None:
        """None where there is nothing."""

    def rename(self, source: str, target: str) -> None:
        """Give a file or folder another place, instead of the file that may be there."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def make_folder(self, path: str) -> None:
        """Make a folder; one that is there already is as good."""

    def remove_folder(self, path: str) -> bool:
        """Remove a folder if it is empty; gives whether it went."""

    def entries(self, path: str) -> list[Entry]:
        """What lies in a folder."""


class Tree(ABC):
    """A provider over a server's files. `base` is the path of a folder, without a slash at its end."""

    max_key_bytes = 1024
    # Smaller parts would cost more in round trips than joining chunks does.
    min_part_bytes = 1 << 20
    # A part passes through here whole, and within a call's time, also where it is a copy.
    max_part_bytes = 16 << 20
    max_parts = 1_000_000

    def __init__(self, base: str, prefix: str) -> None:
        self._bucket = base
        self._base = f"{base}/{prefix}".rstrip("/")
        self._staging, self._parts = f"{self._base}/{OWN}/staging", f"{self._base}/{OWN}/parts"
        self._connections = Connections(self._connect, (NoSuchPath, BytesMissing, Denied))

    @abstractmethod
    def _connect(self) -> Files:
        """A connection that is logged in."""

    @abstractmethod
    def _answering(self) -> AbstractContextManager[None]:
        """Makes StorageUnavailable of what the protocol's library raises."""

    @contextmanager
    def _files(self) -> Iterator[Files]:
        with self._answering(), self._connections.one() as session:
            yield session

    def close(self) -> None:
        """Be done with its connections."""
        self._connections.close()

    # ---- objects -------------------------------------------------------------------------------------
    def put(self, key: str, body: bytes, content_type: str) -> None:
        with self._files() as files:
            staged = self._stage(files, body)
            self._publish(files, staged, key)

    def read(self, key: str, offset: int, length: int) -> bytes:
        if length == 0:
            return b""
        with self._files() as files:
            body = self._read(files, self._path(key), offset, length)
        if len(body) != length:
            raise BytesMissing("the stored object is shorter than its record says")
        return body

    def _read(self, files: Files, path: str, offset: int, length: int) -> bytes:
        try:
            return files.read(path, offset, length)
        except Denied as error:
            found = files.attributes(path)
            if found is not None and not found.is_folder and offset >= found.size:
                return b""  # from beyond the end
            if found is not None and not found.is_folder:
                raise
            raise BytesMissing("the stored object is missing") from error
        except NoSuchPath as error:
            self._require_base(files)
            raise BytesMissing("the stored object is missing") from error

    def stat(self, key: str) -> Stat | None:
        with self._files() as files:
            found = self._object(files, key)
        return Stat(found.size) if found else None

    def _object(self, files: Files, key: str) -> Attributes | None:
        found = files.attributes(self._path(key))
        if found is None:
            self._require_base(files)
        return None if found is None or found.is_folder else found

    def _require_base(self, files: Files) -> None:
        """Tell an object that is not there from a storage that is not there."""
        if not _is_folder(files, self._bucket or "/"):
            raise failure(Failure.BUCKET_NOT_FOUND)

    def inspect(self, key: str, length: int) -> Inspected | None:
        with self._files() as files:
            found = self._object(files, key)
            if found is None:
                return None
            try:
                start = files.read(self._path(key), 0, min(length, found.size)) if length and found.size else b""
            except NoSuchPath:
                return None
        return Inspected(found.size, start, None, found.modified)

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        left: dict[str, str] = {}
        folders: dict[str, None] = {}
        with self._files() as files:
            for number, key in enumerate(keys):
                path = self._path(key)
                try:
                    files.remove(path)
                    folders[path.rpartition("/")[0]] = None
                except NoSuchPath:
                    if number == 0:
                        self._require_base(files)
                except StorageUnavailable as error:
                    if self._object(files, key) is not None:  # a folder is no object, and stays
                        left[key] = error.reason or "Failed"
            for folder in folders:
                self._prune(files, folder)
        return left

    def _prune(self, files: Files, folder: str) -> None:
        with suppress(NoSuchPath, StorageUnavailable):
            while len(folder) > len(self._base) and files.remove_folder(folder):
                folder = folder.rpartition("/")[0]

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        folder, slash, _ = prefix.rpartition("/")
        return self._below(folder + slash, prefix.encode(), after.encode())

    def _below(self, folder: str, prefix: bytes, after: bytes) -> Iterator[Listed]:
        """Objects below a key that is empty or ends in `/`, in order; folders that hold none of them are not looked into."""
        for found in sorted(self._children(folder), key=_key):
            key = _key(found)
            if isinstance(found, Listed):
                if key.startswith(prefix) and key > after:
                    yield found
            elif (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
                yield from self._below(found, prefix, after)

    def _children(self, below: str) -> Iterator[Listed | str]:
        """What lies right below: objects, and of folders the key, which ends in `/`."""
        folder = self._path(below[:-1]) if below else self._base
        with self._files() as files:
            try:
                entries = files.entries(folder)
            except (NoSuchPath, Denied) as error:
                if isinstance(error, Denied) and _is_folder(files, folder):
                    raise
                self._require_base(files)
                return
        for entry in entries:
            key = below + key_segment(entry.name)
            if not entry.is_folder:
                yield Listed(key, entry.size)
            elif below or entry.name != OWN:
                yield key + "/"

    def reach(self) -> None:
        with self._files() as files:
            self._require_base(files)
            with suppress(Unreadable):  # it lets itself be listed, and holds files that are not ours
                files.entries(self._bucket or "/")

    def examine(self, key: str, body: bytes) -> Capabilities:
        """Also removes what writes that were cut off have left in staging."""
        with self._files() as files:
            found = self._object(files, key)
            self._tidy(files, found)
        return Capabilities(
            range_read=self.read(key, 1, 3) == body[1:4],
            multipart=self._makes_parts(key),
            clock_skew_seconds=round(found.modified - seam.timestamp(), 1) if found else None,
        )

    def _tidy(self, files: Files, now: Attributes | None) -> None:
        with suppress(NoSuchPath, StorageUnavailable):
            for entry in files.entries(self._staging):
                path = f"{self._staging}/{entry.name}"
                found = files.attributes(path)
                if found and found.is_folder:  # an upload on its way out
                    self._clear(files, path)
                elif now and found and found.modified < now.modified - FORGOTTEN_AFTER:
                    files.remove(path)

    def _makes_parts(self, key: str) -> bool:
        upload_id = self.create_multipart(key, "")
        self.upload_part(key, upload_id, 1, b"{}")
        self.abort_multipart(key, upload_id)
        return True

    # ---- Multipart -----------------------------------------------------------------------------------
    def create_multipart(self, key: str, content_type: str) -> str:
        upload_id = _mark(key) + secrets.token_hex(UPLOAD_ID_DIGITS // 4)
        with self._files() as files:
            self._make_folders(files, f"{self._parts}/{upload_id}")
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        folder = self._upload(key, upload_id)
        with self._files() as files:
            return self._store_part(files, folder, number, self._stage(files, body), hashlib.sha256(body).hexdigest())

    def copy_part(self, key: str, upload_id: str, number: int, source: str, offset: int, length: int) -> Part:
        folder, digest = self._upload(key, upload_id), hashlib.sha256()
        with self._files() as files:
            staged = self._stage(files, b"")
            for start in range(offset, offset + length, PIECE):
                wanted = min(PIECE, offset + length - start)
                piece = self._read(files, self._path(source), start, wanted)
                if len(piece) != wanted:
                    raise BytesMissing("the stored object is shorter than its record says")
                files.append(staged, piece)
                digest.update(piece)
            return self._store_part(files, folder, number, staged, digest.hexdigest())

    def _store_part(self, files: Files, folder: str, number: int, staged: str, etag: str) -> Part:
        name = f"{number:07d}.{etag}"
        try:
            files.rename(staged, f"{folder}/{name}")
            entries = files.entries(folder)
        except NoSuchPath as error:
            with suppress(NoSuchPath):
                files.remove(staged)
            raise _no_upload() from error
        for entry in entries:
            if entry.name.startswith(f"{number:07d}.") and entry.name != name:  # what it replaces
                with suppress(NoSuchPath):
                    files.remove(f"{folder}/{entry.name}")
        return Part(number, etag)

    def list_parts(self, key: str, upload_id: str) -> Sequence[ListedPart]:
        folder = self._upload(key, upload_id)
        with self._files() as files:
            try:
                entries = files.entries(folder)
            except NoSuchPath as error:
                self._require_base(files)
                raise _no_upload() from error
        return [
            ListedPart(int(number), etag, entry.size)
            for entry in sorted(entries, key=lambda entry: entry.name)
            for number, _, etag in (entry.name.partition("."),)
            if number.isdigit()
        ]

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        folder = self._upload(key, upload_id)
        names = [f"{part.number:07d}.{part.etag}" for part in sorted(parts, key=lambda part: part.number)]
        with self._files() as files:
            try:
                self._publish(files, self._joined(files, folder, names), key)
            except NoSuchPath:  # completed by an earlier call whose answer was lost, by another at this moment, or aborted
                self._require_finished(files, key, folder)
            self._forget(files, folder)

    def _require_finished(self, files: Files, key: str, folder: str) -> None:
        """Raise why an upload whose parts are not all there has become no object, unless it has."""
        if self._object(files, key) is not None:
            return
        try:
            is_joined = any(entry.name.startswith("join") for entry in files.entries(folder))
        except NoSuchPath:
            if self._object(files, key) is None:  # it may have been finished between the two looks
                raise _no_upload() from None
            return
        raise failure(Failure.ASSEMBLING if is_joined else Failure.FAILED)

    def _joined(self, files: Files, folder: str, names: Sequence[str]) -> str:
        """The path of a file with all parts; raises StorageUnavailable when there is not the time, NoSuchPath when parts are gone."""
        present = {entry.name: entry.size for entry in files.entries(folder)}
        before = f"joined.{hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:16]}"
        if any(name not in present for name in names):
            raise NoSuchPath(folder)
        if len(names) == 1:
            return f"{folder}/{names[0]}"  # it is renamed, and stays where it is if that goes wrong
        mine = f"{folder}/joining.{secrets.token_hex(8)}"
        done = 0
        if before in present:
            files.rename(f"{folder}/{before}", mine)
            taken = files.attributes(mine)  # only now: another may have taken it and given it back since it was listed
            done = taken.size if taken else 0
        else:
            files.write(mine, b"")
            self._leave_it_to_another(files, folder, mine, present)
        if not self._append_all(files, mine, [(f"{folder}/{name}", present[name]) for name in names], done):
            self._give_back(files, mine, f"{folder}/{before}")
            raise failure(Failure.ASSEMBLING)
        found = files.attributes(mine)
        if found is None or found.size != sum(present[name] for name in names):
            raise failure(Failure.FAILED)
        return mine

    def _give_back(self, files: Files, mine: str, joined: str) -> None:
        """Leave what was joined to the next, unless another has left more meanwhile."""
        there, own = files.attributes(joined), files.attributes(mine)
        if there is not None and own is not None and there.size >= own.size:
            files.remove(mine)
        else:
            files.rename(mine, joined)

    def _append_all(self, files: Files, path: str, parts: Sequence[tuple[str, int]], done: int) -> bool:
        """Append parts, each of a path and a size, from byte `done` of all on; gives whether there was the time for it.

        A piece that is begun must end in time, or all that this call has joined is lost: at least one is moved, and then another
        only while it would end if it took half as long again as the longest so far.
        """
        left = outbound.left()
        ends = seam.timestamp() + (JOINS_FOR if left is None else min(JOINS_FOR, left - GIVES_BACK_IN))
        longest, start = 0.0, 0
        for part, size in parts:
            for offset in range(max(0, done - start), size, PIECE):
                began = seam.timestamp()
                if longest and began + 1.5 * longest > ends:
                    return False
                files.append(path, files.read(part, offset, min(PIECE, size - offset)))
                longest = max(longest, seam.timestamp() - began)
            start += size
        return True

    def _leave_it_to_another(self, files: Files, folder: str, mine: str, present: Mapping[str, int]) -> None:
        """Raise StorageUnavailable if another has begun to join not long ago, by the server's own clock."""
        others = [files.attributes(f"{folder}/{name}") for name in present if name.startswith("joining.")]
        newest, now = max((found.modified for found in others if found), default=0.0), files.attributes(mine)
        if now is not None and newest + 3 * JOINS_FOR > now.modified:
            files.remove(mine)
            raise failure(Failure.ASSEMBLING)

    def abort_multipart(self, key: str, upload_id: str) -> None:
        with suppress(BytesMissing), self._files() as files:
            self._forget(files, self._upload(key, upload_id))

    def abort_all(self, key: str) -> int:
        with self._files() as files:
            try:
                entries = files.entries(self._parts)
            except NoSuchPath:
                self._require_base(files)
                return 0
            unfinished = [entry.name for entry in entries if entry.name.startswith(_mark(key))]
            return sum(self._forget(files, f"{self._parts}/{upload_id}") for upload_id in unfinished)

    def _upload(self, key: str, upload_id: str) -> str:
        """The folder of a multipart upload to `key`; raises BytesMissing for what cannot be one."""
        if len(upload_id) != UPLOAD_ID_DIGITS or not upload_id.isalnum() or not upload_id.startswith(_mark(key)):
            raise _no_upload()
        return f"{self._parts}/{upload_id}"

    def _forget(self, files: Files, folder: str) -> bool:
        """Remove an upload: in one step it is none any more, then its files go; gives whether it was one."""
        removed = f"{self._staging}/{secrets.token_hex(16)}"
        try:
            try:
                files.rename(folder, removed)
            except NoSuchPath:
                if files.attributes(folder) is None:
                    return False
                self._make_folders(files, self._staging)
                files.rename(folder, removed)
            self._clear(files, removed)
        except NoSuchPath:  # another is removing it
            return False
        return True

    def _clear(self, files: Files, folder: str) -> None:
        for entry in files.entries(folder):
            files.remove(f"{folder}/{entry.name}")
        files.remove_folder(folder)

    # ---- paths ---------------------------------------------------------------------------------------
    def _path(self, key: str) -> str:
        if "\0" in key or "\n" in key or "\r" in key:
            raise BytesMissing("there is no such object in the storage")
        segments = [file_segment(segment) for segment in key.split("/")]
        if segments[0] == OWN:
            segments[0] = ESCAPE + OWN
        return f"{self._base}/{'/'.join(segments)}"

    def _stage(self, files: Files, body: bytes) -> str:
        staged = f"{self._staging}/{secrets.token_hex(16)}"
        try:
            files.write(staged, body)
        except NoSuchPath:
            self._make_folders(files, self._staging)
            files.write(staged, body)
        return staged

    def _publish(self, files: Files, staged: str, key: str) -> None:
        path = self._path(key)
        for _ in range(3):  # a delete may prune a folder that was made just now
            try:
                files.rename(staged, path)
                return
            except NoSuchPath:
                self._make_folders(files, path.rpartition("/")[0])
        files.rename(staged, path)

    def _make_folders(self, files: Files, folder: str) -> None:
        """Make `folder` and what is missing above it, down from the bucket, which has to be there."""
        self._require_base(files)
        path = self._bucket
        for segment in folder[len(self._bucket) + 1 :].split("/"):
            path = f"{path}/{segment}"
            files.make_folder(path)


def _key(found: Listed | str) -> bytes:
    return (found.key if isinstance(found, Listed) else found).encode()


def _is_folder(files: Files, path: str) -> bool:
    found = files.attributes(path)
    return found is not None and found.is_folder


def put_in_place(rename: Callable[[str, str], None], remove: Callable[[str], None], source: str, target: str, is_taken: bool) -> None:
    """Rename on a server that does not replace a file: what is there steps aside, and comes back if the other cannot take its place."""
    if not is_taken:
        rename(source, target)
        return
    aside = f"{source}.old"
    rename(target, aside)
    try:
        rename(source, target)
    except Exception:
        rename(aside, target)
        raise
    remove(aside)


def _mark(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[: UPLOAD_ID_DIGITS // 2]


def _no_upload() -> BytesMissing:
    return BytesMissing("there is no such multipart upload in the storage")
