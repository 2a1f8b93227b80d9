"""One page of a listing at 1,000, 10,000 and 100,000 objects: flat, and folded by `/` into folders.

The folders are 20 at every size, growing from 50 objects to 5,000 each, or of 50 objects each, growing in number.

The CPU is this process's. Each request is answered by the embedded AWS once, which takes it a second or more, and from
memory (`benchmarks.replay`) when it is measured: a page costs what is asked for and what comes back.
"""

import sys
from typing import Any

from benchmarks.rig import Rig, Table, interleaved

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 40
BATCH = 10
# How many folders a bucket of each size has, and how much a page shows: it makes a call for each folder that it passes over.
FOLDERS = {"flat": lambda size: 0, "20 folders": lambda size: 20, "folders of 50": lambda size: size // 50}
LIMITS = {"flat": 100, "20 folders": 5, "folders of 50": 5}


def run(rig: Rig) -> tuple[Table, dict[str, Any]]:
    """Buckets of every size and shape; pages are taken in turns."""
    tenant = rig.tenant("listing")
    pages: dict[str, Any] = {}
    for size in SIZES:
        print(f"  filling buckets of {size:,}", file=sys.stderr, flush=True)
        for kind, folders_of in FOLDERS.items():
            bucket, folders = f"{kind}-{size}".replace(" ", "-"), folders_of(size)
            tenant.service.bucket(bucket)
            rig.fill(tenant, bucket, "f", size, folders)
            delimiter = "&delimiter=/" if folders else ""
            pages[f"{kind}, {size:,}"] = _page(tenant, bucket, f"prefix=f/&limit={LIMITS[kind]}{delimiter}")
    print("  listing", file=sys.stderr, flush=True)
    with rig.replayed():
        for page in pages.values():
            page()
        calls = {name: _calls(rig, page) for name, page in pages.items()}
        cpu = interleaved(ROUNDS, BATCH, **pages)
    growth = {kind: _growth([cpu[f"{kind}, {size:,}"] for size in SIZES]) for kind in LIMITS}
    rows = [[name, str(calls[name]), f"{seconds * 1000:.2f}"] for name, seconds in cpu.items()]
    rows += [[f"{kind}: dearest / cheapest", "", f"{ratio:.2f}"] for kind, ratio in growth.items()]
    figures = {"growth": growth, "calls": calls, "cpu_ms": {name: seconds * 1000 for name, seconds in cpu.items()}}
    return Table("A page: 100 objects, or 5 folders", ["page", "AWS calls", "CPU ms"], rows), figures


def _growth(seconds: list[float]) -> float:
    return max(seconds) / min(seconds)


def _calls(rig: Rig, page: Any) -> int:
    page()  # key and bucket are remembered for a minute
    rig.calls.clear()
    page()
    return len(rig.calls)


def _page(tenant: Any, bucket: str, query: str) -> Any:
    def page() -> object:
        answer = tenant.service("GET", f"/storage/objects/{bucket}?{query}")
        if answer.status != 200:
            raise RuntimeError(answer.body)
        return answer

    return page
