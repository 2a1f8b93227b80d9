"""What a cold start does not pay for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("pydantic", "jwt", "cryptography", "filetype", "python_multipart", "boto3", "PIL")


def loaded(statement: str) -> set[str]:
    """The modules that a new interpreter holds after `statement`. What only tests need is not there, for others look for it."""
    hidden = "import sys\nsys.modules['OpenSSL'] = None"
    program = f"{hidden}\n{statement}\ndel sys.modules['OpenSSL']\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(ended.stdout))


@pytest.fixture(scope="module")
def by_app() -> set[str]:
    return loaded("import app")


@pytest.fixture(scope="module")
def by_workers() -> set[str]:
    return loaded("import chalicelib.workers")


@pytest.mark.parametrize("module", HEAVY)
def test_the_app_leaves_it_to_the_route_that_needs_it(by_app: set[str], module: str) -> None:
    assert module not in by_app


@pytest.mark.parametrize("module", HEAVY)
def test_a_worker_leaves_it_too(by_workers: set[str], module: str) -> None:
    assert module not in by_workers


def test_the_modules_looked_for_are_those_that_python_would_load() -> None:
    """A name that nothing ever has would make the tests above pass for ever."""
    assert set(HEAVY) <= loaded("import " + ", ".join(HEAVY))


def test_the_image_function_loads_pillow_and_a_provider_and_none_of_the_app() -> None:
    called = "from chalicelib import providers\nfrom chalicelib.images import function, transform\nimport chalicelib.providers.s3"
    held = loaded(called)
    assert {"PIL.WebPImagePlugin", "PIL.AvifImagePlugin", "botocore.session"} <= held
    others = {"app", "chalice", "chalicelib.workers", "chalicelib.core", "chalicelib.tables", "pynamodb", "aws_lambda_powertools"}
    assert not (others | set(HEAVY) - {"PIL"}) & held


def test_the_app_is_whole(by_app: set[str]) -> None:
    assert {"app", "chalicelib.webapp", "chalicelib.surfaces.dispatch"} <= by_app


@pytest.mark.parametrize("module", ["app", "chalicelib.surfaces", "chalicelib.surfaces.dispatch", "infra"])
def test_a_worker_does_not_load_the_app(by_workers: set[str], module: str) -> None:
    assert module not in by_workers


@pytest.mark.parametrize("module", ["infra", "chalice.local", "chalice.cli"])
def test_a_deployed_function_has_nothing_of_the_local_run(by_app: set[str], module: str) -> None:
    assert module not in by_app


def test_views_and_models_are_not_imported_before_their_route_is_called(by_app: set[str]) -> None:
    later = {"chalicelib.surfaces.storage.models", "chalicelib.surfaces.storage.objects", "chalicelib.surfaces.openapi"}
    later |= {"chalicelib.surfaces.storage.uploads", "chalicelib.surfaces.storage.tus", "chalicelib.surfaces.tus.protocol"}
    later |= {"chalicelib.core.uploads", "chalicelib.core.sessions", "chalicelib.core.hashing", "ctypes"}
    assert not later & by_app


def test_uploads_by_tus_pay_for_no_models_and_no_hash_before_there_are_bytes() -> None:
    held = loaded("import chalicelib.surfaces.storage.tus")
    assert "chalicelib.core.uploads" in held
    assert not {"chalicelib.surfaces.storage.models", "chalicelib.core.direct", "chalicelib.access.policy", "ctypes", *HEAVY} & held


def test_a_worker_imports_the_cleanup_when_it_is_its_hour(by_workers: set[str]) -> None:
    assert not {"chalicelib.core.cleanup", "chalicelib.core.sweeps", "chalicelib.core.direct", "chalicelib.core.uploads"} & by_workers


def test_a_download_by_key_pays_for_no_policies_and_no_cryptography() -> None:
    held = loaded("import chalicelib.surfaces.storage.objects")
    assert "chalicelib.access.permissions" in held
    assert not {"chalicelib.access.policy", "chalicelib.access.keysets", "chalicelib.outbound", "jwt", "cryptography"} & held


def test_working_out_policies_pays_for_no_parser() -> None:
    held = loaded("import chalicelib.access.policy")
    assert "chalicelib.access.policy.closures" in held
    assert not {"chalicelib.access.policy.grammar", "chalicelib.access.policy.analysis", "chalicelib.access.policy.folding"} & held
