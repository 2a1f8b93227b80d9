"""`make cleanup`: the hourly cleanup of the run that is up, told to people."""

import subprocess
import sys
from pathlib import Path

from infra.cleanup import told
from tests.local.test_run import ROOT, Running, live  # noqa: F401  the fixture

REPORT = {
    "dry_run": False,
    "jobs_woken": 2,
    "uploads": {"due": 3, "expired": 2, "freed": 2, "tails": 1, "aborted": 1, "left": 1, "finished": False, "failures": {}},
    "deltas": {"due": 4, "stored": 1, "expired": 1, "forgotten": 1, "left": 1, "finished": True},
    "garbage": {"due": 5, "deleted": 4, "kept": 0, "left": {"key": "AccessDenied"}, "finished": True},
    "quarantine": {"held": 1, "restored": 0, "given_up": 0},
    "storages": {"due": 3, "probed": 2, "degraded": 1, "recovered": 0, "finished": False},
    "counters": {"counted": 7, "wrong": 2, "mended": 1, "round_ended": True},
    "copies_expired": 4,
    "sweeps": {
        "missing": {
            "examined": 9,
            "found": 2,
            "suspected": 2,
            "cleared": 0,
            "quarantined": 0,
            "round_ended": True,
            "stopped": "2 of 9 would be touched, more than 1%",
        },
        "orphan": {"examined": 9, "found": 0, "suspected": 0, "cleared": 1, "quarantined": 0, "round_ended": False, "stopped": None},
    },
}


def cleanup(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "infra.cleanup", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_it_runs_beside_the_run_and_tells_what_it_did(live: Running) -> None:  # noqa: F811
    ended = cleanup("--data", str(live.data))
    assert (ended.returncode, ended.stderr) == (0, f"cleanup: {live.data} …\n")
    assert [line.split()[0] for line in ended.stdout.splitlines()] == ["uploads", "garbage", "quarantine", "missing", "orphan", "counters"]


def test_a_dry_run_says_that_it_is_one(live: Running) -> None:  # noqa: F811
    ended = cleanup("--data", str(live.data), "--dry-run")
    assert ended.returncode == 0
    assert "dry run" in ended.stderr


def test_without_a_run_there_is_one_clear_line(tmp_path: Path) -> None:
    ended = cleanup("--data", str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"cleanup: there is no {tmp_path / 'dev.env'}; start `make run` first")


def test_a_run_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "dev.env").write_text(
        "export AWS_ENDPOINT_URL=http://127.0.0.1:9 AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_DEFAULT_REGION=us-east-1\n"
    )
    ended = cleanup("--data", str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith("is `make run` up?")


def test_a_report_tells_what_went_wrong() -> None:
    lines = told(REPORT).splitlines()
    assert lines[0] == ("uploads     3 due, 2 expired, 2 freed (1 staged objects deleted, 1 multipart uploads aborted), 1 left")
    assert "missing     STOPPED: 2 of 9 would be touched, more than 1%" in lines
    assert "deltas      4 due, 1 stored, 1 expired, 1 forgotten, 1 left" in lines
    assert {"jobs        2 woken", "copies      4 of yesterday deleted", "storages    3 due, 2 tested, 1 degraded, 0 recovered"} <= set(
        lines
    )
    assert "counters    7 counted anew, 2 wrong, 1 put right, the round is over" in lines
    assert lines[-1] == "time ran out; run it again to go on"
