"""Whatever a file holds, there comes a picture or a refusal: no crash, no hang, and no more memory than the function has."""

import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.errors import UnprocessableImage
from chalicelib.images.options import Options
from chalicelib.images.transform import transform

from .hostile import GROUPS, SEVERAL, Files, damaged, healthy
from .trial import MADE, REFUSED

ROOT = Path(__file__).parents[2]
# Of one trial, which takes some milliseconds, or some seconds where the file is as large as may be.
SECONDS = 20
Outcomes = dict[tuple[str, str], str]


class Process:
    """One that tries files, and is watched."""

    def __init__(self, folder: Path, options: dict[str, Options], skipped: int) -> None:
        documents = json.dumps({name: each.to_dict() for name, each in options.items()})
        command = [sys.executable, "-m", "tests.images.trial", str(folder), documents, str(skipped)]
        self.running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.running.stdout is not None
        for line in self.running.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def told(self) -> str | None:
        """What it says next, None when it has ended; raises queue.Empty when it says nothing for too long."""
        return self.lines.get(timeout=SECONDS)

    def end(self) -> int:
        """Its exit code; it does not live on."""
        self.running.kill()
        self.reader.join()
        return self.running.wait()


def outcomes(folder: Path, options: dict[str, Options]) -> Outcomes:
    """What comes of each file with each of the options. A trial that ends its process does not end the others."""
    made: Outcomes = {}
    while True:
        process = Process(folder, options, len(made))
        try:
            for file, name in trials(process):
                made[file, name] = "crashed"
                try:
                    line = process.told()
                except queue.Empty:
                    made[file, name] = "hung"
                    break
                if line is None:
                    break
                made[file, name] = json.loads(line)
            else:
                return made
        finally:
            code = process.end()
        last = next(reversed(made))
        made[last] = f"{made[last]} ({code})"


def trials(process: Process) -> Iterator[tuple[str, str]]:
    while (line := process.told()) is not None:
        file, name = json.loads(line)
        yield file, name


def tried(files: Files, options: dict[str, Options], folder: Path) -> Outcomes:
    for name, body in files.items():
        (folder / name).write_bytes(body)
    made = outcomes(folder, options)
    assert len(made) == len(files) * len(options)
    return made


@pytest.mark.parametrize("name", GROUPS)
def test_of_every_file_comes_a_picture_or_a_refusal(name: str, tmp_path: Path) -> None:
    group = GROUPS[name]
    files = group.make()
    made = tried(files, group.options, tmp_path)
    assert {trial: outcome for trial, outcome in made.items() if outcome not in group.wanted} == {}
    assert len({file for file, _ in made}) == len(files) >= group.least


def test_hundreds_of_files_are_tried() -> None:
    assert sum(group.least for group in GROUPS.values()) >= 200


def test_what_is_whole_is_a_picture(tmp_path: Path) -> None:
    assert set(tried(healthy(), GROUPS["damaged"].options, tmp_path).values()) == {MADE}


def test_some_damage_is_seen_and_some_is_not(tmp_path: Path) -> None:
    """Else the corpus would try the first check alone."""
    found = Counter(tried(damaged(), {"contain": SEVERAL["contain"]}, tmp_path).values())
    assert min(found[MADE], found[REFUSED]) > 50


@pytest.mark.parametrize("kind", [kind for kind in healthy() if "animated" not in kind and kind != "mpo"])
def test_half_a_picture_is_none(kind: str) -> None:
    """Never one whose lower half is grey."""
    body = healthy()[kind]
    with pytest.raises(UnprocessableImage):
        transform(body[: len(body) // 2], Options(30, format="png"))
