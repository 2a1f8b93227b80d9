"""The embedded AWS: MiniStack as a child process, provisioned from the CloudFormation that also deploys.

`FOLDER/port`   the port that it had last time, taken again when it is free, so that sourced environments stay right
`FOLDER/state`  rows, queues, buckets' settings: written by MiniStack when it stops, and only then
`FOLDER/s3`     objects, written as they come
`FOLDER/log`    what MiniStack says

Of `infra/template.yaml` the tables, queues, bucket and bus are made here. The bucket notifies a function there;
here it notifies a queue with the same filters, and `infra/runner.py` calls the function.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import botocore.config
import botocore.session
import yaml
from botocore.exceptions import ClientError

TEMPLATE = Path(__file__).with_name("template.yaml")
STACK = "stowage"
REGION = "us-east-1"
ACCESS_KEY = "local"
SECRET_KEY = "local-secret"  # noqa: S105  of the embedded AWS alone
PROVISIONED = frozenset(
    ["AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::Events::EventBus"],
)
# The queue that stands for the function which the bucket notifies.
EVENTS_QUEUE = "LocalBucketEvents"
EVENTS_QUEUE_SECONDS = 60
# Seconds.
START_TIMEOUT = 60
STOP_TIMEOUT = 30
PROVISION_TIMEOUT = 60
# How much longer than its starter MiniStack lives when that dies without stopping it: what the runner needs to drain.
ORPHAN_DELAY = 10

_SUBSTITUTED = re.compile(r"\$\{([A-Za-z0-9]+)[.}]")

Template = dict[str, Any]


class StackError(Exception):
    """The embedded AWS cannot be had; the message is for the user."""


# ---- the template ----------------------------------------------------------------------------------------------
class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short tags as the functions that they abbreviate."""


def _short_tag(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        value = loader.construct_scalar(node)  # type: ignore[arg-type]  # scalars are all that is left
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_tag)


def read_template(path: Path = TEMPLATE) -> Template:
    """The deployed template with its short tags written out."""
    whole: Template = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a SafeLoader
    return whole


def local_template(path: Path = TEMPLATE) -> Template:
    """The part of the deployed template that the local run provisions, as plain CloudFormation."""
    whole = read_template(path)
    resources = {name: _local(resource) for name, resource in whole["Resources"].items() if resource.get("Type") in PROVISIONED}
    for resource in resources.values():
        _keep_known_dependencies(resource, resources)
    resources[EVENTS_QUEUE] = {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": EVENTS_QUEUE_SECONDS}}
    outputs = {name: output for name, output in whole.get("Outputs", {}).items() if set(_names(output)) <= resources.keys()}
    outputs[EVENTS_QUEUE] = {"Value": {"Ref": EVENTS_QUEUE}}
    conditions = {name: each for name, each in whole.get("Conditions", {}).items() if name in set(_names(resources))}
    named = set(_names([resources, conditions]))
    parameters = {name: each for name, each in whole.get("Parameters", {}).items() if name in named}
    return {"Parameters": parameters, "Conditions": conditions, "Resources": resources, "Outputs": outputs}


def _local(resource: dict[str, Any]) -> dict[str, Any]:
    properties = dict(resource.get("Properties", {}))
    notifications = properties.get("NotificationConfiguration")
    if notifications:
        queue = {"Fn::GetAtt": [EVENTS_QUEUE, "Arn"]}
        functions = notifications.get("LambdaConfigurations", [])
        configurations = [{key: each[key] for key in ("Event", "Filter") if key in each} | {"Queue": queue} for each in functions]
        properties["NotificationConfiguration"] = {"QueueConfigurations": configurations}
    return resource | {"Properties": properties}


def _keep_known_dependencies(resource: dict[str, Any], resources: Mapping[str, Any]) -> None:
    wanted = resource.pop("DependsOn", [])
    kept = [name for name in ([wanted] if isinstance(wanted, str) else wanted) if name in resources]
    if kept:
        resource["DependsOn"] = kept


def _names(tree: Any) -> Iterator[str]:
    """Every logical name that `tree` refers to, pseudo parameters apart."""
    if isinstance(tree, list):
        for each in tree:
            yield from _names(each)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("Ref", "Condition") and isinstance(value, str):
                yield from [] if value.startswith("AWS::") else [value]
            elif key == "Fn::GetAtt":
                yield value[0]
            elif key == "Fn::If":
                yield value[0]
                yield from _names(value[1:])
            elif key == "Fn::Sub":
                yield from _SUBSTITUTED.findall(value if isinstance(value, str) else value[0])
            else:
                yield from _names(value)


def fingerprint(template: Template) -> str:
    """Names the provisioned resources: data that was made for others does not fit."""
    return hashlib.sha256(json.dumps(template["Resources"], sort_keys=True).encode()).hexdigest()[:16]


# ---- the process -----------------------------------------------------------------------------------------------
class EmbeddedAWS:
    """MiniStack on a loopback port, its state in `folder`. `lock` is a file descriptor that it holds as long as it runs."""

    def __init__(self, folder: Path, lock: int | None = None) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = lock
        self._port = 0

    @property
    def endpoint(self) -> str:
        """The URL that stands for every AWS service."""
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """What an AWS SDK needs in its environment to talk to this AWS and never to a real one."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str) -> Any:
        """A botocore client of this AWS."""
        return aws_client(service, self.environment())

    def start(self) -> None:
        """Start it and wait until it answers; raises StackError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._port = remembered_port(self.folder / "port")
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "infra.lifeline", "--delay", str(ORPHAN_DELAY), "infra.embedded:main"]
            self.process = spawn(command, self._settings(), output=log, lock=self._lock)
        if not await_answer(self._port, "/_ministack/health", self.process, START_TIMEOUT):
            self.stop()
            raise StackError(f"the embedded AWS did not start; {self.folder / 'log'} ends:\n{self._last_words()}")

    def stop(self) -> bool:
        """Stop it so that it writes its state; returns False when it had to be killed."""
        return self.process is None or stop(self.process, STOP_TIMEOUT)

    def _settings(self) -> dict[str, str]:
        folder = self.folder.resolve()
        return without_aws(os.environ) | {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self._port),
            # It checks presigned URLs against these.
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "PERSIST_STATE": "1",
            "STATE_DIR": str(folder / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(folder / "s3"),
            "MINISTACK_REGION": REGION,
            "LOG_LEVEL": "WARNING",
            # Listeners on other ports and interfaces that nothing here uses.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
        }

    def _last_words(self) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-5:])


def remembered_port(file: Path) -> int:
    """A loopback port that nothing listens on: the one in `file` if it can be, else another, which is then noted there."""
    port = int(file.read_text()) if file.exists() else 0
    if not port or not port_is_free(port):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
    file.write_text(f"{port}\n")
    return port


def port_is_free(port: int) -> bool:
    """Whether nothing on this machine answers on `port`, by IPv4 or by IPv6, and it may be taken."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                probe.settimeout(1)
                if probe.connect_ex((address, port)) == 0:
                    return False
        except OSError:
            continue  # no IPv6 here
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def aws_client(service: str, environment: Mapping[str, str]) -> Any:
    """A botocore client from explicit settings, whatever this process's own environment or files say."""
    config = botocore.config.Config(connect_timeout=3, read_timeout=30, retries={"total_max_attempts": 2}, s3={"addressing_style": "path"})
    return botocore.session.Session().create_client(
        service,
        region_name=environment["AWS_DEFAULT_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=config,
    )


def without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without anything that would name a real account."""
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def spawn(command: list[str], environment: Mapping[str, str], output: Any = None, lock: int | None = None) -> "subprocess.Popen[bytes]":
    """Start a child that a Ctrl+C in the terminal does not reach, and that ends when this process does."""
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
        pass_fds=() if lock is None else (lock,),
    )


def stop(process: "subprocess.Popen[bytes]", timeout: float) -> bool:
    """End a child with SIGTERM; returns False when it did not end in time and was killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout)
        return True
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def await_answer(port: int, path: str, process: "subprocess.Popen[bytes]", timeout: float) -> bool:
    """Wait until `path` answers 200 on `port`; returns False when `process` ends or `timeout` seconds pass first."""
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == HTTPStatus.OK:
                return True
        except (OSError, http.client.HTTPException):
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(0.05)
    return False


# ---- provisioning ----------------------------------------------------------------------------------------------
def provision(aws: EmbeddedAWS, template: Template) -> bool:
    """Create the stack unless it is there; returns whether it was created. Raises StackError."""
    formation = aws.client("cloudformation")
    if _status(formation) == "CREATE_COMPLETE":
        return False
    formation.create_stack(StackName=STACK, TemplateBody=json.dumps(template))
    deadline = time.monotonic() + PROVISION_TIMEOUT
    while (status := _status(formation)) == "CREATE_IN_PROGRESS" and time.monotonic() < deadline:
        time.sleep(0.1)
    if status != "CREATE_COMPLETE":
        raise StackError(f"the tables could not be created ({status}): {_reasons(formation)}")
    return True


def _status(formation: Any) -> str:
    try:
        return str(formation.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return "none"


def _reasons(formation: Any) -> str:
    events = formation.describe_stack_events(StackName=STACK)["StackEvents"]
    failed = [event for event in events if event["ResourceStatus"].endswith("FAILED")]
    return "; ".join(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}" for event in failed)


def outputs(aws: EmbeddedAWS) -> dict[str, str]:
    """The stack's outputs: physical names by the name of the output. Queue URLs have the port of now."""
    described = aws.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
    found = {each["OutputKey"]: each["OutputValue"] for each in described}
    queues = aws.client("sqs")
    for name, value in found.items():
        if value.startswith("http"):
            found[name] = queues.get_queue_url(QueueName=value.rpartition("/")[2])["QueueUrl"]
    return found


def discard(folder: Path) -> None:
    """Remove the state of an embedded AWS whose first start did not come to its end."""
    shutil.rmtree(folder, ignore_errors=True)
