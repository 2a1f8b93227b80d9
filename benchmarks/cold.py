"""Cold start: CPU of importing the app and answering the first download, beside a bare Chalice app.

Each sample is a new interpreter, both with bytecode at hand. The bare app reads one row and one object with two
boto3 clients; Stowage also looks up the key and the bucket, checks the permission, logs and counts.
"""

import compileall
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.rig import Rig, Table

ROOT = Path(__file__).parent.parent
ROUNDS = 15
_PROGRAM = """
import time
started = time.process_time()
import json, sys
module, event = sys.argv[1], json.loads(sys.argv[2])
app = __import__(module, fromlist=["app"]).app
imported = time.process_time()
answer = app(event, None)
done = time.process_time()
assert answer["statusCode"] == 200, answer
sys.stderr.write(json.dumps([imported - started, done - started]))
"""


def run(rig: Rig) -> tuple[Table, dict[str, Any]]:
    """Samples of both, taken in turns."""
    compileall.compile_file(ROOT / "app.py", quiet=1)
    for package in ("chalicelib", "benchmarks"):
        compileall.compile_dir(ROOT / package, quiet=1)
    tenant = rig.tenant("cold")
    tenant.service.bucket("b")
    tenant.service.put("b", "o", b"x" * 10_000)
    ours = rig.event("GET", "/storage/object/b/o", tenant.service_key)
    from chalicelib.core import buckets

    bare = _bare_event(buckets.get(tenant.tenant_id, "b").partition, "o")
    samples: dict[str, list[list[float]]] = {"app": [], "benchmarks.bare": []}
    for _ in range(ROUNDS + 1):
        for module, event in (("app", ours), ("benchmarks.bare", bare)):
            samples[module].append(_sample(module, event))
    imports, totals = ({name: min(each[part] for each in taken[1:]) for name, taken in samples.items()} for part in (0, 1))
    ratio = totals["app"] / totals["benchmarks.bare"]
    rows = [
        [name, f"{imports[key] * 1000:.0f}", f"{totals[key] * 1000:.0f}"] for name, key in (("bare", "benchmarks.bare"), ("Stowage", "app"))
    ]
    table = Table("Cold start, CPU ms", ["app", "import", "import and first download"], [*rows, ["ratio", "", f"{ratio:.2f}"]])
    return table, {"cold_start_ratio": ratio, "import_ms": imports, "total_ms": totals}


def _bare_event(partition: str, name: str) -> dict[str, Any]:
    return {
        "requestContext": {"httpMethod": "GET", "resourcePath": "/{partition}/{name}", "path": "/"},
        "headers": {"accept": "*/*"},
        "pathParameters": {"partition": partition, "name": name},
        "multiValueQueryStringParameters": None,
        "stageVariables": {},
        "body": None,
    }


def _sample(module: str, event: dict[str, Any]) -> list[float]:
    environment = {**os.environ, "STOWAGE_LOG_LEVEL": "INFO"}
    environment.pop("POWERTOOLS_METRICS_DISABLED", None)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, module, json.dumps(event)], env=environment, capture_output=True, check=True, timeout=60
    )
    found: list[float] = json.loads(done.stderr)
    return found
