"""Deploys one stage of Stowage into the AWS account that the environment's credentials belong to.

    python -m infra.deploy --stage prod [--arch arm64|x86_64|host] [--parameter CorsOrigins=https://app.example]

A stage is the CloudFormation stack `stowage-{stage}`, and everything in it has that prefix. Outside the stack
lie the bucket for artifacts and the master key, which must outlive it: without the key no sealed secret opens.
Running it again updates the stage, keeps the parameters that are not given, and changes nothing else.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra import package

STAGE = re.compile(r"[a-z0-9][a-z0-9-]{0,14}")
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
# Seconds between two looks at CloudFormation, which needs minutes.
PAUSE = 2.0
# Long enough to roll back to any recent deployment.
ARTIFACT_DAYS = 90
MASTER_KEY_BYTES = 32
SUCCESS = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


class DeployError(Exception):
    """The stage cannot be deployed; the message is the one line to show."""


def deploy(stage: str, arch: str, out: Path, parameters: dict[str, str], new_admin_key: bool = False) -> None:
    """Package, upload and deploy `stage`; print its URL and, the first time or when asked for, an admin key.

    Raises DeployError, PackageError, or what botocore raises when AWS refuses or cannot be reached.
    """
    if not STAGE.fullmatch(stage):
        raise DeployError(f"{stage!r} is no stage name; use up to 15 lower-case letters, digits and hyphens")
    session = _session()
    account = session.client("sts").get_caller_identity()["Account"]
    prefix = f"stowage-{stage}"
    # Said when set: a shell that has sourced the local run's environment would deploy into the embedded AWS.
    elsewhere = f", at {os.environ['AWS_ENDPOINT_URL']}" if os.environ.get("AWS_ENDPOINT_URL") else ""
    _step(f"stage {stage}: stack {prefix} in account {account}, region {session.region_name}{elsewhere}")
    package.build(out, arch)
    bucket = _artifact_bucket(session, account)
    template_url = _upload(session, bucket, out)
    _ensure_master_key(session, prefix)
    outputs = _deploy_stack(session, prefix, template_url, parameters | {"Prefix": prefix})
    _step(f"the API listens on {outputs['EndpointURL']}")
    if new_admin_key or not _has_admin_key(session, prefix):
        _step("an admin key, shown only this once; POST /admin/tenants creates tenants with it:")
        print(_create_admin_key(prefix, session.region_name))


def _step(text: str) -> None:
    print(f"deploy: {text}", flush=True)


def _session() -> Any:
    session = boto3.Session()
    if not session.region_name:
        raise DeployError("no region is chosen; set AWS_DEFAULT_REGION or a profile that has one")
    if session.get_credentials() is None:
        raise DeployError("no AWS credentials were found; run `aws configure` or set AWS_PROFILE")
    return session


# ---- artifacts ---------------------------------------------------------------------------------------------------
def _artifact_bucket(session: Any, account: str) -> str:
    """The private bucket for packages of this account and region, made when it is not there."""
    s3, name = session.client("s3"), f"stowage-artifacts-{account}-{session.region_name}"
    try:
        s3.head_bucket(Bucket=name, ExpectedBucketOwner=account)
        return name
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise DeployError(f"the bucket {name} exists but is not this account's to use") from error
    _step(f"creating the bucket {name}")
    # S3 refuses us-east-1 as a constraint: it is what no constraint means.
    place = {} if session.region_name == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": session.region_name}}
    s3.create_bucket(Bucket=name, **place)
    blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True))
    rule = {"ID": "expire", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": ARTIFACT_DAYS}}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    return name


def _upload(session: Any, bucket: str, out: Path) -> str:
    """Upload zip and template under the hash of their bytes; the URL of the template."""
    s3, packed = session.client("s3"), (out / "deployment.zip").read_bytes()
    code = f"{hashlib.sha256(packed).hexdigest()}.zip"
    _step(f"uploading {len(packed) / 1_000_000:.1f} MB to s3://{bucket}/{code}")
    s3.put_object(Bucket=bucket, Key=code, Body=packed)
    document = json.dumps(package.template(out, f"s3://{bucket}/{code}"), sort_keys=True).encode()
    key = f"{hashlib.sha256(document).hexdigest()}.json"
    s3.put_object(Bucket=bucket, Key=key, Body=document)
    return f"{s3.meta.endpoint_url}/{bucket}/{key}"


# ---- secrets -----------------------------------------------------------------------------------------------------
def _ensure_master_key(session: Any, prefix: str) -> None:
    """Create the SecureString that seals every secret; one that exists is never replaced."""
    ssm, name = session.client("ssm"), f"/{prefix}/master-key"
    value = base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode()
    try:
        ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=False, Description="The root of Stowage's derived keys")
        _step(f"created the master key {name}; keep a copy, because no sealed secret opens without it")
    except ssm.exceptions.ParameterAlreadyExists:
        _step(f"keeping the master key {name}")


def _has_admin_key(session: Any, prefix: str) -> bool:
    pages = (
        session.client("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=f"{prefix}-api-keys",
            FilterExpression="#role = :admin",
            ExpressionAttributeNames={"#role": "role"},
            ExpressionAttributeValues={":admin": {"S": "admin"}},
            ConsistentRead=True,
        )
    )
    return any(page["Items"] for page in pages)


def _create_admin_key(prefix: str, region: str) -> str:
    """The core's own function, under the settings of the stage and none of the caller's."""
    for name in [name for name in os.environ if name.startswith("STOWAGE_")]:
        del os.environ[name]
    os.environ |= {"STOWAGE_TABLE_PREFIX": prefix, "AWS_REGION": region}
    # Imported only now: `chalicelib` reads its settings when it is imported.
    from chalicelib.core import tenants

    return tenants.create_admin_key()


# ---- the stack ---------------------------------------------------------------------------------------------------
def _deploy_stack(session: Any, name: str, template_url: str, parameters: dict[str, str]) -> dict[str, str]:
    """Bring the stack to the template by way of a change set; its outputs."""
    cloudformation = session.client("cloudformation")
    stack = _stack(cloudformation, name)
    change_set = cloudformation.create_change_set(
        StackName=name,
        ChangeSetName=f"deploy-{secrets.token_hex(8)}",
        ChangeSetType="UPDATE" if stack else "CREATE",
        # A first deployment that fails leaves no stack that would have to be deleted before the second.
        **({} if stack else {"OnStackFailure": "DELETE"}),
        TemplateURL=template_url,
        Capabilities=CAPABILITIES,
        Parameters=_parameters(cloudformation, template_url, stack, parameters),
    )
    if _changes(cloudformation, change_set["Id"]):
        started = _event_ids(cloudformation, change_set["StackId"])
        cloudformation.execute_change_set(ChangeSetName=change_set["Id"])
        stack = _follow(cloudformation, change_set["StackId"], started)
    else:
        _step("nothing has changed since the last deployment")
    return {output["OutputKey"]: output["OutputValue"] for output in (stack or {}).get("Outputs", [])}


def _stack(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """The stack, or None when there is none to update yet."""
    try:
        stack: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise
    if stack["StackStatus"] == "ROLLBACK_COMPLETE":
        raise DeployError(f"the stack {name} was never completed; delete it (aws cloudformation delete-stack --stack-name {name})")
    return None if stack["StackStatus"] == "REVIEW_IN_PROGRESS" else stack


def _parameters(cloudformation: Any, template_url: str, stack: dict[str, Any] | None, chosen: dict[str, str]) -> list[dict[str, Any]]:
    """The chosen values, and for an update the previous ones of all others."""
    known = {declared["ParameterKey"] for declared in cloudformation.get_template_summary(TemplateURL=template_url)["Parameters"]}
    unknown = chosen.keys() - known
    if unknown:
        raise DeployError(f"the template has no parameter {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    before = {parameter["ParameterKey"] for parameter in (stack or {}).get("Parameters", [])}
    kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in sorted(before & known - chosen.keys())]
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in sorted(chosen.items())] + kept


def _changes(cloudformation: Any, change_set: str) -> bool:
    """Wait until the change set is computed; whether it holds any change."""
    while True:
        described = cloudformation.describe_change_set(ChangeSetName=change_set)
        if described["Status"] == "CREATE_COMPLETE":
            return True
        if described["Status"] == "FAILED":
            break
        time.sleep(PAUSE)
    cloudformation.delete_change_set(ChangeSetName=change_set)
    reason = described.get("StatusReason", "")
    if "didn't contain changes" in reason or "No updates are to be performed" in reason:
        return False
    raise DeployError(f"CloudFormation refused the template: {reason}")


def _follow(cloudformation: Any, stack_id: str, seen: set[str]) -> dict[str, Any]:
    """Show the stack's events until it stands still; the stack, or DeployError with the first failure."""
    failure = ""
    while True:
        stack: dict[str, Any] = cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]
        for event in _new_events(cloudformation, stack_id, seen):
            _step(f"{event['ResourceStatus']:<28} {event['ResourceType']:<36} {event['LogicalResourceId']}")
            if event["ResourceStatus"].endswith("_FAILED") and not failure:
                failure = f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            break
        time.sleep(PAUSE)
    if stack["StackStatus"] not in SUCCESS:
        raise DeployError(f"the stack ended as {stack['StackStatus']}: {failure or stack.get('StackStatusReason', 'no reason given')}")
    return stack


def _new_events(cloudformation: Any, stack_id: str, seen: set[str]) -> Iterator[dict[str, Any]]:
    """The stack's events that are not in `seen`, oldest first; they are then."""
    fresh: list[dict[str, Any]] = []
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id):
        unseen = [event for event in page["StackEvents"] if event["EventId"] not in seen]
        fresh += unseen
        if len(unseen) < len(page["StackEvents"]):
            break
    seen.update(event["EventId"] for event in fresh)
    yield from reversed(fresh)


def _event_ids(cloudformation: Any, stack_id: str) -> set[str]:
    seen: set[str] = set()
    list(_new_events(cloudformation, stack_id, seen))
    return seen


# ---- the command line --------------------------------------------------------------------------------------------
def _assignment(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0, or 1 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description="Deploy one stage into AWS.")
    parser.add_argument("--stage", required=True, help="name of the installation: its stack is stowage-STAGE")
    parser.add_argument("--arch", choices=["arm64", "x86_64", "host"], default="arm64", help="architecture of the functions (arm64)")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the package (dist)")
    parser.add_argument(
        "--parameter", type=_assignment, action="append", default=[], metavar="NAME=VALUE", help="a parameter of the template"
    )
    parser.add_argument("--new-admin-key", action="store_true", help="create another admin key, as when the first is lost")
    chosen = parser.parse_args(arguments)
    try:
        deploy(chosen.stage, chosen.arch, chosen.out, dict(chosen.parameter), chosen.new_admin_key)
    except (DeployError, package.PackageError, BotoCoreError, ClientError) as error:
        print(f"deploy: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
