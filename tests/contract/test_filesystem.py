"""What only a folder can get wrong: paths, durability, crashes, and folders that come and go."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import ListedPart, Part
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


CALLS: dict[str, Callable[[Filesystem], object]] = {
    "put": lambda files: files.put("a", b"", TEXT),
    "read": lambda files: files.read("a", 0, 1),
    "stat": lambda files: files.stat("a"),
    "list": lambda files: list(files.list("")),
    "copy": lambda files: files.copy("a", "b"),
    "create_multipart": lambda files: files.create_multipart("a", TEXT),
    "upload_part": lambda files: files.upload_part("a", "0" * 32, 1, b""),
    "copy_part": lambda files: files.copy_part("a", "0" * 32, 1, "b", 0, 1),
    "list_parts": lambda files: files.list_parts("a", "0" * 32),
    "complete_multipart": lambda files: files.complete_multipart("a", "0" * 32, [Part(1, "etag")]),
    "abort_multipart": lambda files: files.abort_multipart("a", "0" * 32),
    "abort_all": lambda files: files.abort_all("a"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_root_that_is_no_folder_is_unavailable(broken: Filesystem, name: str) -> None:
    """And not "missing": rows must not look as if they had lost their bytes (invariant 4)."""
    with pytest.raises(StorageUnavailable):
        CALLS[name](broken)


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
import builtins, os, signal, sys
from chalicelib.providers import Part
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

for name in ("mkdir", "fsync", "replace", "open", "unlink", "rmdir"):
    setattr(os, name, killing(getattr(os, name)))
builtins.open = killing(open)
files = Filesystem(sys.argv[1])
method, arguments = eval(sys.argv[3])
getattr(files, method)(*arguments)
"""


def run_killed(root: Path, step: int, method: str, *arguments: Any) -> bool:
    """Call `method` in a process that is killed before its `step`-th system call; whether it came to its end."""
    command = [sys.executable, "-c", KILLED, str(root), str(step), repr((method, arguments))]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode == 0


@pytest.mark.parametrize(("key", "old"), [("a/b", b"old"), ("x/y/z", None)], ids=["overwrite", "new"])
def test_a_killed_write_leaves_the_old_object_or_the_new_one(files: Filesystem, root: Path, key: str, old: bytes | None) -> None:
    seen = []
    for step in range(40):
        files.delete(["x/y/z"])
        files.put("a/b", b"old", TEXT)
        ended = run_killed(root, step, "put", key, b"new" * 1000, TEXT)
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
        ended = run_killed(root, step, "delete", ["a/b", "a/c/d"])
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


# ---- parts ---------------------------------------------------------------------------------------------------------
FIRST, LAST = b"a" * 100, b"end"


@pytest.fixture
def upload(files: Filesystem) -> str:
    """A multipart upload to `a/b` that has two parts."""
    upload = files.create_multipart("a/b", TEXT)
    files.upload_part("a/b", upload, 1, FIRST)
    files.upload_part("a/b", upload, 2, LAST)
    return upload


def part(number: int, body: bytes) -> ListedPart:
    return ListedPart(number, hashlib.sha256(body).hexdigest(), len(body))


def test_an_upload_is_a_folder_of_its_key_and_its_parts(files: Filesystem, root: Path, upload: str) -> None:
    found = {str(path.relative_to(root)): path.read_bytes() for path in below(root)}
    assert found == {
        f"parts/{upload}/key": b"a/b",
        f"parts/{upload}/0000001.{hashlib.sha256(FIRST).hexdigest()}": FIRST,
        f"parts/{upload}/0000002.{hashlib.sha256(LAST).hexdigest()}": LAST,
    }
    assert listed(files) == []
    assert list(files.list_parts("a/b", upload)) == [part(1, FIRST), part(2, LAST)]


def test_a_part_that_is_replaced_leaves_one_file(files: Filesystem, root: Path, upload: str) -> None:
    files.upload_part("a/b", upload, 1, b"other")
    files.upload_part("a/b", upload, 1, b"other")
    assert list(files.list_parts("a/b", upload)) == [part(1, b"other"), part(2, LAST)]
    assert len(below(root)) == 3


def test_a_folder_takes_the_highest_number_that_it_promises(files: Filesystem, upload: str) -> None:
    for number in (files.max_parts, 10_000, 99_999):
        files.upload_part("a/b", upload, number, b"x")
    assert [each.number for each in files.list_parts("a/b", upload)] == [1, 2, 10_000, 99_999, files.max_parts]


def test_nothing_of_an_upload_is_left_when_it_is_complete(files: Filesystem, root: Path, upload: str) -> None:
    files.complete_multipart("a/b", upload, files.list_parts("a/b", upload))
    assert below(root) == {root / "objects" / "a" / "b"}
    assert list((root / "parts").iterdir()) == []
    assert files.read("a/b", 0, 103) == FIRST + LAST


def test_parts_that_are_not_named_go_with_the_rest(files: Filesystem, root: Path, upload: str) -> None:
    files.complete_multipart("a/b", upload, [part(2, LAST)])
    assert below(root) == {root / "objects" / "a" / "b"}
    assert files.read("a/b", 0, 3) == LAST


@pytest.mark.parametrize("is_by_key", [False, True], ids=["by id", "by key"])
def test_nothing_of_an_upload_is_left_when_it_is_aborted(files: Filesystem, root: Path, upload: str, is_by_key: bool) -> None:
    if is_by_key:
        assert files.abort_all("a/b") == 1
    else:
        files.abort_multipart("a/b", upload)
    assert below(root) == set()
    assert list((root / "parts").iterdir()) == []


def test_an_upload_outlives_the_process_that_began_it(root: Path, upload: str) -> None:
    again = Filesystem(str(root))
    assert list(again.list_parts("a/b", upload)) == [part(1, FIRST), part(2, LAST)]
    third = again.upload_part("a/b", upload, 3, b"!")
    Filesystem(str(root)).complete_multipart("a/b", upload, [part(1, FIRST), part(2, LAST), third])
    assert Filesystem(str(root)).read("a/b", 0, 104) == FIRST + LAST + b"!"


def _ids(upload: str) -> list[str]:
    return ["", ".", "..", "/", "../objects", f"../parts/{upload}", f"{upload}/", f"./{upload}", f"{upload}/../{upload}", f"{upload}\n"]


@pytest.mark.parametrize("place", range(10))
def test_an_upload_id_leads_nowhere_but_to_an_upload(files: Filesystem, root: Path, upload: str, place: int) -> None:
    files.put("key", b"a/b", TEXT)  # where an id that climbs would find a key
    (root / "key").write_text("a/b")
    before, upload_id = below(root), _ids(upload)[place]
    calls: list[Callable[[], object]] = [
        lambda: files.upload_part("a/b", upload_id, 1, b"x"),
        lambda: files.copy_part("a/b", upload_id, 1, "key", 0, 1),
        lambda: files.list_parts("a/b", upload_id),
        lambda: files.complete_multipart("a/b", upload_id, [part(1, FIRST)]),
    ]
    for call in calls:
        with pytest.raises(BytesMissing):
            call()
    files.abort_multipart("a/b", upload_id)
    assert below(root) == before


def test_an_upload_belongs_to_its_key_alone(files: Filesystem, root: Path, upload: str) -> None:
    before = below(root)
    for key in ("a", "a/b/", "a//b", "b", ""):
        with pytest.raises(BytesMissing):
            files.upload_part(key, upload, 3, b"x")
        with pytest.raises(BytesMissing):
            files.complete_multipart(key, upload, [part(1, FIRST)])
        files.abort_multipart(key, upload)
        assert files.abort_all(key) == 0
    assert below(root) == before


@pytest.mark.parametrize("climb", ["x/../../../objects/secret", "/../../../objects/secret", "../../objects/secret"])
def test_an_etag_leads_to_no_other_file(files: Filesystem, root: Path, upload: str, climb: str) -> None:
    files.put("secret", b"secret", TEXT)
    with pytest.raises((StorageUnavailable, BytesMissing)):
        files.complete_multipart("a/b", upload, [Part(1, climb)])
    assert listed(files) == ["secret"]
    assert list((root / "staging").iterdir()) == []


@settings(max_examples=100, deadline=None)
@given(KEYS)
@example("../../escaped")
@example("/etc/passwd")
@example("..")
@example("a\r\nb\rc")
@example("a\n")
def test_an_upload_to_any_key_stays_in_the_root_and_comes_to_its_end(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    around = tmp_path_factory.mktemp("around")
    files = Filesystem(str(around / "in" / "root"))
    given_up = files.create_multipart(key, TEXT)
    upload = files.create_multipart(key, TEXT)
    stored = files.upload_part(key, upload, 1, b"x")
    assert all(path.is_relative_to(around / "in" / "root" / "parts") for path in below(around))
    files.complete_multipart(key, upload, [stored])
    assert listed(files) == [key]
    assert files.read(key, 0, 1) == b"x"
    files.abort_multipart(key, given_up)
    files.create_multipart(key, TEXT)
    assert files.abort_all(key) == 1
    assert files.delete([key]) == {}
    assert below(around) == set()


@needs_proc
def test_a_part_is_synced_before_its_name_and_its_folder_after_it(
    files: Filesystem, root: Path, upload: str, steps: list[tuple[str, Path]]
) -> None:
    steps.clear()
    files.upload_part("a/b", upload, 3, b"x")
    folder = root / "parts" / upload
    assert [kind for kind, _ in steps] == ["sync", "rename", "sync"]
    assert steps[0][1].parent == root / "staging"
    assert [path for _, path in steps[1:]] == [folder / f"0000003.{hashlib.sha256(b'x').hexdigest()}", folder]


@needs_proc
def test_an_upload_is_there_when_its_id_is_told(files: Filesystem, root: Path, steps: list[tuple[str, Path]]) -> None:
    upload = files.create_multipart("a/b", TEXT)
    folder = root / "parts" / upload
    assert [path for kind, path in steps if kind == "sync"] == [folder / "key", folder, root / "parts"]


@needs_proc
def test_the_object_is_there_before_its_parts_go(files: Filesystem, root: Path, upload: str, steps: list[tuple[str, Path]]) -> None:
    steps.clear()
    files.complete_multipart("a/b", upload, files.list_parts("a/b", upload))
    kinds = [kind for kind, _ in steps]
    assert kinds[:3] == ["sync", "rename", "sync"]
    assert steps[1][1] == root / "objects" / "a" / "b"
    assert kinds[-1] == "rename", "in one step it is no upload any more"
    assert root / "staging" in steps[-1][1].parents
    assert list((root / "staging").iterdir()) == list((root / "parts").iterdir()) == []


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EIO])
def test_a_full_or_failing_disk_keeps_an_upload_as_it_was(
    files: Filesystem, root: Path, upload: str, monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    before = below(root)

    def fail(descriptor: int) -> None:
        raise OSError(failure, os.strerror(failure))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        for call in (
            lambda: files.upload_part("a/b", upload, 1, b"other"),
            lambda: files.upload_part("a/b", upload, 3, b"more"),
            lambda: files.complete_multipart("a/b", upload, [part(1, FIRST), part(2, LAST)]),
        ):
            with pytest.raises(StorageUnavailable):
                call()
    assert below(root) == before
    files.complete_multipart("a/b", upload, [part(1, FIRST), part(2, LAST)])
    assert files.read("a/b", 0, 103) == FIRST + LAST


def test_a_completion_killed_at_any_step_can_be_repeated(files: Filesystem, root: Path) -> None:
    seen = []
    for step in range(60):
        files.delete(["a/b"])
        assert files.abort_all("a/b") <= 1
        upload = files.create_multipart("a/b", TEXT)
        parts = [files.upload_part("a/b", upload, number, body) for number, body in ((1, FIRST), (2, LAST))]
        ended = run_killed(root, step, "complete_multipart", "a/b", upload, parts)
        is_there = files.stat("a/b") is not None
        seen.append(is_there)
        if not is_there:
            assert list(files.list_parts("a/b", upload)) == [part(1, FIRST), part(2, LAST)], "nothing is lost before the rename"
        else:
            assert files.read("a/b", 0, 103) == FIRST + LAST
        again = Filesystem(str(root))
        again.abort_all("never")
        if is_there:
            again.abort_multipart("a/b", upload)
        again.complete_multipart("a/b", upload, parts)
        assert again.read("a/b", 0, 103) == FIRST + LAST
        assert not [path for path in below(root / "parts") if upload in path.parts]
        if ended:
            break
    assert (seen[0], seen[-1]) == (False, True)
    assert len(seen) >= 8, "killed at every step"


def test_a_part_killed_at_any_step_is_the_earlier_one_or_the_new_one(files: Filesystem, root: Path, upload: str) -> None:
    """The earlier one was acknowledged: it goes only for another."""
    seen = []
    for step in range(40):
        files.upload_part("a/b", upload, 1, FIRST)
        ended = run_killed(root, step, "upload_part", "a/b", upload, 1, b"new" * 1000)
        seen.append(list(files.list_parts("a/b", upload))[:-1])
        if ended:
            break
    assert seen[0] == [part(1, FIRST)]
    assert seen[-1] == [part(1, b"new" * 1000)]
    assert [found for found in seen if found not in ([part(1, FIRST)], [part(1, b"new" * 1000)])] == []


@pytest.mark.parametrize("method", ["create_multipart", "abort_multipart", "abort_all"])
def test_a_beginning_or_an_end_killed_at_any_step_leaves_no_file_for_ever(files: Filesystem, root: Path, method: str) -> None:
    for step in range(40):
        arguments: list[Any] = ["a/b"]
        if method == "create_multipart":
            arguments.append(TEXT)
        else:
            upload = files.create_multipart("a/b", TEXT)
            files.upload_part("a/b", upload, 1, FIRST)
            arguments += [upload] if method == "abort_multipart" else []
        ended = run_killed(root, step, method, *arguments)
        files.abort_all("a/b")
        assert below(root / "parts") == set()
        if ended:
            assert step >= 3
            return
    pytest.fail("it never came to its end")


def test_uploads_of_one_key_race_without_errors(files: Filesystem, root: Path) -> None:
    errors: list[BaseException] = []

    def work(body: bytes) -> None:
        try:
            for _ in range(20):
                upload = files.create_multipart("a/b", TEXT)
                parts = [files.upload_part("a/b", upload, number, body) for number in (2, 1)]
                assert [each.size for each in files.list_parts("a/b", upload)] == [1, 1]
                files.complete_multipart("a/b", upload, parts)
                assert files.read("a/b", 0, 2) in (b"ww", b"xx", b"yy", b"zz")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name.encode(),)) for name in "wxyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert below(root) == {root / "objects" / "a" / "b"}


# ---- expiry ------------------------------------------------------------------------------------------------------
def test_only_what_is_older_and_under_the_prefix_expires(tmp_path: Path) -> None:
    files = Filesystem(str(tmp_path))
    for key in ("transforms/a/old", "transforms/a/new", "objects/old"):
        files.put(key, b"x", TEXT)
    for path in tmp_path.rglob("old"):
        os.utime(path, (1000, 1000))
    assert files.expire("transforms/", 2000) == 1
    assert [listed.key for listed in files.list("")] == ["objects/old", "transforms/a/new"]
    assert files.expire("transforms/", 2000) == 0
