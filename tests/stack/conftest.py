"""One embedded AWS and one deployment for all of these tests."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .deployed import Stack
from .embedded import ROOT, EmbeddedAws

HERE = Path(__file__).resolve().parent
STAGE = "test"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With pytest-xdist, keep these tests in one process: each process would deploy a stack of its own."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.xdist_group("stack"))


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAws]:
    embedded = EmbeddedAws(tmp_path_factory.mktemp("aws"))
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture(scope="session")
def stack(aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stage `test`, deployed by the command that deploys any other; its code runs on this interpreter."""
    out = tmp_path_factory.mktemp("package")
    command = [sys.executable, "-m", "infra.deploy", "--stage", STAGE, "--arch", "host", "--out", str(out)]
    run = subprocess.run(command, cwd=ROOT, env=aws.environment, text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    shown = re.search(r"^ak_\S+$", run.stdout, re.MULTILINE)
    assert shown, "the first deployment prints the admin key"
    return Stack(aws, f"stowage-{STAGE}", out, shown.group())


@pytest.fixture(scope="session")
def service_key(stack: Stack) -> str:
    """The service key of a tenant that the API made."""
    created = stack.call("POST", "/admin/tenants", stack.admin_key, {"name": "stack tests"})
    assert created.status == 201, created.body
    key: str = created.json()["service_key"]
    return key
