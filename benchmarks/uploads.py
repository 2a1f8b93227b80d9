"""A file of 64 MiB by TUS, beside `@tus/server` with `@tus/s3-store`: the same client, bytes and S3.

Speed and CPU are taken in turns, from servers that are warm; a ratio is the median of the rounds' own ratios, so what else the
machine does falls on both sides. CPU is that of the server's process, for ours what stands for API Gateway included.
What is asked of AWS is counted by a forwarder before it, in uploads of their own. Memory is the peak of a new server.
"""

import hashlib
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks import tus
from benchmarks.counted import Forwarder
from benchmarks.rig import Rig, Table

MIB = 1 << 20
FILE = 64 * MIB
LARGE_FILE = 512 * MIB
CHUNKS = (4 * MIB, 8 * MIB)
ROUNDS = 15
MOST_S3_CALLS = {4 * MIB: 30, 8 * MIB: 12}
MOST_TABLE_WRITES = 2
LEAST_SPEED = 1.0
# Seconds: what a server may still do once it has answered, and after which an upload has expired.
_AFTERMATH = 0.5
_EXPIRED = 24 * 3600 + 60


@dataclass(frozen=True)
class Calls:
    """What one upload asks of AWS: of S3 until its last answer and for the cleanup a day later, of DynamoDB in writes by chunk."""

    s3: int
    s3_by_operation: dict[str, int]
    s3_cleanup: int
    table_writes: list[int]


@dataclass(frozen=True)
class Cost:
    """Of one upload: seconds that passed, and seconds of the server's CPU."""

    seconds: float
    cpu: float


@dataclass(frozen=True)
class Measured:
    """All of one kind in chunks of one size; peaks in bytes."""

    calls: Calls
    costs: list[Cost]
    peak: int
    peak_large: int


def run(rig: Rig) -> tuple[Table, dict[str, Any]]:
    """Calls, then both in turns, then memory."""
    if not Path("/proc/self/status").exists():
        raise SystemExit("stowage: the uploads are measured by /proc, which only Linux has")
    kinds = (tus.ours(rig), tus.peer())
    block = os.urandom(max(CHUNKS))
    calls = {(kind.name, size): _calls(rig, kind, block[:size]) for size in CHUNKS for kind in kinds}
    costs = _costs(kinds, block)
    columns = {}
    for size in CHUNKS:
        mine, theirs = (
            Measured(calls[kind.name, size], costs[kind.name, size], _peak(kind, block[:size], FILE), _peak(kind, block[:size], LARGE_FILE))
            for kind in kinds
        )
        columns[f"{size // MIB} MiB"] = _figures(mine, theirs)
    return _table(columns), {"rounds": ROUNDS, "in_chunks_of": columns}


# ---- measuring -----------------------------------------------------------------------------------------
def _calls(rig: Rig, kind: tus.Kind, chunk: bytes) -> Calls:
    _say(f"counting the calls of {kind.name} in chunks of {_shown(chunk)}")
    number = FILE // len(chunk)
    writes: list[int] = []
    with Forwarder(os.environ["AWS_ENDPOINT_URL"]) as forwarder, tus.running(kind, forwarder.endpoint) as server:
        server.upload(chunk, number, lambda: writes.append(forwarder.table_writes))
        time.sleep(_AFTERMATH)
        s3 = forwarder.s3_calls
    cleanup = _cleanup_calls(rig)
    tus.take_out(kind, FILE, hashlib.sha256(chunk * number).hexdigest())
    return Calls(s3.total(), dict(s3), cleanup, [after - before for before, after in pairwise(writes)])


def _cleanup_calls(rig: Rig) -> int:
    """What our cleanup asks of S3 once the uploads so far have expired; the peer has none for uploads that were completed."""
    from chalicelib import seam
    from chalicelib.core import expiry

    rig.calls.clear()
    then = time.time() + _EXPIRED
    with patch.object(seam, "timestamp", lambda: then):
        report = expiry.collect(lambda: 60)
    if report.left:
        raise RuntimeError(f"the cleanup left uploads: {report.failures}")
    return rig.calls.count("s3")


def _costs(kinds: tuple[tus.Kind, ...], block: bytes) -> dict[tuple[str, int], list[Cost]]:
    """Every kind and size of chunk in turns, all of a round one after the other."""
    costs: dict[tuple[str, int], list[Cost]] = {(kind.name, size): [] for kind in kinds for size in CHUNKS}
    with ExitStack() as stack:
        servers = [stack.enter_context(tus.running(kind)) for kind in kinds]
        for server in servers:
            _cost(server, block)
        for number in range(1, ROUNDS + 1):
            _say(f"uploading in turns, round {number} of {ROUNDS}")
            for size in CHUNKS:
                for server in servers:
                    costs[server.kind.name, size].append(_cost(server, block[:size]))
    return costs


def _cost(server: tus.Server, chunk: bytes) -> Cost:
    before = server.cpu_seconds()
    seconds = server.upload(chunk, FILE // len(chunk))
    cpu = server.cpu_seconds() - before
    tus.take_out(server.kind, FILE)
    return Cost(seconds, cpu)


def _peak(kind: tus.Kind, chunk: bytes, total: int) -> int:
    _say(f"the memory of {kind.name} for {total // MIB} MiB in chunks of {_shown(chunk)}")
    with tus.running(kind) as server:
        server.upload(chunk, total // len(chunk))
        peak = server.peak_bytes()
    tus.take_out(kind, total)
    return peak


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def _shown(chunk: bytes) -> str:
    return f"{len(chunk) // MIB} MiB"


# ---- telling -------------------------------------------------------------------------------------------
def _figures(mine: Measured, theirs: Measured) -> dict[str, Any]:
    rounds = list(zip(mine.costs, theirs.costs, strict=True))
    return {
        "ratios": {
            "throughput": median(their.seconds / my.seconds for my, their in rounds),
            "cpu": median(my.cpu / their.cpu for my, their in rounds),
            "s3_calls": mine.calls.s3 / theirs.calls.s3,
            "peak": mine.peak / theirs.peak,
            "peak_large": mine.peak_large / theirs.peak_large,
        },
        "stowage": _alone(mine),
        "peer": _alone(theirs),
    }


def _alone(measured: Measured) -> dict[str, Any]:
    return {
        "mb_a_second": FILE / 1e6 / median(cost.seconds for cost in measured.costs),
        "cpu_seconds": median(cost.cpu for cost in measured.costs),
        "peak_growth": measured.peak_large / measured.peak,
        **asdict(measured),
    }


def _table(columns: dict[str, dict[str, Any]]) -> Table:
    """Ratios first, ours to the peer's; then each by itself."""

    def row(title: str, limit: str, form: str, *path: str) -> list[str]:
        cells = []
        for figures in columns.values():
            found: Any = figures
            for step in path:
                found = found[step]
            cells.append(_cell(found, form))
        return [title, *cells, limit]

    rows = [
        row("throughput, ratio", f">= {LEAST_SPEED}", "{:.2f}", "ratios", "throughput"),
        row("server CPU, ratio", "", "{:.2f}", "ratios", "cpu"),
        row("S3 calls, ratio", "", "{:.2f}", "ratios", "s3_calls"),
        row("peak memory, ratio", "", "{:.2f}", "ratios", "peak"),
        row("peak memory for 512 MiB, ratio", "", "{:.2f}", "ratios", "peak_large"),
    ]
    for key, name in (("stowage", "Stowage"), ("peer", "@tus/server")):
        own = key == "stowage"
        rows += [
            row(f"{name}: MB/s", "", "{:.1f}", key, "mb_a_second"),
            row(f"{name}: CPU seconds an upload", "", "{:.2f}", key, "cpu_seconds"),
            row(f"{name}: S3 calls an upload", _most_s3_calls() if own else "", "{}", key, "calls", "s3"),
            row(f"{name}: peak MiB, 64 MiB", "", "MiB", key, "peak"),
            row(f"{name}: peak MiB, 512 MiB", "", "MiB", key, "peak_large"),
            row(f"{name}: growth of the peak", "", "{:.2f}", key, "peak_growth"),
        ]
        if own:
            rows += [
                row(f"{name}: S3 calls of the cleanup a day later", "", "{}", key, "calls", "s3_cleanup"),
                row(f"{name}: DynamoDB writes a chunk, the last", f"<= {MOST_TABLE_WRITES}", "writes", key, "calls", "table_writes"),
            ]
    return Table("64 MiB by TUS: Stowage / @tus/server", ["in chunks of", *columns, "limit"], rows)


def _cell(found: Any, form: str) -> str:
    if form == "MiB":
        return f"{found / MIB:.0f}"
    if form == "writes":
        return f"{max(found[:-1])}, {found[-1]}"
    return form.format(found)


def _most_s3_calls() -> str:
    return "<= " + ", ".join(str(MOST_S3_CALLS[size]) for size in CHUNKS)
