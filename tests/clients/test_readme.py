"""README's JavaScript, run as it is written."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.docs import README
from tests.clients.conftest import MIB, ONE_PROCESS, Drive, Source, Stowage

pytestmark = ONE_PROCESS

INTO_BUCKETS, INTO_FILES = re.findall(r"```js\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
# What an application has before. In Node a stream stands for the file of a page.
BEFORE = """
import { createReadStream } from 'node:fs'
import * as tus from 'tus-js-client'
const { STOWAGE_URL, token, userId, path, name, type } = JSON.parse(process.argv[1])
const file = Object.assign(createReadStream(path), { name, type })
"""
# More than a request may carry.
SIZE = 9 * MIB + 1
# Seconds.
LIMIT = 120

Run = Callable[[str], str]


@pytest.fixture
def sent(source: Callable[[int], Source]) -> Source:
    return source(SIZE)


@pytest.fixture
def run(packages: Path, drive: Drive, sent: Source) -> Run:
    """Runs a snippet to its end, for a user; gives what it prints."""

    def to_its_end(snippet: str) -> str:
        user = {"STOWAGE_URL": drive.api, "token": drive.key, "userId": drive.USER}
        file = {"path": str(sent.path), "name": "video.mp4", "type": "video/mp4"}
        command = ["node", "--input-type=module", "--eval", BEFORE + snippet, json.dumps(user | file)]
        ended = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    return to_its_end


def test_an_upload_into_a_bucket_says_that_it_is_done(run: Run, stowage: Stowage, sent: Source) -> None:
    own = {"bucket": stowage.BUCKET, "name": "own", "operation": "INSERT", "definition": "auth_uid()::uuid = owner_id"}
    stowage.ask("POST", "/storage/policies", 201, **own)
    assert run(INTO_BUCKETS) == "done\n"
    stowage.assert_holds("ada/video.mp4", sent, "video/mp4")


def test_an_upload_into_files_is_filed_under_its_user(run: Run, drive: Drive, sent: Source) -> None:
    assert run(INTO_FILES) == ""
    drive.assert_holds(f"{drive.USER}/video.mp4", sent, "video/mp4")
