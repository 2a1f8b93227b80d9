"""Runs the benchmarks named on the command line (all without names), prints their tables and writes JSON."""

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

NAMES = ("requests", "cold", "policies", "listing", "uploads", "images")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", type=_name, metavar="NAME", help=f"which to run: {', '.join(NAMES)} (default: all)")
    chosen = parser.parse_args().names or NAMES
    os.environ.setdefault("STOWAGE_LOG_LEVEL", "CRITICAL")
    os.environ.setdefault("POWERTOOLS_METRICS_DISABLED", "true")
    from benchmarks.rig import Rig

    RESULTS.mkdir(exist_ok=True)
    with Rig() as rig:
        for name in chosen:
            print(f"running {name} …", file=sys.stderr, flush=True)
            table, figures = importlib.import_module(f"benchmarks.{name}").run(rig)
            print(table, flush=True)
            figures |= {"python": platform.python_version()}
            (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")


def _name(given: str) -> str:
    """Checked here: of an empty list `choices` asks that it be one of them."""
    if given not in NAMES:
        raise argparse.ArgumentTypeError(f"no benchmark is named {given!r}; there are {', '.join(NAMES)}")
    return given


if __name__ == "__main__":
    main()
