"""Packages of npm that tests want, installed beside their lock file by the first that does."""

import fcntl
import subprocess
from pathlib import Path


def installed(folder: Path, seconds: float) -> Path:
    """`folder` with the packages that its lock file names; npm may take so long."""
    lock = (folder / "package-lock.json").read_bytes()
    stamp = folder / "node_modules" / ".installed"
    with (folder / "package.json").open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != lock:
            command = ["npm", "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, check=True, timeout=seconds)
            stamp.write_bytes(lock)
    return folder
