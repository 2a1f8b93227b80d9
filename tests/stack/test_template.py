"""What the deployed template promises: durable tables, a private bucket, least privilege, alarms."""

import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.core import transforms
from chalicelib.images.transform import MAX_PIXELS
from chalicelib.settings import PAYLOAD_LIMIT
from tests.unit.test_template import MODELS, noun

from .deployed import Stack

Resources = dict[str, dict[str, Any]]

FUNCTIONS = {
    "APIHandler": "ApiHandlerRole",
    "ImageTransform": "ImageTransformRole",
    "ObjectRows": "ObjectRowsRole",
    "BucketObjects": "BucketObjectsRole",
    "JobWorker": "JobWorkerRole",
    "Hourly": "HourlyRole",
}
TABLES = (
    "tenants",
    "api-keys",
    "buckets",
    "policies",
    "storages",
    "objects",
    "jobs",
    "garbage",
    "uploads",
    "keys",
    "deltas",
    "folders",
    "transforms",
    "limits",
)
# Rows of minutes and hours, which nobody would want back.
PASSING = ("TransformsTable", "LimitsTable")
DEAD_LETTERS = ("jobs-dead", "object-rows-dead", "bucket-objects-dead", "hourly-dead")


@pytest.fixture(scope="module")
def resources(stack: Stack) -> Resources:
    found: Resources = stack.template()["Resources"]
    return found


def of_type(resources: Resources, kind: str) -> Resources:
    return {name: resource for name, resource in resources.items() if resource["Type"] == kind}


def statements(resources: Resources, role: str) -> list[dict[str, Any]]:
    (policy,) = resources[role]["Properties"]["Policies"]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def test_cfn_lint_finds_nothing(stack: Stack) -> None:
    beside = Path(sysconfig.get_path("scripts"), "cfn-lint")
    command = str(beside) if beside.exists() else shutil.which("cfn-lint")
    assert command, "cfn-lint is in infra/requirements.txt"
    template = str(stack.out / "template.json")
    run = subprocess.run([command, "-r", "us-east-1", "eu-central-1", "-t", template], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


# ---- tables ------------------------------------------------------------------------------------------------------
# The embedded CloudFormation leaves out restoring, lifetimes and lifecycles: of these the template itself is asked.
def test_every_table_is_on_demand_encrypted_and_can_be_restored_to_any_second(stack: Stack, resources: Resources) -> None:
    assert {f"{stack.prefix}-{noun}" for noun in TABLES} <= set(stack.client("dynamodb").list_tables()["TableNames"])
    tables = of_type(resources, "AWS::DynamoDB::Table")
    assert len(tables) == len(TABLES)
    for name, table in tables.items():
        properties = table["Properties"]
        assert properties["BillingMode"] == "PAY_PER_REQUEST", name
        assert name in PASSING or properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}, name
        assert properties["SSESpecification"] == {"SSEEnabled": True}, name


def test_deleting_the_stack_deletes_no_data(resources: Resources) -> None:
    for kind in ("AWS::DynamoDB::Table", "AWS::S3::Bucket"):
        for name, resource in of_type(resources, kind).items():
            kept = ("Delete", "Delete") if name in PASSING else ("RetainExceptOnCreate", "Retain")
            assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == kept, name


def test_keys_of_tables_and_models_are_the_same(stack: Stack) -> None:
    for model in MODELS:
        schema = stack.client("dynamodb").describe_table(TableName=f"{stack.prefix}-{noun(model)}")["Table"]["KeySchema"]
        by_kind = {key["KeyType"]: key["AttributeName"] for key in schema}
        attributes = model.get_attributes().values()
        kinds = [("HASH" if key.is_hash_key else "RANGE", key.attr_name) for key in attributes if key.is_hash_key or key.is_range_key]
        assert by_kind == dict(kinds), model.__name__


def test_finished_jobs_expire_and_unfinished_ones_are_found_by_index(stack: Stack, resources: Resources) -> None:
    assert resources["JobsTable"]["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    indexes = stack.client("dynamodb").describe_table(TableName=f"{stack.prefix}-jobs")["Table"]["GlobalSecondaryIndexes"]
    assert {index["IndexName"] for index in indexes} == {"pending"}


def test_uploads_are_forgotten_and_those_to_be_freed_are_found_by_index(stack: Stack, resources: Resources) -> None:
    assert resources["UploadsTable"]["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "forget_at", "Enabled": True}
    indexes = stack.client("dynamodb").describe_table(TableName=f"{stack.prefix}-uploads")["Table"]["GlobalSecondaryIndexes"]
    assert {index["Projection"]["ProjectionType"] for index in indexes} == {"KEYS_ONLY"}
    keyed = {index["IndexName"]: tuple(key["AttributeName"] for key in index["KeySchema"]) for index in indexes}
    assert keyed == {
        "by-expiry": ("expiry_hour", "upload_id"),
        "newest": ("files_key", "upload_id"),
        "newest-of-creator": ("files_of_creator_key", "upload_id"),
    }


def test_files_are_found_by_the_one_index_that_has_what_a_list_shows(stack: Stack) -> None:
    indexes = stack.client("dynamodb").describe_table(TableName=f"{stack.prefix}-objects")["Table"]["GlobalSecondaryIndexes"]
    assert {index["Projection"]["ProjectionType"] for index in indexes} == {"ALL"}
    keyed = {index["IndexName"]: tuple(key["AttributeName"] for key in index["KeySchema"]) for index in indexes}
    assert keyed == {
        "by-owner": ("owner_key", "name"),
        "newest": ("files_key", "created_at"),
        "newest-of-owner": ("files_of_owner_key", "created_at"),
        "newest-in-folder": ("files_in_folder_key", "created_at"),
        "newest-of-owner-in-folder": ("files_of_owner_in_folder_key", "created_at"),
    }


def test_keys_of_a_user_folders_in_one_and_deltas_to_be_looked_at_are_found_by_index(stack: Stack) -> None:
    for table, expected in (
        ("keys", ("by-owner", "ALL", "owner_key", "key_uuid")),
        ("deltas", ("by-expiry", "KEYS_ONLY", "expiry_hour", "item")),
        ("folders", ("by-parent", "KEYS_ONLY", "parent_key", "folder_id")),
    ):
        (index,) = stack.client("dynamodb").describe_table(TableName=f"{stack.prefix}-{table}")["Table"]["GlobalSecondaryIndexes"]
        by_kind = {key["KeyType"]: key["AttributeName"] for key in index["KeySchema"]}
        assert (index["IndexName"], index["Projection"]["ProjectionType"], by_kind["HASH"], by_kind["RANGE"]) == expected


def test_the_stream_is_read_from_its_start_with_finite_retries_and_dead_letters(stack: Stack) -> None:
    (mapping,) = stack.client("lambda").list_event_source_mappings(FunctionName=f"{stack.prefix}-object-rows")["EventSourceMappings"]
    assert mapping["EventSourceArn"].startswith(
        stack.client("dynamodb").describe_table(TableName=f"{stack.prefix}-objects")["Table"]["TableArn"]
    )
    assert (mapping["StartingPosition"], mapping["BatchSize"]) == ("TRIM_HORIZON", 100)
    assert mapping["BisectBatchOnFunctionError"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 0 < mapping["MaximumRetryAttempts"] <= 10
    assert 0 < mapping["MaximumRecordAgeInSeconds"] < 86400
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"].endswith("-object-rows-dead")


# ---- queues ------------------------------------------------------------------------------------------------------
def test_the_jobs_queue_outlasts_its_worker_and_gives_up_after_five_receives(stack: Stack) -> None:
    sqs = stack.client("sqs")
    attributes = sqs.get_queue_attributes(QueueUrl=stack.outputs()["JobsQueueUrl"], AttributeNames=["All"])["Attributes"]
    worker = stack.client("lambda").get_function_configuration(FunctionName=f"{stack.prefix}-job-worker")
    assert int(attributes["VisibilityTimeout"]) > worker["Timeout"]
    redrive = json.loads(attributes["RedrivePolicy"])
    assert int(redrive["maxReceiveCount"]) == 5
    assert redrive["deadLetterTargetArn"].endswith("-jobs-dead")


def test_every_queue_is_encrypted(resources: Resources) -> None:
    queues = of_type(resources, "AWS::SQS::Queue")
    assert len(queues) == 1 + len(DEAD_LETTERS)
    assert all(queue["Properties"]["SqsManagedSseEnabled"] for queue in queues.values())


@pytest.mark.parametrize("function", ["bucket-objects", "hourly"])
def test_an_asynchronous_call_that_fails_goes_to_dead_letters(stack: Stack, function: str) -> None:
    config = stack.client("lambda").get_function_event_invoke_config(FunctionName=f"{stack.prefix}-{function}", Qualifier="$LATEST")
    assert config["DestinationConfig"]["OnFailure"]["Destination"].endswith(f"-{function}-dead")


# ---- the bucket --------------------------------------------------------------------------------------------------
def test_the_bucket_is_private_and_encrypted(stack: Stack) -> None:
    s3, name = stack.client("s3"), stack.outputs()["InternalBucket"]
    assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
    (rule,) = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (ownership,) = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    assert ownership["ObjectOwnership"] == "BucketOwnerEnforced"


def test_the_bucket_forgets_unfinished_uploads_and_old_transforms(resources: Resources) -> None:
    rules = resources["InternalBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    kept = [{name: value for name, value in rule.items() if name not in ("Id", "Status")} for rule in rules]
    assert kept == [
        {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 30}},
        {"Prefix": "uploads/", "ExpirationInDays": 7},
        {"Prefix": "transforms/", "ExpirationInDays": 1},
        {"Prefix": "public/", "ExpirationInDays": 1},
        {"Prefix": "staged/", "ExpirationInDays": 1},
    ]
    assert {rule["Status"] for rule in rules} == {"Enabled"}


def test_any_page_may_use_a_presigned_url_without_cookies(stack: Stack) -> None:
    (rule,) = stack.client("s3").get_bucket_cors(Bucket=stack.outputs()["InternalBucket"])["CORSRules"]
    assert rule["AllowedOrigins"] == ["*"]
    assert set(rule["AllowedMethods"]) == {"GET", "PUT", "HEAD"}
    assert {"ETag", "Content-Range"} <= set(rule["ExposeHeaders"])


def test_the_bucket_refuses_requests_without_tls(stack: Stack) -> None:
    name, iam = stack.outputs()["InternalBucket"], stack.client("iam")
    iam.create_user(UserName="reader")
    allowed = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{name}"}
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    s3 = stack.client("s3", key["AccessKeyId"], key["SecretAccessKey"])
    assert s3.list_objects_v2(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 200
    # The embedded AWS believes this header, as behind a load balancer.
    s3.meta.events.register("before-send.s3", lambda request, **_: request.headers.__setitem__("X-Forwarded-Proto", "http"))
    with pytest.raises(ClientError) as refused:
        s3.list_objects_v2(Bucket=name)
    assert refused.value.response["Error"]["Code"] == "AccessDenied"


# ---- least privilege ---------------------------------------------------------------------------------------------
def test_each_function_has_a_role_of_its_own(resources: Resources) -> None:
    functions = of_type(resources, "AWS::Serverless::Function")
    assert {name: function["Properties"]["Role"]["Fn::GetAtt"][0] for name, function in functions.items()} == FUNCTIONS


@pytest.mark.parametrize("role", FUNCTIONS.values())
def test_no_role_holds_a_wildcard_that_aws_does_not_demand(resources: Resources, role: str) -> None:
    for statement in statements(resources, role):
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action], statement["Sid"]
        # X-Ray's two actions know no resource.
        if statement["Resource"] == "*":
            assert statement["Action"] == ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]


@pytest.mark.parametrize(
    ("role", "action"),
    [
        ("ImageTransformRole", "s3:DeleteObject"),
        ("ImageTransformRole", "dynamodb:GetItem"),
        ("ImageTransformRole", "ssm:GetParameter"),
        ("ImageTransformRole", "lambda:InvokeFunction"),
        ("ApiHandlerRole", "events:PutEvents"),
        ("BucketObjectsRole", "dynamodb:ConditionCheckItem"),
        ("ObjectRowsRole", "s3:GetObject"),
        ("ObjectRowsRole", "ssm:GetParameter"),
        ("ApiHandlerRole", "s3:ListBucketMultipartUploads"),
        ("BucketObjectsRole", "s3:PutObject"),
        ("BucketObjectsRole", "s3:AbortMultipartUpload"),
        ("BucketObjectsRole", "dynamodb:DeleteItem"),
        ("BucketObjectsRole", "ssm:GetParameter"),
        ("ObjectRowsRole", "s3:AbortMultipartUpload"),
        ("JobWorkerRole", "s3:ListBucketMultipartUploads"),
        ("HourlyRole", "s3:PutObject"),
    ],
)
def test_a_role_lacks_what_its_function_never_does(resources: Resources, role: str, action: str) -> None:
    granted = {action for statement in statements(resources, role) for action in statement["Action"]}
    assert action not in granted


def test_the_api_scans_no_table_but_that_of_the_tenants(resources: Resources) -> None:
    scanned = [statement["Resource"] for statement in statements(resources, "ApiHandlerRole") if "dynamodb:Scan" in statement["Action"]]
    assert scanned == [{"Fn::GetAtt": ["TenantsTable", "Arn"]}]


def test_only_the_hourly_function_looks_for_uploads_that_were_forgotten(resources: Resources) -> None:
    assert _roles_with(resources, "s3:ListBucketMultipartUploads") == {"HourlyRole"}


def test_only_the_hourly_function_deletes_any_bytes_and_three_others_deltas(resources: Resources) -> None:
    everything = "arn:${AWS::Partition}:s3:::${Prefix}-${AWS::AccountId}-${AWS::Region}/"
    assert _roles_with(resources, "s3:DeleteObject") == {"HourlyRole", "ApiHandlerRole", "JobWorkerRole", "BucketObjectsRole"}
    for role in FUNCTIONS.values():
        folders = {"HourlyRole": ["*"], "JobWorkerRole": ["deltas/*", "public/*"]}.get(role, ["deltas/*"])
        granted = [statement["Resource"] for statement in statements(resources, role) if "s3:DeleteObject" in statement["Action"]]
        assert granted in ([], [{"Fn::Sub": everything + folder} for folder in folders]), role


def _roles_with(resources: Resources, action: str) -> set[str]:
    return {role for role in FUNCTIONS.values() for statement in statements(resources, role) if action in statement["Action"]}


def test_the_image_function_reads_sources_and_writes_transforms_alone(resources: Resources) -> None:
    bucket = "arn:${AWS::Partition}:s3:::${Prefix}-${AWS::AccountId}-${AWS::Region}"
    granted = {(action, str(each["Resource"])) for each in statements(resources, "ImageTransformRole") for action in each["Action"]}
    assert {(action, resource) for action, resource in granted if action.startswith("s3:")} == {
        ("s3:GetObject", str([{"Fn::Sub": f"{bucket}/objects/*"}, {"Fn::Sub": f"{bucket}/staged/*"}])),
        ("s3:PutObject", str([{"Fn::Sub": f"{bucket}/transforms/*"}, {"Fn::Sub": f"{bucket}/public/*"}])),
        ("s3:ListBucket", str({"Fn::Sub": bucket})),
    }


def test_only_the_api_invokes_and_only_the_image_function(resources: Resources) -> None:
    found = [
        (role, each) for role in FUNCTIONS.values() for each in statements(resources, role) if "lambda:InvokeFunction" in each["Action"]
    ]
    assert [(role, each["Resource"]) for role, each in found] == [("ApiHandlerRole", {"Fn::GetAtt": ["ImageTransform", "Arn"]})]


def test_only_those_who_have_to_do_with_uploads_may_read_or_change_them(resources: Resources) -> None:
    def granted(resource: dict[str, Any]) -> dict[str, set[str]]:
        found = {role: [each for each in statements(resources, role) if each["Resource"] == resource] for role in FUNCTIONS.values()}
        return {role: {action for each in its for action in each["Action"]} for role, its in found.items() if its}

    changing = {"dynamodb:GetItem", "dynamodb:UpdateItem"}
    assert granted({"Fn::GetAtt": ["UploadsTable", "Arn"]}) == {
        "ApiHandlerRole": changing | {"dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query"},
        "BucketObjectsRole": changing,
        "JobWorkerRole": changing | {"dynamodb:PutItem"},
        "HourlyRole": changing | {"dynamodb:BatchWriteItem", "dynamodb:Query", "dynamodb:Scan"},
    }
    assert granted({"Fn::Sub": "${UploadsTable.Arn}/index/by-expiry"}) == {"HourlyRole": {"dynamodb:Query"}}
    assert granted({"Fn::Sub": "${UploadsTable.Arn}/index/newest*"}) == {"ApiHandlerRole": {"dynamodb:Query"}}


@pytest.mark.parametrize(("role", "may"), [(role, role == "HourlyRole") for role in FUNCTIONS.values()])
def test_a_role_is_refused_what_it_lacks(stack: Stack, role: str, may: bool) -> None:
    """The roles for real: so when a function does its work in these tests, its role has sufficed."""
    name = stack.client("cloudformation").describe_stack_resource(StackName=stack.prefix, LogicalResourceId=role)
    arn = stack.client("iam").get_role(RoleName=name["StackResourceDetail"]["PhysicalResourceId"])["Role"]["Arn"]
    # The embedded AWS lets the account's root into any role.
    taken = stack.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    s3 = stack.client("s3", taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"])
    request = {"Bucket": stack.outputs()["InternalBucket"], "Key": "objects/none"}
    if may:
        s3.delete_object(**request)
        return
    with pytest.raises(ClientError) as refused:
        s3.delete_object(**request)
    assert refused.value.response["Error"]["Code"] == "AccessDenied"


def test_only_who_opens_secrets_knows_where_the_master_key_lies(stack: Stack) -> None:
    functions = stack.client("lambda").list_functions()["Functions"]
    knowing = [function["FunctionName"] for function in functions if "STOWAGE_MASTER_KEY_PARAMETER" in function["Environment"]["Variables"]]
    assert sorted(knowing) == [f"{stack.prefix}-{name}" for name in ("api", "hourly", "job-worker")]


# ---- what operators see ------------------------------------------------------------------------------------------
def test_every_function_logs_into_a_group_that_expires(stack: Stack, resources: Resources) -> None:
    groups = {group["logGroupName"]: group.get("retentionInDays") for group in stack.client("logs").describe_log_groups()["logGroups"]}
    for name, function in of_type(resources, "AWS::Serverless::Function").items():
        called = function["Properties"]["FunctionName"]["Fn::Sub"].replace("${Prefix}", stack.prefix)
        assert groups[f"/aws/lambda/{called}"] == 30, name
        assert function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] in resources


def test_the_image_function_has_memory_for_what_it_takes_on_and_a_limit_if_one_is_chosen(resources: Resources) -> None:
    """Sixteen bytes a pixel: four of the picture, as many of what it is made into, and what decoders take beside."""
    properties = resources["ImageTransform"]["Properties"]
    assert properties["MemorySize"] * 1024 * 1024 >= 16 * MAX_PIXELS
    assert properties["ReservedConcurrentExecutions"]["Fn::If"][:2] == ["HasImageConcurrency", {"Ref": "ImageConcurrency"}]


def test_dead_letters_failures_5xx_and_a_late_stream_raise_alarms(stack: Stack) -> None:
    alarms = stack.client("cloudwatch").describe_alarms()["MetricAlarms"]
    watched = {(alarm["MetricName"], *(dimension["Value"] for dimension in alarm["Dimensions"])) for alarm in alarms}
    functions = ("api", "image-transform", "object-rows", "bucket-objects", "job-worker", "hourly")
    assert watched == {
        *(("ApproximateNumberOfMessagesVisible", f"{stack.prefix}-{queue}") for queue in DEAD_LETTERS),
        *(("Errors", f"{stack.prefix}-{function}") for function in functions),
        ("IteratorAge", f"{stack.prefix}-object-rows"),
        ("5XXError", stack.prefix),
        ("SweepsStopped", "hourly", "stowage"),
    }


def test_alarms_reach_the_chosen_topic_and_address(resources: Resources) -> None:
    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        conditions = [action["Fn::If"][0] for action in alarm["Properties"]["AlarmActions"]]
        assert conditions == ["HasAlarmTopic", "HasAlarmEmail"], name


# ---- API Gateway -------------------------------------------------------------------------------------------------
def test_what_api_gateway_answers_itself_is_an_error_of_ours_with_cors(resources: Resources) -> None:
    responses = resources["RestAPI"]["Properties"]["GatewayResponses"]
    expected = {"MISSING_AUTHENTICATION_TOKEN": 404, "REQUEST_TOO_LARGE": 413, "THROTTLED": 429, "DEFAULT_4XX": None, "DEFAULT_5XX": None}
    assert {kind: response.get("StatusCode") for kind, response in responses.items()} == expected
    for response in responses.values():
        assert response["ResponseParameters"]["Headers"]["Access-Control-Allow-Origin"] == "'*'"
        # API Gateway puts a JSON string in place of this variable.
        filled = response["ResponseTemplates"]["application/json"].replace("$context.error.messageString", '"why"')
        assert set(json.loads(filled)) == {"code", "message", "request_id"}
    assert responses["THROTTLED"]["ResponseParameters"]["Headers"]["Retry-After"] == "'1'"
    assert responses["REQUEST_TOO_LARGE"]["ResponseParameters"]["Headers"]["x-chunk-max"] == f"'{PAYLOAD_LIMIT}'"


def test_the_api_is_throttled_traced_and_has_one_stage(resources: Resources) -> None:
    api = resources["RestAPI"]["Properties"]
    (settings,) = api["MethodSettings"]
    assert (settings["HttpMethod"], settings["ResourcePath"]) == ("*", "/*")
    assert {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= settings.keys()
    assert api["TracingEnabled"] is True
    assert api["OpenApiVersion"] == "2.0"
    assert api["EndpointConfiguration"] == "REGIONAL"


def test_functions_end_before_api_gateway_stops_waiting(resources: Resources) -> None:
    timeouts = {name: resources[name]["Properties"]["Timeout"] for name in ("APIHandler", "ImageTransform")}
    assert timeouts == {"APIHandler": 28, "ImageTransform": 18}
    latest = transforms.TAKE_UP + transforms.CONNECT_TIMEOUT + transforms.INVOKE_TIMEOUT
    assert 18 < transforms.INVOKE_TIMEOUT < latest <= transforms.CLAIM < 28
    assert transforms.INVOKE_TIMEOUT < transforms.WAIT < 28
    assert all(function["Properties"]["Tracing"] == "Active" for function in of_type(resources, "AWS::Serverless::Function").values())


def test_background_functions_do_not_import_the_api(resources: Resources) -> None:
    functions = of_type(resources, "AWS::Serverless::Function")
    handlers = {name: function["Properties"]["Handler"] for name, function in functions.items() if name != "APIHandler"}
    assert handlers.pop("ImageTransform") == "chalicelib.images.function.image_transform"
    assert all(re.fullmatch(r"chalicelib\.workers\.[a-z_]+", handler) for handler in handlers.values())


def test_only_a_distribution_that_is_named_may_read_what_is_public_and_nothing_else(resources: Resources) -> None:
    told = resources["InternalBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    ((condition, allowed, otherwise),) = [each["Fn::If"] for each in told if "Fn::If" in each]
    assert (condition, otherwise) == ("HasPublicDistribution", {"Ref": "AWS::NoValue"})
    assert (allowed["Principal"], allowed["Action"]) == ({"Service": "cloudfront.amazonaws.com"}, "s3:GetObject")
    assert allowed["Resource"] == {"Fn::Sub": "${InternalBucket.Arn}/public/*"}
    assert allowed["Condition"] == {"StringEquals": {"aws:SourceArn": {"Ref": "PublicDistributionArn"}}}
