"""`make rotate-master-key`: the master key of the run that is up, replaced while it answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra import rotation
from infra.rotation import SIGNED_URLS_LIVE, InFile
from tests.local.test_run import ROOT, Running, live  # noqa: F401  the fixture


def rotate(live: Running, *arguments: str) -> "subprocess.CompletedProcess[str]":  # noqa: F811
    command = [sys.executable, "-m", "infra.rotation", "--data", str(live.data), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def asked(live: Running, method: str, path: str, body: Any = None, **headers: str) -> Any:  # noqa: F811
    """What a route answers under the service key, or whom the headers name."""
    sent = json.dumps(body).encode() if body is not None else b""
    answer = live.ask(method, path, sent, **{"Content-Type": "application/json", **headers})
    assert answer.status < 300, answer.body
    return json.loads(answer.body)


def test_secrets_are_sealed_anew_while_the_run_answers(live: Running) -> None:  # noqa: F811
    described = {"name": "own", "provider": "filesystem", "bucket": "rotated"}
    made = asked(live, "POST", "/api/v1/backups/storage-configs", described)
    test = f"/api/v1/backups/storage-configs/{made['id']}/test"
    signed = asked(live, "POST", "/auth/token", {"sub": "someone"})["token"]
    before = InFile(live.data / "master.key").read()
    ended = rotate(live)
    assert ended.returncode == 0, ended.stderr
    after = InFile(live.data / "master.key").read()
    assert after[1:] == before
    assert (live.data / "master.key").stat().st_mode & 0o077 == 0
    assert "secrets are sealed under the new key" in ended.stdout
    assert not [key for key in after if key in ended.stdout + ended.stderr]
    assert asked(live, "POST", test)["success"], "a process that has read the old key alone reads them again"
    user = {"Authorization": f"Bearer {signed}"}
    assert asked(live, "GET", "/api/v1/backups/storage-settings", **user)["allow_org_byos"] is True
    old = ended.stdout.split()[-1]
    refused = rotate(live, "--forget", old)
    assert (refused.returncode, "a week after" in refused.stderr) == (1, True)
    long_ago = os.stat(live.data / "master.key").st_mtime - SIGNED_URLS_LIVE - 1
    os.utime(live.data / "master.key", (long_ago, long_ago))
    assert rotate(live, "--forget", old).returncode == 0
    assert InFile(live.data / "master.key").read() == after[:1] + before[1:]
    assert asked(live, "POST", test)["success"]


def test_the_key_in_use_and_one_that_there_is_not_are_not_forgotten(live: Running) -> None:  # noqa: F811
    from chalicelib.access.sealing import master_key_of

    in_use = master_key_of(InFile(live.data / "master.key").read()[0]).key_id
    assert "rotate first" in rotate(live, "--forget", in_use).stderr
    assert "there is no key" in rotate(live, "--forget", "00000000").stderr


def test_without_a_run_there_is_one_clear_line(tmp_path: Path) -> None:
    assert rotation.main(["--data", str(tmp_path)]) == 1
