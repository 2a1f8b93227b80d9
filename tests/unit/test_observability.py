"""One line a request, which says what an operator needs and nothing that must stay secret."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalicelib import workers
from chalicelib.core import cleanup, drift, expiry, garbage, sweeps
from infra import stack
from tests.conftest import Context, Tenant

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys
from app import app
from tests.client import Client

client = Client(app)
for method, path, headers in json.load(sys.stdin):
    print(json.dumps({"begin": path}), flush=True)
    answer = client(method, path, b"body" if method == "POST" else None, headers)
    print(json.dumps({"answered": answer.status, "id": answer.headers["x-request-id"]}), flush=True)
"""
SECRETS = [
    "sk_stolen-looking-key",
    "secret-bucket",
    "secret-path",
    "secret-query",
    "eyJhbGciOiJIUzI1NiJ9.secret.token",
    "secret-cookie",
    "secret-agent",
]


class Said:
    """What one request made the process say."""

    def __init__(self, answer: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        self.status, self.id = answer["answered"], answer["id"]
        self.lines = [line for line in lines if "_aws" not in line]
        self.metrics = [line for line in lines if "_aws" in line]


def run(requests: list[tuple[str, str, dict[str, str]]]) -> tuple[list[Said], str]:
    environment = os.environ | {"STOWAGE_LOG_LEVEL": "INFO", "POWERTOOLS_METRICS_DISABLED": "false"}
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(
        command, input=json.dumps(requests), cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    said: list[Said] = []
    lines: list[dict[str, Any]] = []
    for text in ended.stdout.splitlines():
        line = json.loads(text)
        if "begin" in line:
            lines = []
        elif "answered" in line:
            said.append(Said(line, lines))
        else:
            lines.append(line)
    kept = [text for text in ended.stdout.splitlines() if not text.startswith('{"begin"')]
    return said, "\n".join(kept) + ended.stderr


@pytest.fixture(scope="module")
def whole(embedded: Any) -> tuple[Any, list[Said], str]:
    from chalicelib.core import tenants

    made = tenants.create_tenant("observed")
    key = {"Authorization": f"Bearer {made.service_key}"}
    requests = [
        ("GET", "/health", {}),
        (
            "GET",
            "/storage/object/secret-bucket/secret-path/x?download=secret-query",
            key | {"Cookie": "secret-cookie", "User-Agent": "secret-agent"},
        ),
        ("GET", "/storage/buckets?token=secret-query", key),
        ("GET", "/storage/buckets", {"apikey": "sk_stolen-looking-key"}),
        ("GET", "/storage/buckets", {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.secret.token"}),
        ("POST", "/nowhere/secret-path", {}),
        ("DELETE", "/health", {}),
        ("OPTIONS", "/storage/buckets", {"Origin": "https://a.test"}),
    ]
    said, output = run(requests)
    return made, said, output


@pytest.fixture(scope="module")
def said(whole: Any) -> list[Said]:
    return list(whole[1])


def test_a_request_is_one_line(said: list[Said]) -> None:
    assert len(said) == 8
    assert [len(each.lines) for each in said] == [1] * 8


def test_a_line_tells_request_id_method_route_and_status(said: list[Said]) -> None:
    told = [(line["request_id"], line["method"], line["route"], line["status"]) for each in said for line in each.lines]
    assert [each.id for each in said] == [request_id for request_id, *_ in told]
    assert [tuple(rest) for _, *rest in told] == [
        ("GET", "/health", 200),
        ("GET", "/storage/object/{bucket}/{path+}", 404),
        ("GET", "/storage/buckets", 200),
        ("GET", "/storage/buckets", 401),
        ("GET", "/storage/buckets", 401),
        ("POST", "/{path+}", 404),
        ("DELETE", "/health", 405),
        ("OPTIONS", "/storage/buckets", 204),
    ]


def test_a_line_tells_the_tenant_once_it_is_known(whole: Any) -> None:
    tenant, said, _ = whole
    assert [each.lines[0].get("tenant_id") for each in said] == [None, tenant.tenant_id, tenant.tenant_id, None, None, None, None, None]


def test_a_line_tells_time_taken_and_bytes_sent(said: list[Said]) -> None:
    for each in said:
        assert each.lines[0]["duration_ms"] >= 0
        assert each.lines[0]["bytes_out"] >= 0
        assert each.lines[0]["level"] == "INFO"
        assert each.lines[0]["service"] == "stowage"


def test_nothing_is_said_of_keys_tokens_paths_queries_and_other_headers(whole: Any) -> None:
    tenant, _, output = whole
    for secret in (*SECRETS, tenant.service_key, tenant.anon_key, tenant.jwt_secret):
        assert secret not in output


def test_metrics_count_requests_errors_and_latency(said: list[Said]) -> None:
    for each in said:
        assert len(each.metrics) == 1
        metrics = each.metrics[0]
        units = {metric["Name"]: metric["Unit"] for metric in metrics["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
        assert units == {"Requests": "Count", "ClientErrors": "Count", "ServerErrors": "Count", "LatencyMs": "Milliseconds"}
        assert metrics["Requests"] == [1.0]
        assert metrics["ClientErrors"] == [float(400 <= each.status < 500)]
        assert metrics["ServerErrors"] == [float(each.status >= 500)]
        assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Stowage"


def test_metrics_have_no_dimension_for_each_tenant_or_route(whole: Any) -> None:
    tenant, said, _ = whole
    for each in said:
        assert each.metrics[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["function", "service"]] or each.metrics[0]["_aws"][
            "CloudWatchMetrics"
        ][0]["Dimensions"] == [["service", "function"]]
        assert tenant.tenant_id not in json.dumps(each.metrics)
        assert each.metrics[0]["function"] == "api"


def test_a_tenant_in_a_public_path_is_told(tenant: Tenant) -> None:
    tenant.service.bucket("open", visibility="public")
    tenant.service.put("open", "a", b"x")
    said, _ = run([("GET", f"/storage/public/{tenant.tenant_id}/open/a", {})])
    assert said[0].status == 200
    assert said[0].lines[0].get("tenant_id") == tenant.tenant_id


# ---- what alarms look at -------------------------------------------------------------------------------
OWN_ALARMS = {
    name: resource["Properties"]
    for name, resource in stack.read_template()["Resources"].items()
    if resource.get("Type") == "AWS::CloudWatch::Alarm" and not resource["Properties"]["Namespace"].startswith("AWS/")
}


Run = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture
def run_hourly(embedded: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Runs the hourly function; gives its report and what it gives to CloudWatch."""
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "false")

    def run_once(**event: Any) -> Run:
        capsys.readouterr()
        report = workers.hourly(event, Context())
        return report, [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]

    return run_once


def test_there_is_one_alarm_on_a_metric_of_our_own() -> None:
    assert OWN_ALARMS.keys() == {"SweepsStoppedAlarm"}


@pytest.mark.parametrize("alarm", OWN_ALARMS.values(), ids=list(OWN_ALARMS))
def test_an_alarm_looks_at_a_metric_as_it_is_emitted(run_hourly: Callable[..., Run], alarm: dict[str, Any]) -> None:
    """A metric is its namespace, its name and exactly its dimensions: with another set the alarm would never see any."""
    report, (blob,) = run_hourly()
    (emitted,) = blob["_aws"]["CloudWatchMetrics"]
    (names,) = emitted["Dimensions"]
    assert emitted["Namespace"] == alarm["Namespace"]
    assert alarm["MetricName"] in {metric["Name"] for metric in emitted["Metrics"]}
    assert {name: blob[name] for name in names} == {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
    assert blob[alarm["MetricName"]] == [cleanup.metrics(report)[alarm["MetricName"]]]
    assert alarm["Period"] >= 3600, "the function runs once an hour"
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == ("Maximum", "GreaterThanThreshold", 0)


@pytest.mark.parametrize(("missing", "orphan", "told"), [(None, None, 0), ("too many", None, 1), (None, "too many", 1), ("a", "b", 2)])
def test_a_sweep_that_stopped_is_told(missing: str | None, orphan: str | None, told: int) -> None:
    swept = {sweeps.MISSING: sweeps.Report(stopped=missing), sweeps.ORPHAN: sweeps.Report(stopped=orphan)}
    report = {
        "uploads": expiry.Report().as_dict(),
        "garbage": garbage.Report().as_dict(),
        "storages": drift.Report().as_dict(),
        "sweeps": {kind: each.as_dict() for kind, each in swept.items()},
    }
    assert cleanup.metrics(report)["SweepsStopped"] == told


def test_a_dry_run_emits_nothing(run_hourly: Callable[..., Run]) -> None:
    report, emitted = run_hourly(dry_run=True)
    assert (report["dry_run"], emitted) == (True, [])
