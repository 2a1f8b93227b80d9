"""The models and the template agree: a name or key that differs would show only on AWS."""

import inspect
import itertools
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

import chalicelib
from chalicelib import seam
from chalicelib.core import names, sweeps
from chalicelib.tables import (
    buckets,
    deltas,
    folders,
    garbage,
    jobs,
    keys,
    limits,
    objects,
    policies,
    storages,
    tenants,
    transforms,
    uploads,
)
from chalicelib.tables.table import Table
from infra import stack

MODELS = [
    model
    for module in (buckets, deltas, folders, garbage, jobs, keys, limits, objects, policies, storages, tenants, transforms, uploads)
    for _, model in inspect.getmembers(module, inspect.isclass)
    if issubclass(model, Table) and model.__module__ == module.__name__
]
# Rows of minutes and hours, which nobody would want back.
PASSING = {"limits", "transforms"}
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, Any]]:
    """Properties of each table, by the noun in its name."""
    resources = stack.local_template()["Resources"].values()
    found = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::DynamoDB::Table"]
    return {each["TableName"]["Fn::Sub"].removeprefix("${Prefix}-"): each for each in found}


def noun(model: type[Table]) -> str:
    return model.Meta.table_name.removeprefix("stowage-")


def test_every_module_of_tables_is_looked_at() -> None:
    folder = Path(chalicelib.__file__).parent / "tables"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__", "table"} == {model.__module__.rpartition(".")[2] for model in MODELS}


def test_tables_and_models_are_the_same(tables: dict[str, Any]) -> None:
    assert {noun(model) for model in MODELS} == tables.keys()


@every_model
def test_a_models_key_is_its_tables_key(model: type[Table], tables: dict[str, Any]) -> None:
    properties = tables[noun(model)]
    declared = {each["KeyType"]: each["AttributeName"] for each in properties["KeySchema"]}
    types = {each["AttributeName"]: each["AttributeType"] for each in properties["AttributeDefinitions"]}
    attributes = model.get_attributes().values()
    own = {"HASH" if each.is_hash_key else "RANGE": each for each in attributes if each.is_hash_key or each.is_range_key}
    assert {kind: each.attr_name for kind, each in own.items()} == declared
    assert {each.attr_name: each.attr_type for each in own.values()} == {name: types[name] for name in declared.values()}


def test_every_defined_attribute_is_part_of_a_key_and_of_a_model(tables: dict[str, Any]) -> None:
    """DynamoDB refuses a definition that no key uses."""
    for name, properties in tables.items():
        schemas = [properties["KeySchema"], *(index["KeySchema"] for index in properties.get("GlobalSecondaryIndexes", ()))]
        used = {each["AttributeName"] for schema in schemas for each in schema}
        assert {each["AttributeName"] for each in properties["AttributeDefinitions"]} == used
        known = {each.attr_name: each.attr_type for model in MODELS if noun(model) == name for each in model.get_attributes().values()}
        for each in properties["AttributeDefinitions"]:
            assert known[each["AttributeName"]] == each["AttributeType"]


def test_every_index_that_the_code_asks_exists(tables: dict[str, Any]) -> None:
    root = Path(chalicelib.__file__).parent
    asked = {name for path in root.rglob("*.py") for name in re.findall(r'"IndexName": "([^"]+)"', path.read_text())}
    declared = {index["IndexName"] for properties in tables.values() for index in properties.get("GlobalSecondaryIndexes", ())}
    assert asked
    assert asked <= declared


def test_the_index_of_pending_jobs_is_by_its_own_attribute_oldest_change_first(tables: dict[str, Any]) -> None:
    index = next(each for each in tables["jobs"]["GlobalSecondaryIndexes"] if each["IndexName"] == "pending")
    assert [each["AttributeName"] for each in index["KeySchema"]] == ["pending", "updated_at"]
    assert jobs.Job.pending.null, "sparse: finished jobs leave the index"


def test_what_expires_does_so_by_an_attribute_that_its_model_has_and_objects_have_not(tables: dict[str, Any]) -> None:
    expiring = {name: each["TimeToLiveSpecification"] for name, each in tables.items() if "TimeToLiveSpecification" in each}
    by_attribute = {"AttributeName": "expires_at", "Enabled": True}
    alike = dict.fromkeys(["api-keys", "jobs", "limits", "objects", "transforms"], by_attribute)
    assert expiring == alike | {"uploads": {"AttributeName": "forget_at", "Enabled": True}}
    expiries = (jobs.Job, limits.Limit, objects.UsedToken, tenants.Session, transforms.Transform)
    assert {model.expires_at.attr_type for model in expiries} == {"N"}
    assert "expires_at" not in objects.StoredObject.get_attributes()
    assert "expires_at" not in tenants.ApiKey.get_attributes(), "keys last until they are revoked"
    assert (uploads.UploadSession.forget_at.attr_type, uploads.UploadSession.forget_at.null) == ("N", False)
    assert "forget_at" not in uploads.PartsPage.get_attributes(), "an upload may outlast any date that a page could have"


def test_the_index_of_uploads_is_by_the_hour_in_which_they_expire_and_names_them_alone(tables: dict[str, Any]) -> None:
    index = next(each for each in tables["uploads"]["GlobalSecondaryIndexes"] if each["IndexName"] == "by-expiry")
    assert [each["AttributeName"] for each in index["KeySchema"]] == ["expiry_hour", "upload_id"]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert uploads.UploadSession.expiry_hour.null, "sparse: sessions that were freed leave the index"
    assert "expiry_hour" not in uploads.PartsPage.get_attributes(), "sparse: parts are no sessions"


def test_the_indexes_of_files_hold_files_alone_newest_last(tables: dict[str, Any]) -> None:
    ours = [each for each in tables["objects"]["GlobalSecondaryIndexes"] if each["IndexName"].startswith("newest")]
    assert [each["KeySchema"][1]["AttributeName"] for each in ours] == ["created_at"] * 4
    for each in ours:
        assert objects.StoredObject.get_attributes()[each["KeySchema"][0]["AttributeName"]].null, "sparse: other objects are not in it"
    of_uploads = [each for each in tables["uploads"]["GlobalSecondaryIndexes"] if each["IndexName"].startswith("newest")]
    assert [each["Projection"] for each in of_uploads] == [{"ProjectionType": "KEYS_ONLY"}] * 2, "their rows change with every chunk"
    for each in of_uploads:
        assert uploads.UploadSession.get_attributes()[each["KeySchema"][0]["AttributeName"]].null, "sparse: uploads of files alone"


def test_the_indexes_of_the_vault_are_sparse(tables: dict[str, Any]) -> None:
    (index,) = tables["deltas"]["GlobalSecondaryIndexes"]
    assert [each["AttributeName"] for each in index["KeySchema"]] == ["expiry_hour", "item"]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert deltas.Delta.expiry_hour.null, "what the cleanup has nothing to do with leaves the index"
    assert "expiry_hour" not in deltas.DeltaPointer.get_attributes()
    (index,) = tables["keys"]["GlobalSecondaryIndexes"]
    assert [each["AttributeName"] for each in index["KeySchema"]] == ["owner_key", "key_uuid"]
    assert keys.VaultKey.owner_key.null, "a service key's keys have no owner"


def test_models_that_share_a_table_never_share_a_row() -> None:
    """What lies in the garbage table beside garbage lies under words, which no hour is; parts are no session."""
    words = {garbage.Cursor.HOUR, garbage.Sweep.HOUR, garbage.Quarantined.HOUR, sweeps.MISSING, sweeps.ORPHAN}
    assert len(words) == 5
    assert not any(re.match(r"\d", word) for word in words)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d", seam.hour(seam.timestamp()))
    assert not uploads.UploadSession.SESSION.startswith(uploads.PartsPage.PREFIX)
    assert not names.is_uuid(deltas.DeltaPointer.ITEM), "a delta lies under its id"
    beside = (folders.FolderName.PREFIX, folders.FolderCount.PREFIX, folders.FolderTree.ITEM)
    assert not any(word.startswith(other) for word, other in itertools.permutations(beside, 2))
    highest = str(uuid.UUID(int=2**128 - 1))
    assert highest < folders.Folder.ABOVE_IDS < min(beside), "a folder lies under its id, by which it is told from the rest"
    assert not re.fullmatch("[0-9a-f]{64}", tenants.Session.PREFIX + "0" * (64 - len(tenants.Session.PREFIX))), "a key lies under its hash"


def test_the_stream_of_objects_carries_both_images(tables: dict[str, Any]) -> None:
    streams = {name: each["StreamSpecification"] for name, each in tables.items() if "StreamSpecification" in each}
    assert streams == {"objects": {"StreamViewType": "NEW_AND_OLD_IMAGES"}}


@pytest.mark.parametrize(
    ("function", "setting", "parameter"),
    [
        ("APIHandler", "STOWAGE_AUTH_SECRET", "AuthSecret"),
        ("APIHandler", "STOWAGE_PUBLIC_BASE_URL", "PublicBaseUrl"),
    ],
)
def test_a_function_is_told_what_it_needs_of_the_parameters(function: str, setting: str, parameter: str) -> None:
    template = stack.read_template()
    assert template["Resources"][function]["Properties"]["Environment"]["Variables"].get(setting) == {"Ref": parameter}
    assert parameter in template["Parameters"]


@pytest.mark.parametrize(
    ("parameter", "taken", "refused"),
    [
        ("AuthSecret", ["", "x" * 32, "reco/gnisable+auth secret of URLs of files"], ["x", "x" * 31]),
        ("PublicBaseUrl", ["", "https://img.example.com", "http://127.0.0.1:3000/x"], ["img.example.com", "https://", "ftp://a.example"]),
    ],
)
def test_what_a_function_would_refuse_to_start_with_is_not_deployed(parameter: str, taken: list[str], refused: list[str]) -> None:
    pattern = stack.read_template()["Parameters"][parameter]["AllowedPattern"]
    assert [value for value in (*taken, *refused) if re.fullmatch(pattern, value)] == taken


def test_no_local_index_caps_a_bucket(tables: dict[str, Any]) -> None:
    assert not any("LocalSecondaryIndexes" in properties for properties in tables.values())


def test_tables_cost_nothing_unused_and_can_be_restored(tables: dict[str, Any]) -> None:
    for name, properties in tables.items():
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        if name not in PASSING:
            assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
