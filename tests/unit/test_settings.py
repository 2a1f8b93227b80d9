"""Settings: every variable, its default, and errors that name it."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.settings import GATEWAY_LIMIT, PAYLOAD_LIMIT, Settings, SettingsError, read

S3 = {"STOWAGE_STORAGE_PROVIDER": "s3", "STOWAGE_S3_BUCKET": "b"}
ON_LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "stowage-test-api"}
VALUES = {
    "storage_provider": "s3",
    "s3_bucket": "bucket",
    "max_body": "1000",
    "max_upload_size": "123456789012",
    "max_transform_size": "1234",
    "transform_ttl": "60",
    "transforms_per_minute": "7",
    "probes_per_minute": "7",
    "imports_per_minute": "7",
    "auth_secret": "x" * 32,
    "enabled_providers": "sftp,azure_blob",
    "allow_org_byos": "false",
    "platform_storage": "true",
    "endpoint_overrides": "a.example=http://127.0.0.1:9000",
    "allow_private_endpoints": "true",
    "log_level": "DEBUG",
}
DEFAULTS = {
    "table_prefix": "stowage",
    "storage_provider": "filesystem",
    "storage_root": ".data/files",
    "s3_bucket": "",
    "s3_endpoint": "",
    "s3_region": "",
    "s3_access_key": "",
    "s3_secret_key": "",
    "azure_connection_string": "",
    "azure_container": "stowage",
    "enabled_providers": "aws_s3,cloudflare_r2,backblaze_b2,minio,sftp,ftp",
    "allow_org_byos": True,
    "platform_storage": False,
    "endpoint_overrides": "",
    "master_key": "",
    "master_key_parameter": "",
    "default_tenant": "",
    "public_url": "",
    "cors_origins": "*",
    "max_body": 4_400_000,
    "max_upload_size": 5_000_000_000,
    "image_function": "",
    "max_transform_size": 10_000_000,
    "transform_ttl": 3600,
    "transforms_per_minute": 300,
    "probes_per_minute": 30,
    "imports_per_minute": 30,
    "auth_secret": "",
    "public_base_url": "",
    "jobs_queue": "",
    "event_bus": "",
    "allow_private_endpoints": False,
    "log_level": "INFO",
}


def test_defaults_are_those_that_are_documented() -> None:
    made = read({})
    assert {field.name: getattr(made, field.name) for field in fields(Settings)} == DEFAULTS


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_setting_is_read_from_its_variable(name: str) -> None:
    value = VALUES.get(name, "http://some.value")
    environment = S3 | {f"STOWAGE_{name.upper()}": value}
    kind = type(getattr(Settings(), name))
    assert getattr(read(environment), name) == (value == "true" if kind is bool else kind(value))


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
@pytest.mark.parametrize("nothing", ["", " ", "\n"])
def test_an_empty_variable_is_the_default(name: str, nothing: str) -> None:
    assert getattr(read({f"STOWAGE_{name.upper()}": nothing}), name) == DEFAULTS[name]


def test_space_around_a_value_is_not_part_of_it() -> None:
    assert read({"STOWAGE_MAX_BODY": " 17\n", "STOWAGE_TABLE_PREFIX": " x "}) == Settings(max_body=17, table_prefix="x")


def test_other_variables_are_none_of_ours() -> None:
    assert read({"STOWAGE_UNKNOWN": "1", "MAX_BODY": "2", "PATH": "/"}) == Settings()


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"STOWAGE_STORAGE_PROVIDER": "floppy"}, "STOWAGE_STORAGE_PROVIDER"),
        ({"STOWAGE_STORAGE_PROVIDER": "S3"}, "STOWAGE_STORAGE_PROVIDER"),
        ({"STOWAGE_STORAGE_PROVIDER": "s3"}, "STOWAGE_S3_BUCKET"),
        ({"STOWAGE_TRANSFORMS_PER_MINUTE": "0"}, "STOWAGE_TRANSFORMS_PER_MINUTE"),
        ({"STOWAGE_MAX_TRANSFORM_SIZE": "50000001"}, "STOWAGE_MAX_TRANSFORM_SIZE"),
        ({"STOWAGE_MAX_BODY": "0"}, "STOWAGE_MAX_BODY"),
        ({"STOWAGE_MAX_BODY": str(GATEWAY_LIMIT + 1)}, "STOWAGE_MAX_BODY"),
        ({"STOWAGE_MAX_BODY": str(PAYLOAD_LIMIT + 1)} | ON_LAMBDA, "STOWAGE_MAX_BODY"),
        ({"STOWAGE_MAX_BODY": "0"} | ON_LAMBDA, "STOWAGE_MAX_BODY"),
        ({"STOWAGE_MAX_BODY": "-1"}, "STOWAGE_MAX_BODY"),
        ({"STOWAGE_MAX_BODY": "4.4MB"}, "STOWAGE_MAX_BODY"),
        ({"STOWAGE_MAX_UPLOAD_SIZE": "5 GB"}, "STOWAGE_MAX_UPLOAD_SIZE"),
        ({"STOWAGE_MAX_UPLOAD_SIZE": "1e9"}, "STOWAGE_MAX_UPLOAD_SIZE"),
        ({"STOWAGE_MAX_UPLOAD_SIZE": "٣"}, "STOWAGE_MAX_UPLOAD_SIZE"),
        ({"STOWAGE_LOG_LEVEL": "chatty"}, "STOWAGE_LOG_LEVEL"),
        ({"STOWAGE_AUTH_SECRET": "x" * 31}, "STOWAGE_AUTH_SECRET"),
        ({"STOWAGE_PUBLIC_BASE_URL": "img.example.com"}, "STOWAGE_PUBLIC_BASE_URL"),
        ({"STOWAGE_ALLOW_PRIVATE_ENDPOINTS": "yes"}, "STOWAGE_ALLOW_PRIVATE_ENDPOINTS"),
        ({"STOWAGE_ALLOW_PRIVATE_ENDPOINTS": "2"}, "STOWAGE_ALLOW_PRIVATE_ENDPOINTS"),
    ],
)
def test_an_error_names_the_variable_to_change(environment: dict[str, str], variable: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        read(environment)


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("True", True), ("1", True), ("false", False), ("FALSE", False), ("0", False)])
def test_a_flag_is_true_or_false(text: str, flag: bool) -> None:
    assert read({"STOWAGE_ALLOW_PRIVATE_ENDPOINTS": text}).allow_private_endpoints is flag


@pytest.mark.parametrize(
    ("size", "where"),
    [(1, {}), (PAYLOAD_LIMIT, {}), (PAYLOAD_LIMIT + 1, {}), (GATEWAY_LIMIT, {}), (1, ON_LAMBDA), (PAYLOAD_LIMIT, ON_LAMBDA)],
)
def test_the_body_limit_has_both_ends(size: int, where: dict[str, str]) -> None:
    assert read({"STOWAGE_MAX_BODY": str(size)} | where).max_body == size


def test_the_limits_of_bodies_are_those_of_the_platforms() -> None:
    """10 MB through API Gateway, 6 MB of base64 with all else that an event holds into a function."""
    assert GATEWAY_LIMIT == 10 * 1024 * 1024
    assert PAYLOAD_LIMIT * 4 / 3 < 6_000_000


@pytest.mark.parametrize("where", [{}, ON_LAMBDA])
def test_without_a_choice_a_body_fits_everywhere(where: dict[str, str]) -> None:
    assert read(where).max_body == PAYLOAD_LIMIT


def test_a_wrong_value_of_a_secret_is_not_told() -> None:
    for variable in ("STOWAGE_MASTER_KEY", "STOWAGE_S3_SECRET_KEY"):
        with pytest.raises(SettingsError) as refused:
            read({variable: "hunter2", "STOWAGE_MAX_BODY": "x"})
        assert "hunter2" not in str(refused.value)


@given(st.text(max_size=10))
def test_a_number_is_whole_or_refused_by_name(text: str) -> None:
    told = ""
    try:
        told = str(read({"STOWAGE_MAX_BODY": text}).max_body)
    except SettingsError as error:
        told = str(error)
    assert told == text.strip().lstrip("0") or (not text.strip() and told == str(PAYLOAD_LIMIT)) or "STOWAGE_MAX_BODY" in told
