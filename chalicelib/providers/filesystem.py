"""Objects as files under one root, for a machine without S3.

    {root}/objects/{key}     an object; a key's segments are folders
    {root}/staging/{random}  a write under way, on the same file system so that the rename is atomic

A write is a file that is synced, renamed into place and its folder synced: after a power cut the object is
whole or absent. A segment that a file system would take for something else (empty, `.`, `..`) or that starts
with the escape itself is stored with a leading `%`, so that different keys never share a file and none
leaves the root. Needs: read, write and search permission on the root.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Listed, Stat

ESCAPE = "%"
_PIECE = 1 << 20


def _file_segment(segment: str) -> str:
    return ESCAPE + segment if segment in ("", ".", "..") or segment.startswith(ESCAPE) else segment


def _key_segment(name: str) -> str:
    return name[1:] if name.startswith(ESCAPE) else name


class Filesystem:
    """One folder as a storage. `root` is made when it is first written to."""

    # PATH_MAX is 4096 on Linux, 1024 on macOS; S3's limit keeps keys portable between providers.
    max_key_bytes = 1024
    max_copy_bytes = 1 << 62

    def __init__(self, root: str) -> None:
        self._objects = Path(root).absolute() / "objects"
        self._staging = Path(root).absolute() / "staging"

    def put(self, key: str, body: bytes, content_type: str) -> None:
        with _answering(), self._staged() as staged:
            with open(staged, "xb") as file:
                file.write(body)
                _sync(file)
            self._publish(staged, key)

    def read(self, key: str, offset: int, length: int) -> bytes:
        with _answering(key), open(self._path(key), "rb") as file:
            file.seek(offset)
            body = file.read(length)
        if len(body) != length:
            raise BytesMissing("the stored object is shorter than its record says")
        return body

    def stat(self, key: str) -> Stat | None:
        try:
            found = os.stat(self._path(key))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise StorageUnavailable("the storage cannot be read; try again shortly") from error
        identity = f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"
        return Stat(found.st_size, hashlib.sha256(identity.encode()).hexdigest()[:32])

    def delete(self, keys: Sequence[str]) -> Mapping[str, str]:
        left: dict[str, str] = {}
        for key in keys:
            path = self._path(key)
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                continue
            except OSError as error:
                left[key] = error.strerror or type(error).__name__
                continue
            self._prune(path.parent)
        return left

    def list(self, prefix: str, after: str = "") -> Iterator[Listed]:
        keys = (listed for listed in self._walk(self._objects, "") if listed.key.startswith(prefix))
        # Folder order is not key order ("a/b" sorts after "a.b", but folder "a" before file "a.b").
        yield from sorted((listed for listed in keys if listed.key > after), key=lambda listed: listed.key)

    def copy(self, source: str, target: str) -> None:
        with _answering(source), self._staged() as staged:
            with open(self._path(source), "rb") as original, open(staged, "xb") as file:
                while piece := original.read(_PIECE):
                    file.write(piece)
                _sync(file)
            self._publish(staged, target)

    # ---- paths ---------------------------------------------------------------------------------------
    def _path(self, key: str) -> Path:
        if "\0" in key:
            raise BytesMissing("there is no such object in the storage")
        return self._objects.joinpath(*(_file_segment(segment) for segment in key.split("/")))

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        self._staging.mkdir(parents=True, exist_ok=True)
        staged = self._staging / secrets.token_hex(16)
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    def _publish(self, staged: Path, key: str) -> None:
        path = self._path(key)
        while True:
            made = _make_folders(path.parent)
            try:
                os.replace(staged, path)
                break
            except FileNotFoundError:  # a delete pruned the folder between the two calls
                continue
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
            below = key + _key_segment(entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), below + "/")
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    yield Listed(below, entry.stat().st_size)


@contextmanager
def _answering(key: str = "") -> Iterator[None]:
    """Tell a missing object from a storage that does not work."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if not key:
            raise StorageUnavailable("the storage folder is not there; check STOWAGE_STORAGE_ROOT") from error
        raise BytesMissing("the stored object is missing") from error
    except OSError as error:
        raise StorageUnavailable("the storage cannot be used; try again shortly") from error


def _make_folders(folder: Path) -> list[Path]:
    """Make `folder`; gives the folders that got a new entry by it, innermost first."""
    made = []
    missing = folder
    while not missing.exists():
        missing = missing.parent
        made.append(missing)
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):  # pruned meanwhile: then nothing in it needs to last
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
