"""The hourly cleanup, now: of the local run that is up, or of a deployed stage.

    python -m infra.cleanup [--dry-run] [--data .data | --stage prod]

It does what the schedule does, and prints what that was. With `--dry-run` it only counts what is due and what the
sweeps would find.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.datafolder import DataFolder

# A function lives 900 s.
SECONDS = 880
ANSWER_TIMEOUT = 910


class CleanupError(Exception):
    """It could not be run; the message is the one line to show."""


def clean_local(data: Path, dry_run: bool) -> dict[str, Any]:
    """Run the cleanup of the local run whose data lie in `data`; gives its report. Raises CleanupError."""
    environment = DataFolder(data, "").read_environment()
    if not environment:
        raise CleanupError(f"there is no {data / 'dev.env'}; start `make run` first, or name its folder with STOWAGE_DATA")
    os.environ.update(environment, POWERTOOLS_METRICS_DISABLED="true")
    os.environ.setdefault("STOWAGE_LOG_LEVEL", "ERROR")
    from chalicelib.core import cleanup  # reads the settings: after the environment is complete
    from chalicelib.errors import StowageError

    deadline = time.monotonic() + SECONDS
    try:
        return cleanup.run(lambda: deadline - time.monotonic(), dry_run)
    except StowageError as error:
        raise CleanupError(f"{error.message}; is `make run` up?") from error


def clean_stage(stage: str, dry_run: bool) -> dict[str, Any]:
    """Invoke the hourly function of a deployed stage; gives its report. Raises CleanupError, or what botocore raises."""
    import boto3

    # Asked once: a second request beside the first would only wait for the same work.
    patient = Config(read_timeout=ANSWER_TIMEOUT, retries={"total_max_attempts": 1})
    payload = json.dumps({"dry_run": dry_run}).encode()
    answer = boto3.client("lambda", config=patient).invoke(FunctionName=f"stowage-{stage}-hourly", Payload=payload)
    report: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise CleanupError(f"the function failed: {report.get('errorMessage', 'no reason given')}")
    return report


def told(report: dict[str, Any]) -> str:
    """A report for people: a line for each part, and one for each thing that went wrong."""
    uploads, garbage, quarantine = report["uploads"], report["garbage"], report["quarantine"]
    lines = [
        f"uploads     {uploads['due']} due, {uploads['expired']} expired, {uploads['freed']} freed"
        f" ({uploads['tails']} staged objects deleted, {uploads['aborted']} multipart uploads aborted), {uploads['left']} left",
        f"garbage     {garbage['due']} due, {garbage['deleted']} deleted, {garbage['kept']} kept, {len(garbage['left'])} refused",
        f"quarantine  {quarantine['held']} rows held, {quarantine['restored']} restored, {quarantine['given_up']} given up",
    ]
    for kind, sweep in report["sweeps"].items():
        lines.append(
            f"{kind:<12}{sweep['examined']} examined, {sweep['found']} found, {sweep['suspected']} suspected, {sweep['cleared']} cleared,"
            f" {sweep['quarantined']} into quarantine" + (", the round is over" if sweep["round_ended"] else "")
        )
        if sweep["stopped"]:
            lines.append(f"{kind:<12}STOPPED: {sweep['stopped']}")
    deltas = report["deltas"]
    if deltas["due"]:
        counted = f"{deltas['stored']} stored, {deltas['expired']} expired, {deltas['forgotten']} forgotten, {deltas['left']} left"
        lines.append(f"deltas      {deltas['due']} due, {counted}")
    tested = report["storages"]
    if tested["due"]:
        counted = f"{tested['probed']} tested, {tested['degraded']} degraded, {tested['recovered']} recovered"
        lines.append(f"storages    {tested['due']} due, {counted}")
    counters = report["counters"]
    if counters["counted"]:
        over = ", the round is over" if counters["round_ended"] else ""
        lines.append(f"counters    {counters['counted']} counted anew, {counters['wrong']} wrong, {counters['mended']} put right{over}")
    if report["copies_expired"]:
        lines.append(f"copies      {report['copies_expired']} of yesterday deleted")
    if report["jobs_woken"]:
        lines.append(f"jobs        {report['jobs_woken']} woken")
    if not all(part["finished"] for part in (uploads, deltas, garbage, tested)):
        lines.append("time ran out; run it again to go on")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0, or 1 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.cleanup", description="Run the hourly cleanup now, and tell what it did.")
    parser.add_argument("--dry-run", action="store_true", help="count what is due and change nothing")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="folder of the local run (.data)")
    parser.add_argument("--stage", help="a deployed stage instead: its stack is stowage-STAGE")
    chosen = parser.parse_args(arguments)
    where = f"stage {chosen.stage}" if chosen.stage else str(chosen.data)
    print(f"cleanup: {where}{', dry run' if chosen.dry_run else ''} …", file=sys.stderr, flush=True)
    try:
        report = clean_stage(chosen.stage, chosen.dry_run) if chosen.stage else clean_local(chosen.data, chosen.dry_run)
    except (CleanupError, BotoCoreError, ClientError) as error:
        print(f"cleanup: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(told(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
