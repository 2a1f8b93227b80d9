"""README's five minutes, run as they are written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from infra.docs import README
from tests.local.test_run import Running, live  # noqa: F401  the fixture

TEXT = README.read_text(encoding="utf-8")
OWN_STORAGE = re.findall(r"```sh\n(.*?)```", TEXT.partition("## Bring your own storage")[2].partition("\n## ")[0], re.DOTALL)
FILES = re.findall(r"```sh\n(.*?)```", TEXT.partition("\n## Files\n")[2].partition("\n## ")[0], re.DOTALL)
(VAULT,) = re.findall(r"```sh\n(.*?)```", TEXT.partition("## The vault")[2].partition("\n## ")[0], re.DOTALL)
TOUR = README.read_text(encoding="utf-8").partition("## Five minutes")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", TOUR, re.DOTALL)
# curl as a reader has it, but for a status that is not success, which ends the script.
STRICT = 'set -euo pipefail\ncurl() { command curl --fail-with-body --silent --show-error "$@"; echo; }\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader stands."""
    return tmp_path_factory.mktemp("tour")


@pytest.fixture(scope="module")
def told(live: Running, folder: Path) -> str:  # noqa: F811
    """What the whole tour prints."""
    script = STRICT + "\n".join(BLOCKS).replace(".data/dev.env", str(live.data / "dev.env"))
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tour_has_its_steps() -> None:
    assert len(BLOCKS) >= 5
    assert BLOCKS[0] == "source .data/dev.env\n"


@pytest.mark.parametrize(
    "text",
    [
        '"max_file_size":20000000',
        "Hello, Stowage",
        "\nStowage\n",
        '"name":"notes/"',
        '"name":"notes/hello.txt"',
        '"user_metadata":{"mood":"good"}',
        '"name":"notes/greeting.txt"',
        '{"job_id":"',
    ],
)
def test_the_tour_shows_what_it_tells(told: str, text: str) -> None:
    assert text in told


def test_the_tour_s_picture_is_transformed(told: str, folder: Path) -> None:
    with Image.open(folder / "sunset.webp") as image:
        assert (image.format, image.size) == ("WEBP", (600, 400))


def test_the_commands_of_the_first_page_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):.*##", Path(README.parent / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test", "bench", "lint", "package", "deploy", "help"} <= targets
    assert {command for command in re.findall(r"\bmake ([\w-]+)", README.read_text()) if command.islower()} <= targets | {"and"}


def test_the_vault_s_client_does_what_it_says(live: Running, folder: Path) -> None:  # noqa: F811
    commands = VAULT.replace(".venv/bin/python tools/", f"{sys.executable} {README.parent}/tools/")
    script = STRICT + f"source {live.data / 'dev.env'}\n{commands}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "diary.back.txt").read_text() == "Dear diary\n"
    assert '"daily":{"limit":2,"used":1,' in done.stdout
    assert '"warning":null,"left":[]' in done.stdout


def test_files_are_stored_listed_signed_fetched_and_shown(live: Running, folder: Path) -> None:  # noqa: F811
    script = STRICT + f"source {live.data / 'dev.env'}\n" + "\n".join(FILES)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"key":"diary/2026/day.txt"' in done.stdout
    assert '"name":"diary/2026"' in done.stdout
    assert '"folderId":null' in done.stdout
    assert '"metadata":{"mood":"good"}' in done.stdout
    assert "\nWhat a day\n" in done.stdout
    assert '"key":"fetched/health.json"' in done.stdout
    with Image.open(folder / "dawn.webp") as image:
        assert (image.format, image.size) == ("WEBP", (2, 1))


def test_a_storage_of_one_s_own_is_made_tested_and_used(live: Running, folder: Path) -> None:  # noqa: F811
    script = STRICT + f"source {live.data / 'dev.env'}\n" + "\n".join(OWN_STORAGE)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"success":true,"message":"Connection successful"' in done.stdout
    assert "\non my own storage\n" in done.stdout
    assert list((live.data / "files" / "storages").rglob("hello.txt~*"))
