"""`make run`: the whole of Stowage on this machine, until Ctrl+C or SIGTERM.

Starts the embedded AWS, provisions it, makes a demo tenant, writes `dev.env`, starts `chalice local` and the
runner, and watches over them. They stop in the order in which they depend on each other: the API, then the runner
once it has handled what was written, then the embedded AWS, which saves its rows only then.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib import settings
from infra import stack
from infra.datafolder import DataFolder, FolderError

DEFAULT_PORT = "3000"
DEFAULT_DATA = ".data"
# The tenant's part of `dev.env`, by what `infra/demo.py` prints.
TENANT_VARIABLES = {
    "TENANT_ID": "tenant_id",
    "SERVICE_KEY": "service_key",
    "ANON_KEY": "anon_key",
    "JWT_SECRET": "jwt_secret",
    "ADMIN_KEY": "admin_key",
}
# Read by this module and meaningless to the API.
OWN_VARIABLES = frozenset(["STOWAGE_DATA", "STOWAGE_URL"])
# Seconds.
API_TIMEOUT = 60
API_STOP_TIMEOUT = 25
RUNNER_STOP_TIMEOUT = 25
IMAGES_STOP_TIMEOUT = 5
WATCH_INTERVAL = 0.5

Child = subprocess.Popen[bytes]


class RunError(Exception):
    """The run cannot start or go on; the message is the one line to show."""


class Stopped(BaseException):
    """Ctrl+C or SIGTERM arrived. Not an Exception: nothing but the run itself may take it."""


@dataclass(frozen=True)
class Options:
    """What the environment asks for. Raises RunError when it makes no sense."""

    port: int
    data: Path
    settings: dict[str, str]

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Options":
        """`PORT`, `STOWAGE_DATA` and the settings that the API is to have."""
        port = environment.get("PORT") or DEFAULT_PORT
        if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            raise RunError(f"PORT must be a number from 1 to 65535, not {port!r}")
        chosen = {name: value for name, value in environment.items() if name.startswith("STOWAGE_") and name not in OWN_VARIABLES}
        chosen["STOWAGE_STORAGE_PROVIDER"] = chosen.get("STOWAGE_STORAGE_PROVIDER") or "s3"
        chosen["STOWAGE_ALLOW_PRIVATE_ENDPOINTS"] = chosen.get("STOWAGE_ALLOW_PRIVATE_ENDPOINTS") or "true"
        chosen["STOWAGE_ENABLED_PROVIDERS"] = chosen.get("STOWAGE_ENABLED_PROVIDERS") or "all"
        settings.read(chosen | {"STOWAGE_S3_BUCKET": "known-once-it-is-provisioned"})
        return cls(int(port), Path(environment.get("STOWAGE_DATA") or DEFAULT_DATA), chosen)


class Run:
    """One run, from the checks to the last child's end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._template = stack.local_template()
        self._folder = DataFolder(options.data, stack.fingerprint(self._template))
        self._aws = stack.EmbeddedAWS(self._folder.aws)
        self._children: dict[str, Child] = {}

    def run(self) -> int:
        """Start everything, watch over it, stop it; returns the exit status."""
        lock = self._folder.lock()
        complete = self._folder.is_complete()
        if not stack.port_is_free(self._options.port):
            raise RunError(f"port {self._options.port} is taken; stop what listens there, or set PORT to another")
        self._aws = stack.EmbeddedAWS(self._folder.aws, lock)
        status = 0
        try:
            self._start(complete)
            status = self._watch()
        except Stopped:
            pass
        finally:
            self._stop()
        return status

    # ---- starting ------------------------------------------------------------------------------------------
    def _start(self, complete: bool) -> None:
        say(f"Stowage, data in {self._options.data}")
        master_key = self._folder.master_key(complete)
        if not complete:
            stack.discard(self._folder.aws)
            self._folder.mark(complete=False)
        say("  starting the embedded AWS")
        self._aws.start()
        values = self._provision(master_key)
        values = self._with_tenant(values)
        if not complete:
            self._save()
        self._folder.write_environment(values)
        self._start_children(values)
        say(welcome(self._options.port, self._folder.environment_file))

    def _provision(self, master_key: str) -> dict[str, str]:
        """Make what is not there; returns the environment of API and runner, still without a tenant."""
        if stack.provision(self._aws, self._template):
            say("  created tables, queues, bucket and event bus")
        outputs = stack.outputs(self._aws)
        self._bucket_events = outputs[stack.EVENTS_QUEUE]
        return {
            "STOWAGE_URL": f"http://localhost:{self._options.port}",
            **self._aws.environment(),
            "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{stack.remembered_port(self._folder.images_port)}",
            # The embedded S3 shows its objects to everybody: it stands in for the origin that a deployment has for public files.
            "STOWAGE_PUBLIC_BASE_URL": f"{self._aws.endpoint}/{outputs['InternalBucket']}/public",
            **self._options.settings,
            "STOWAGE_TABLE_PREFIX": self._template["Parameters"]["Prefix"]["Default"],
            "STOWAGE_S3_BUCKET": outputs["InternalBucket"],
            "STOWAGE_STORAGE_ROOT": str(self._folder.files.resolve()),
            "STOWAGE_MASTER_KEY_PARAMETER": f"file:{self._folder.key_file.resolve()}",
            "STOWAGE_JOBS_QUEUE": outputs["JobsQueueUrl"],
            "STOWAGE_EVENT_BUS": outputs["EventBusName"],
            "STOWAGE_IMAGE_FUNCTION": "image-transform",
        }

    def _with_tenant(self, values: dict[str, str]) -> dict[str, str]:
        """`values` with the demo tenant, which is made when `dev.env` names none that exists."""
        known = self._folder.read_environment()
        tenant = {name: known.get(name, "") for name in TENANT_VARIABLES}
        if not all(tenant.values()) or not self._tenant_exists(values["STOWAGE_TABLE_PREFIX"], tenant["TENANT_ID"]):
            say("  creating the demo tenant")
            made = self._make_tenant(values)
            tenant = {name: made[key] for name, key in TENANT_VARIABLES.items()}
        return {**tenant, **values, "STOWAGE_DEFAULT_TENANT": tenant["TENANT_ID"]}

    def _tenant_exists(self, prefix: str, tenant_id: str) -> bool:
        answer = self._aws.client("dynamodb").get_item(TableName=f"{prefix}-tenants", Key={"tenant_id": {"S": tenant_id}})
        return "Item" in answer

    def _make_tenant(self, values: dict[str, str]) -> dict[str, str]:
        command = [sys.executable, "-m", "infra.demo"]
        made = subprocess.run(command, env=self._child_environment(values), capture_output=True, text=True, check=False)
        if made.returncode:
            raise RunError(f"the demo tenant could not be made: {(made.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        answer: dict[str, str] = json.loads(made.stdout)
        return answer

    def _save(self) -> None:
        """Have the first start's rows written, so that no crash later takes the tables and the tenant with it."""
        say("  saving what was created")
        self._aws.stop()
        self._aws.start()
        self._folder.mark(complete=True)

    def _start_children(self, values: dict[str, str]) -> None:
        environment = self._child_environment(values)
        port = int(values["AWS_ENDPOINT_URL_LAMBDA"].rpartition(":")[2])
        invoker = self._spawn("the image function", ["infra.invoker", str(port)], environment)
        if not stack.await_answer(port, "/", invoker, API_TIMEOUT):
            raise RunError("the image function did not start; its reason stands above")
        local = ["chalice.cli:main", "local", "--host", "127.0.0.1", "--port", str(self._options.port), "--no-autoreload"]
        say("  starting the API")
        api = self._spawn("the API", ["infra.lifeline", *local], environment)
        if not stack.await_answer(self._options.port, "/health", api, API_TIMEOUT):
            raise RunError("the API did not start; its reason stands above")
        self._spawn("the runner", ["infra.runner", str(self._folder.stream_positions.resolve()), self._bucket_events], environment)

    def _spawn(self, name: str, module: list[str], environment: dict[str, str]) -> Child:
        self._children[name] = stack.spawn([sys.executable, "-m", *module], environment)
        return self._children[name]

    def _child_environment(self, values: dict[str, str]) -> dict[str, str]:
        """Metrics are for CloudWatch; unless asked for they would only fill the terminal."""
        quiet = {"POWERTOOLS_METRICS_DISABLED": "true"} | stack.without_aws(os.environ)
        return quiet | values | {"PYTHONUNBUFFERED": "1", "AWS_EC2_METADATA_DISABLED": "true"}

    # ---- watching and stopping -----------------------------------------------------------------------------
    def _watch(self) -> int:
        """Wait until a child ends by itself, which none should; returns the exit status for that."""
        watched: dict[str, Child | None] = {**self._children, "the embedded AWS": self._aws.process}
        while True:
            for name, process in watched.items():
                if process is not None and process.poll() is not None:
                    say(f"{name} ended by itself (exit status {process.returncode}); stopping the rest", error=True)
                    return 1
            time.sleep(WATCH_INTERVAL)

    def _stop(self) -> None:
        """Stop what was started. From here on signals are ignored: stopping twice would lose rows."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # In this order: what is under way in the API may still need the image function.
        timeouts = {"the API": API_STOP_TIMEOUT, "the runner": RUNNER_STOP_TIMEOUT, "the image function": IMAGES_STOP_TIMEOUT}
        say("stopping")
        for name, timeout in timeouts.items():
            if name in self._children and not stack.stop(self._children[name], timeout):
                say(f"{name} did not stop in time and was killed", error=True)
        if not self._aws.stop():
            say("the embedded AWS did not stop in time and was killed: changes of this run may be lost", error=True)


def welcome(port: int, environment_file: Path) -> str:
    """Where it listens and what to try first."""
    service = '-H "Authorization: Bearer $SERVICE_KEY"'
    return f"""
Stowage listens on http://localhost:{port} (Ctrl+C stops it). To try it, in another terminal:

  source {environment_file}
  curl -X POST "$STOWAGE_URL/storage/buckets" {service} -H "Content-Type: application/json" -d '{{"name": "hello", "public": true}}'
  curl -X POST "$STOWAGE_URL/storage/object/hello/README.md" {service} -H "Content-Type: text/markdown" --data-binary @README.md
  curl "$STOWAGE_URL/storage/object/hello/README.md" -H "Authorization: Bearer $ANON_KEY"
"""


def say(text: str, error: bool = False) -> None:
    """A line for the user."""
    print(f"stowage: {text}" if error else text, file=sys.stderr if error else sys.stdout, flush=True)


def _interrupt(number: int, frame: Any) -> None:
    raise Stopped


def main() -> int:
    """Run; every foreseeable failure is one line and exit status 1."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return Run(Options.read(os.environ)).run()
    except Stopped:
        return 0
    except (RunError, FolderError, stack.StackError, settings.SettingsError) as error:
        say(str(error), error=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
