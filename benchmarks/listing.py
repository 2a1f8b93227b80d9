"""One page of a listing at 1,000, 10,000 and 100,000 objects: flat, and folded by `/`.

The CPU is this process's. The embedded AWS looks at every row of a partition for each call, which DynamoDB does not,
so most of the time goes by in waiting: about five minutes.
"""

import sys
from typing import Any

from benchmarks.rig import Rig, Table, interleaved

SIZES = (1_000, 10_000, 100_000)
FOLDERS = 200
ROUNDS = 3
# A folded page makes a call for each folder that it passes over.
LIMITS = {"flat": 100, "folded": 5}


def run(rig: Rig) -> tuple[Table, dict[str, Any]]:
    """Buckets of every size, the same number of objects outside folders and in 200 of them; pages are taken in turns."""
    tenant = rig.tenant("listing")
    pages: dict[str, Any] = {}
    for size in SIZES:
        print(f"  filling buckets of {size:,}", file=sys.stderr, flush=True)
        for kind, folders in (("flat", 0), ("folded", FOLDERS)):
            bucket = f"{kind}-{size}"
            tenant.service.bucket(bucket)
            rig.fill(tenant, bucket, "f", size, folders)
            delimiter = "&delimiter=/" if folders else ""
            pages[f"{kind}, {size:,}"] = _page(tenant, bucket, f"prefix=f/&limit={LIMITS[kind]}{delimiter}")
    print("  listing", file=sys.stderr, flush=True)
    calls = {name: _calls(rig, page) for name, page in pages.items()}
    cpu = interleaved(ROUNDS, 1, **pages)
    growth = {kind: _growth([cpu[f"{kind}, {size:,}"] for size in SIZES]) for kind in LIMITS}
    rows = [[name, str(calls[name]), f"{seconds * 1000:.2f}"] for name, seconds in cpu.items()]
    rows += [[f"{kind}: dearest / cheapest", "", f"{ratio:.2f}"] for kind, ratio in growth.items()]
    figures = {"growth": growth, "calls": calls, "cpu_ms": {name: seconds * 1000 for name, seconds in cpu.items()}}
    return Table(f"A page: {LIMITS['flat']} objects, {LIMITS['folded']} folders", ["page", "AWS calls", "CPU ms"], rows), figures


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
