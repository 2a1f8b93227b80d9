"""What only a folder can get wrong: paths, durability, crashes, and folders that come and go."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers.filesystem import Filesystem

TEXT = "text/plain"
REPOSITORY = Path(__file__).resolve().parents[2]
SEGMENTS = st.sampled_from(
    [
        "",
        ".",
        "..",
        "...",
        "%",
        "%%",
        "%.",
        "%..",
        "%2e%2e",
        "a",
        "b",
        "~",
        "-",
        " ",
        "a.",
        "CON",
        "objects",
        "staging",
        "\\",
        "..\\..",
        "\n",
        "é",
    ]
) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), max_size=12)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join).filter(bool)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def files(root: Path) -> Filesystem:
    return Filesystem(str(root))


def listed(files: Filesystem) -> list[str]:
    return [entry.key for entry in files.list("")]


def below(folder: Path) -> set[Path]:
    return {Path(parent, name) for parent, _, names in os.walk(folder) for name in names}


# ---- paths ---------------------------------------------------------------------------------------------------------
@settings(max_examples=150, deadline=None)
@given(KEYS)
@example("../../escaped")
@example("/etc/passwd")
@example("a/../../../escaped")
@example("..")
@example("/")
def test_no_key_leaves_the_root(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    around = tmp_path_factory.mktemp("around")
    files = Filesystem(str(around / "in" / "root"))
    files.put(key, b"x", TEXT)
    found = below(around)
    assert len(found) == 1
    assert all(path.is_relative_to(around / "in" / "root" / "objects") for path in found)
    assert not any(path.is_symlink() for path in found)
    assert files.read(key, 0, 1) == b"x"
    assert listed(files) == [key]
    assert files.delete([key]) == {}
    assert below(around) == set()


@settings(max_examples=200, deadline=None)
@given(KEYS, KEYS)
@example("%%", "%")
@example("%..", "..")
@example("a/%/b", "a//b")
@example("%/a", "/a")
def test_different_keys_never_share_a_file(tmp_path_factory: pytest.TempPathFactory, first: str, second: str) -> None:
    assume(first != second and not first.startswith(second + "/") and not second.startswith(first + "/"))
    files = Filesystem(str(tmp_path_factory.mktemp("root")))
    files.put(first, b"first", TEXT)
    files.put(second, b"second", TEXT)
    assert files.read(first, 0, 5) == b"first"
    assert files.read(second, 0, 6) == b"second"
    assert listed(files) == sorted([first, second], key=str.encode)


@pytest.mark.parametrize("key", ["a\0b", "\0", "a/\0/b"])
def test_a_nul_byte_names_nothing(files: Filesystem, root: Path, key: str) -> None:
    files.put("a", b"x", TEXT)
    with pytest.raises((BytesMissing, StorageUnavailable)):
        files.put(key, b"y", TEXT)
    with pytest.raises(BytesMissing):
        files.read(key, 0, 1)
    assert files.stat(key) is None
    assert files.delete([key]) == {}
    assert listed(files) == ["a"]


@pytest.fixture
def outside(tmp_path: Path, root: Path) -> Path:
    """A folder beside the root, with a secret, to which symbolic links inside the root lead."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    objects = root / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    (objects / "folder").symlink_to(folder)
    (objects / "file").symlink_to(folder / "secret")
    return folder


@pytest.mark.parametrize("key", ["folder/secret", "file"])
def test_a_planted_link_is_not_read_through(files: Filesystem, outside: Path, key: str) -> None:
    with pytest.raises((BytesMissing, StorageUnavailable)):
        files.read(key, 0, 6)
    with pytest.raises(StorageUnavailable):
        files.stat(key)


@pytest.mark.parametrize("key", ["folder/secret", "folder/new", "folder/deep/new", "file"])
def test_a_planted_link_is_not_written_through(files: Filesystem, outside: Path, key: str) -> None:
    with suppress(StorageUnavailable):
        files.put(key, b"written", TEXT)
    assert below(outside) == {outside / "secret"}
    assert (outside / "secret").read_bytes() == b"secret"


def test_a_planted_link_is_not_deleted_through(files: Filesystem, outside: Path) -> None:
    files.delete(["folder/secret", "file"])
    assert below(outside) == {outside / "secret"}


def test_a_planted_link_is_not_listed_through(files: Filesystem, outside: Path) -> None:
    assert listed(files) == []


def test_an_object_is_no_folder_for_another(files: Filesystem) -> None:
    """File systems cannot do it; versions at the end of names keep it from happening. It must still be told."""
    files.put("a", b"one", TEXT)
    with pytest.raises(StorageUnavailable):
        files.put("a/b", b"two", TEXT)
    files.put("c/d", b"three", TEXT)
    with pytest.raises(StorageUnavailable):
        files.put("c", b"four", TEXT)
    assert listed(files) == ["a", "c/d"]
    assert files.read("a", 0, 3) == b"one"


# ---- a root that does not work -------------------------------------------------------------------------------------
@pytest.fixture
def broken(tmp_path: Path) -> Filesystem:
    """A root that was replaced by a file, as where a mount is lost."""
    root = tmp_path / "lost"
    made = Filesystem(str(root))
    shutil.rmtree(root)
    root.write_text("not a folder")
    return made


def test_a_root_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageUnavailable):
        Filesystem(str(tmp_path / "file"))


@pytest.mark.parametrize("name", ["put", "read", "stat", "list", "copy"])
def test_a_root_that_is_no_folder_is_unavailable(broken: Filesystem, name: str) -> None:
    """And not "missing": rows must not look as if they had lost their bytes (invariant 4)."""
    calls: dict[str, Any] = {
        "put": lambda: broken.put("a", b"", TEXT),
        "read": lambda: broken.read("a", 0, 1),
        "stat": lambda: broken.stat("a"),
        "list": lambda: list(broken.list("")),
        "copy": lambda: broken.copy("a", "b"),
    }
    with pytest.raises(StorageUnavailable):
        calls[name]()


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_full_or_failing_disk_is_unavailable_and_changes_nothing(
    files: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    files.put("a", b"old", TEXT)

    def fail(descriptor: int) -> None:
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageUnavailable) as refused:
        files.put("a", b"new", TEXT)
    assert str(root) not in refused.value.message
    assert files.read("a", 0, 3) == b"old"
    assert list((root / "staging").iterdir()) == []


def test_a_staged_file_that_vanishes_ends_the_write(files: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace
    tried = []

    def vanish(source: Any, target: Any) -> None:
        tried.append(source)
        assert len(tried) < 100, "it tries for ever"
        Path(source).unlink(missing_ok=True)
        replace(source, target)

    monkeypatch.setattr(os, "replace", vanish)
    with pytest.raises(StorageUnavailable):
        files.put("a", b"new", TEXT)


# ---- durability ----------------------------------------------------------------------------------------------------
@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """Each sync and each rename, with its path, in order."""
    seen: list[tuple[str, Path]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        seen.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def renamed(source: Any, target: Any) -> None:
        seen.append(("rename", Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return seen


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="tells paths of descriptors by Linux's /proc")


@needs_proc
def test_bytes_are_synced_before_the_rename_and_folders_after_it(files: Filesystem, root: Path, steps: list[tuple[str, Path]]) -> None:
    files.put("a/b/c", b"body", TEXT)
    objects = root / "objects"
    kinds = [kind for kind, _ in steps]
    assert kinds[:2] == ["sync", "rename"]
    assert steps[0][1].parent == root / "staging"
    after = [path for _, path in steps[2:]]
    assert after[0] == objects / "a" / "b"
    assert {objects / "a" / "b", objects / "a", objects} <= set(after), "each folder that got a new entry"


@needs_proc
def test_an_overwrite_syncs_file_and_folder(files: Filesystem, root: Path, steps: list[tuple[str, Path]]) -> None:
    files.put("a/b", b"body", TEXT)
    steps.clear()
    files.put("a/b", b"other", TEXT)
    assert [kind for kind, _ in steps] == ["sync", "rename", "sync"]
    assert steps[2][1] == root / "objects" / "a"


@needs_proc
def test_a_copy_is_synced_like_a_write(files: Filesystem, root: Path, steps: list[tuple[str, Path]]) -> None:
    files.put("a", b"body", TEXT)
    steps.clear()
    files.copy("a", "b/c")
    assert [kind for kind, _ in steps][:2] == ["sync", "rename"]
    assert {root / "objects" / "b", root / "objects"} <= {path for _, path in steps[2:]}


KILLED = """
import os, signal, sys
from chalicelib.providers.filesystem import Filesystem

left = int(sys.argv[2])

def killing(function):
    def step(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*arguments, **options)
    return step

for name in ("mkdir", "fsync", "replace", "open", "unlink"):
    setattr(os, name, killing(getattr(os, name)))
files = Filesystem(sys.argv[1])
getattr(files, sys.argv[3])(*((sys.argv[4], b"new" * 1000, "text/plain") if sys.argv[3] == "put" else (["a/b", "a/c/d"],)))
print("done")
"""


def run_killed(root: Path, step: int, method: str, key: str = "") -> bool:
    """Call `method` in a process that is killed before its `step`-th system call; whether it came to its end."""
    command = [sys.executable, "-c", KILLED, str(root), str(step), method, key]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode == 0


@pytest.mark.parametrize(("key", "old"), [("a/b", b"old"), ("x/y/z", None)], ids=["overwrite", "new"])
def test_a_killed_write_leaves_the_old_object_or_the_new_one(files: Filesystem, root: Path, key: str, old: bytes | None) -> None:
    seen = []
    for step in range(40):
        files.delete(["x/y/z"])
        files.put("a/b", b"old", TEXT)
        ended = run_killed(root, step, "put", key)
        stat = files.stat(key)
        found = None if stat is None else files.read(key, 0, stat.size)
        seen.append(found)
        assert found in (old, b"new" * 1000)
        assert set(listed(files)) <= {"a/b", key}, "what is staged is not listed"
        if ended:
            break
    assert seen[0] == old
    assert seen[-1] == b"new" * 1000
    assert len(seen) >= 5, "killed at every step"


def test_a_killed_delete_leaves_whole_objects_and_can_be_repeated(files: Filesystem, root: Path) -> None:
    for step in range(10):
        files.put("a/b", b"old", TEXT)
        files.put("a/c/d", b"old", TEXT)
        ended = run_killed(root, step, "delete")
        assert all(files.read(key, 0, 3) == b"old" for key in listed(files))
        assert files.delete(["a/b", "a/c/d"]) == {}
        assert listed(files) == []
        if ended:
            assert step >= 2
            return
    pytest.fail("it never came to its end")


def test_what_is_staged_is_no_object(files: Filesystem, root: Path) -> None:
    files.put("a", b"body", TEXT)
    (root / "staging" / "left-over").write_bytes(b"half")
    assert listed(files) == ["a"]
    assert files.stat("../staging/left-over") is None
    with pytest.raises(BytesMissing):
        files.read("../staging/left-over", 0, 4)


def test_a_write_leaves_nothing_staged(files: Filesystem, root: Path) -> None:
    files.put("a", b"body", TEXT)
    files.copy("a", "b")
    assert list((root / "staging").iterdir()) == []


# ---- folders that come and go --------------------------------------------------------------------------------------
def test_empty_folders_go_with_their_last_object(files: Filesystem, root: Path) -> None:
    files.put("a/b/c/d", b"", TEXT)
    files.put("a/e", b"", TEXT)
    files.delete(["a/b/c/d"])
    assert [path.name for path in (root / "objects" / "a").iterdir()] == ["e"]
    files.delete(["a/e"])
    assert list((root / "objects").iterdir()) == []


def test_a_write_survives_that_its_folder_is_pruned_before_the_rename(
    files: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace
    pruned = []

    def prune_first(source: Any, target: Any) -> None:
        if not pruned:
            pruned.append(target)
            files._prune(Path(target).parent)
        replace(source, target)

    monkeypatch.setattr(os, "replace", prune_first)
    files.put("a/b/c", b"body", TEXT)
    assert pruned
    assert files.read("a/b/c", 0, 4) == b"body"


def test_a_write_survives_that_a_folder_is_pruned_while_it_makes_the_next(
    files: Filesystem, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put("z", b"", TEXT)
    mkdir = os.mkdir
    pruned = []

    def pruned_at_once(path: Any, *arguments: Any, **options: Any) -> None:
        mkdir(path, *arguments, **options)
        if not pruned and Path(path).name == "a":
            pruned.append(path)
            os.rmdir(path)  # what a delete of the last object in it does

    monkeypatch.setattr(os, "mkdir", pruned_at_once)
    files.put("a/b/c", b"body", TEXT)
    assert pruned
    assert files.read("a/b/c", 0, 4) == b"body"


def test_writes_and_deletes_race_without_errors(files: Filesystem) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(60):
                key = f"a/b/c/{name}"
                files.put(key, str(number).encode(), TEXT)
                assert files.read(key, 0, len(str(number))) == str(number).encode()
                list(files.list("a/"))
                assert files.delete([key]) == {}
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "wxyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert listed(files) == []
