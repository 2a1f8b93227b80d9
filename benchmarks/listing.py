"""One page of a listing at 1,000, 10,000 and 100,000 objects: flat, and folded by `/`.

The CPU counted is this process's and the work counted is DynamoDB's: rows that were read and calls that were made.
"""

from typing import Any

from benchmarks.rig import Rig, Table, interleaved

SIZES = (1_000, 10_000, 100_000)
FOLDERS = 200
ROUNDS = 11
BATCH = 3


def run(rig: Rig) -> tuple[Table, dict[str, Any]]:
    """A bucket a size, each with as many objects in 200 folders as outside any; pages are taken in turns."""
    tenant = rig.tenant("listing")
    pages = {}
    for size in SIZES:
        bucket = f"b{size}"
        tenant.service.bucket(bucket)
        rig.fill(tenant, bucket, "flat", size)
        rig.fill(tenant, bucket, "deep", size, FOLDERS)
        pages[f"flat, {size:,}"] = _page(tenant, bucket, "prefix=flat/")
        pages[f"folded, {size:,}"] = _page(tenant, bucket, "prefix=deep/&delimiter=/")
    calls = {}
    for name, page in pages.items():
        page()
        rig.calls.clear()
        page()
        calls[name] = len(rig.calls)
    cpu = interleaved(ROUNDS, BATCH, **pages)
    growth = {
        kind: max(cpu[f"{kind}, {size:,}"] for size in SIZES) / min(cpu[f"{kind}, {size:,}"] for size in SIZES)
        for kind in ("flat", "folded")
    }
    rows = [[name, str(calls[name]), f"{seconds * 1000:.2f}"] for name, seconds in cpu.items()]
    rows += [[f"{kind}: dearest / cheapest", "", f"{ratio:.2f}"] for kind, ratio in growth.items()]
    figures = {"growth": growth, "calls": calls, "cpu_ms": {name: seconds * 1000 for name, seconds in cpu.items()}}
    return Table("A page of 100", ["page of a bucket", "AWS calls", "CPU ms"], rows), figures


def _page(tenant: Any, bucket: str, query: str) -> Any:
    def page() -> object:
        answer = tenant.service("GET", f"/storage/objects/{bucket}?{query}&limit=100")
        if answer.status != 200:
            raise RuntimeError(answer.body)
        return answer

    return page
