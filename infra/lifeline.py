"""Runs a program that ends when whoever started it ends, however that happens.

    python -m infra.lifeline [--delay SECONDS] MODULE:FUNCTION ARGUMENT…

The starter keeps the write end of this process's standard input open and never writes to it. When it dies, even
by SIGKILL, the pipe closes, and this process stops itself with SIGTERM as the starter would have. `--delay` lets
those finish first who depend on the program.
"""

import importlib
import os
import signal
import sys
import threading
import time


def watch(delay: float = 0) -> None:
    """Have SIGTERM sent to this process `delay` seconds after its standard input has closed."""
    threading.Thread(target=_wait, args=(delay,), daemon=True).start()


def _wait(delay: float) -> None:
    while os.read(0, 4096):
        pass
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> None:
    """Call `MODULE:FUNCTION` as its console script would, watching standard input meanwhile."""
    delay = 0.0
    if arguments[0] == "--delay":
        delay, arguments = float(arguments[1]), arguments[2:]
    module, _, function = arguments[0].partition(":")
    sys.argv = [module.partition(".")[0], *arguments[1:]]
    watch(delay)
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    main(sys.argv[1:])
