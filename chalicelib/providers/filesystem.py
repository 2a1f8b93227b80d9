"""Objects as files under one root, for a machine without S3.

    {root}/objects/{key}                    an object; a key's segments are folders
    {root}/staging/{random}                 a write under way, on the same file system so that the rename is atomic
    {root}/parts/{upload}/key               the key that a multipart upload is for
    {root}/parts/{upload}/{number}.{etag}   one of its parts, by number and the SHA-256 of its bytes

A write is a file that is synced, renamed into place and its folder synced: after a power cut the object is
whole or absent. A multipart upload ends the same way, its parts joined in staging. A segment that a file system would
take for something else (empty, `.`, `..`) or that starts with the escape itself is stored with a leading `%`, so that
different keys never share a file and none leaves the root. Needs: read, write and search permission on the root.
"""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Capabilities, Inspected, Listed, ListedPart, Part, Stat

ESCAPE = "%"
_PIECE = 1 << 20
_KEY_FILE = "key"
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


def file_segment(segment: str) -> str:
    return ESCAPE + segment if segment in ("", ".", "..") or segment.startswith(ESCAPE) else segment


def key_segment(name: str) -> str:
    return name[1:] if name.startswith(ESCAPE) else name


class Filesystem:
    """One folder as a storage. Made if it is not there; raises StorageUnavailable where it cannot be."""

    # PATH_MAX is 4096 on Linux, 1024 on macOS; S3's limit keeps keys portable between providers.
    max_key_bytes = 1024
    # A folder takes parts of any size and number; below this, files would cost more than joining chunks does.
    min_part_bytes = 64 << 10
    max_part_bytes = 5 << 30
    max_parts = 1_000_000

    def __init__(self, root: str) -> None:
        base = Path(root).resolve()
        self._objects, self._staging, self._parts = base / "objects", base / "staging", base / "parts"
        with _answering():
            self._objects.mkdir(parents=True, exist_ok=True)
            self._staging.mkdir(exist_ok=True)
            self._parts.mkdir(exist_ok=True)

    def put(self, key: str, body: bytes, content_type: str) -> None:
        with _answering(), self._staged() as staged:
            _write(staged, [body])
            self._publish(staged, key)

    def read(self, key: str, offset: int, length: int) -> bytes:
        if length == 0:
            return b""
        with self._looking(), open(self._path(key), "rb") as file:
            file.seek(offset)
            body = file.read(length)
        if len(body) != length:
            raise BytesMissing("the stored object is shorter than its record says")
        return body

    def stat(self, key: str) -> Stat | None:
        try:
            with self._looking():
                found = os.stat(self._path(key))
        except BytesMissing:
            return None
        if not S_ISREG(found.st_mode):
            return None
        return Stat(found.st_size)

    def inspect(self, key: str, length: int) -> Inspected | None:
        try:
            with self._looking(), open(self._path(key), "rb") as file:
                found = os.fstat(file.fileno())
                return Inspected(found.st_size, file.read(length), None, found.st_mtime)
        except BytesMissing:
            return None

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        left: dict[str, str] = {}
        for key in keys:
            try:
                with self._looking():
                    path = self._path(key)
                    path.unlink()
                self._prune(path.parent)
            except BytesMissing:
                continue
            except StorageUnavailable as error:
                left[key] = str(error.__cause__ or error)
        return left

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        with self._looking():
            keys = [listed for listed in self._walk(self._objects, "") if listed.key.startswith(prefix) and listed.key > after]
        # Folder order is not key order ("a/b" sorts after "a.b", but folder "a" before file "a.b").
        yield from sorted(keys, key=lambda listed: listed.key)

    def reach(self) -> None:
        with _answering():
            next(self._objects.iterdir(), None)

    def examine(self, key: str, body: bytes) -> Capabilities:
        return Capabilities(range_read=self.read(key, 1, 3) == body[1:4], multipart=True)

    def expire(self, prefix: str, before: float) -> int:
        old = [listed.key for listed in self.list(prefix) if (found := self.inspect(listed.key, 0)) and found.stored < before]
        return len(old) - len(self.delete(old))

    def copy(self, source: str, target: str) -> None:
        with self._looking(), self._staged() as staged:
            _write(staged, _pieces(self._path(source)))
            self._publish(staged, target)

    # ---- Multipart -----------------------------------------------------------------------------------
    def create_multipart(self, key: str, content_type: str) -> str:
        upload_id = secrets.token_hex(16)
        with _answering():
            folder = self._parts / upload_id
            folder.mkdir()
            _write(folder / _KEY_FILE, [key.encode()])
            _sync_folder(folder)
            _sync_folder(self._parts)
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        return self._store_part(self._upload(key, upload_id), number, [body])

    def copy_part(self, key: str, upload_id: str, number: int, source: str, offset: int, length: int) -> Part:
        starts = range(offset, offset + length, _PIECE)
        pieces = (self.read(source, start, min(_PIECE, offset + length - start)) for start in starts)
        return self._store_part(self._upload(key, upload_id), number, pieces)

    def _store_part(self, folder: Path, number: int, pieces: Iterable[bytes]) -> Part:
        digest = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for piece in pieces:
                digest.update(piece)
                yield piece

        with self._looking(), self._staged() as staged:
            _write(staged, hashed())
            stored = folder / f"{number:07d}.{digest.hexdigest()}"
            os.replace(staged, stored)
            for earlier in folder.glob(f"{number:07d}.*"):
                if earlier != stored:
                    earlier.unlink(missing_ok=True)
            _sync_folder(folder)
        return Part(number, digest.hexdigest())

    def list_parts(self, key: str, upload_id: str) -> Sequence[ListedPart]:
        with self._looking():
            files = [file for file in self._upload(key, upload_id).iterdir() if file.name != _KEY_FILE]
            # Of two with one number, whose writer was killed before it removed the earlier, the later counts.
            latest = {int(file.stem): file for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)}
            return [ListedPart(number, file.suffix[1:], file.stat().st_size) for number, file in sorted(latest.items())]

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        try:
            folder = self._upload(key, upload_id)
        except BytesMissing:  # completed by an earlier call whose answer was lost, or aborted
            if self.stat(key) is None:
                raise
            return
        files = [folder / f"{part.number:07d}.{part.etag}" for part in sorted(parts, key=lambda part: part.number)]
        with _answering(), self._staged() as staged:
            _write(staged, (piece for file in files for piece in _pieces(file)))
            self._publish(staged, key)
        self._forget(folder)

    def abort_multipart(self, key: str, upload_id: str) -> None:
        with suppress(BytesMissing):
            self._forget(self._upload(key, upload_id))

    def abort_all(self, key: str) -> int:
        with _answering():
            unfinished = [folder for folder in self._parts.iterdir() if _text(folder / _KEY_FILE) == key]
        for folder in unfinished:
            self._forget(folder)
        return len(unfinished)

    def _upload(self, key: str, upload_id: str) -> Path:
        """The folder of a multipart upload to `key`; raises BytesMissing."""
        folder = self._parts / upload_id
        with _answering():
            if _UPLOAD_ID.fullmatch(upload_id) and _text(folder / _KEY_FILE) == key:
                return folder
            self._parts.stat()  # or is it the storage that is not there?
        raise BytesMissing("there is no such multipart upload in the storage")

    def _forget(self, folder: Path) -> None:
        """Remove an upload: in one step it is none any more, and what is left of it then lies in staging."""
        removed = self._staging / secrets.token_hex(16)
        with _answering(), suppress(FileNotFoundError):  # removed by another
            os.replace(folder, removed)
            shutil.rmtree(removed, ignore_errors=True)

    # ---- paths ---------------------------------------------------------------------------------------
    def _path(self, key: str) -> Path:
        if "\0" in key:
            raise BytesMissing("there is no such object in the storage")
        path = self._objects.joinpath(*(file_segment(segment) for segment in key.split("/")))
        if os.path.realpath(path) != str(path):  # a link: not made here, and it may lead anywhere
            raise StorageUnavailable("the storage folder holds a link in place of an object; remove it")
        return path

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Tell an object that is not there from a storage that is not there."""
        try:
            with _answering():
                yield
        except StorageUnavailable as error:
            gone = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError | IsADirectoryError)
            if gone and self._objects.is_dir():
                raise BytesMissing("the stored object is missing") from error.__cause__
            raise

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        staged = self._staging / secrets.token_hex(16)
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    def _publish(self, staged: Path, key: str) -> None:
        path = self._path(key)
        while True:
            try:
                made = _make_folders(path.parent)
                os.replace(staged, path)
                break
            except (FileNotFoundError, FileExistsError):  # a delete pruned a folder in between
                if not staged.exists() or not self._objects.is_dir() or any(folder.is_file() for folder in path.parents):
                    raise
        for folder in (path.parent, *made):
            _sync_folder(folder)

    def _prune(self, folder: Path) -> None:
        while folder != self._objects:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone
                return
            folder = folder.parent

    def _walk(self, folder: Path, key: str) -> Iterator[Listed]:
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return
        for entry in entries:
            below = key + key_segment(entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), below + "/")
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    yield Listed(below, entry.stat().st_size)


@contextmanager
def _answering() -> Iterator[None]:
    """Whatever the file system reports is the storage's failure; its cause tells which."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable("the storage folder cannot be used; check STOWAGE_STORAGE_ROOT, its rights and its room") from error


def _make_folders(folder: Path) -> list[Path]:
    """Make `folder`; gives the folders that got a new entry by it, innermost first."""
    made = []
    missing = folder
    while not missing.exists():
        missing = missing.parent
        made.append(missing)
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """Make a new file of `pieces` that outlasts a power cut."""
    with open(path, "xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _sync_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):  # pruned meanwhile: then nothing in it needs to last
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
