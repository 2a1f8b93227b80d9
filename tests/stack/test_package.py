"""What `python -m infra.package` builds, and how it fails."""

import hashlib
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from infra import package

from .deployed import Stack
from .embedded import ROOT, clean_environment

# A wheel of this project is bound to the platform that builds it, so there is none for another architecture.
NATIVE_SETUP = """
from setuptools import Distribution, setup

class Native(Distribution):
    def has_ext_modules(self):
        return True

setup(name="native", version="1.0", py_modules=["native"], distclass=Native)
"""


@pytest.fixture(scope="module")
def packed(stack: Stack) -> zipfile.ZipFile:
    return zipfile.ZipFile(stack.out / "deployment.zip")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project as small as one can be, with this one's template and policies."""
    root = tmp_path / "project"
    (root / "chalicelib").mkdir(parents=True)
    (root / "infra").mkdir()
    (root / "app.py").write_text(
        'from chalice import Chalice\n\napp = Chalice("stowage")\n\n\n@app.route("/")\ndef index():\n    return {}\n'
    )
    (root / "chalicelib" / "__init__.py").write_text("")
    (root / "requirements.txt").write_text("filetype==1.2.0\n")
    shutil.copytree(ROOT / ".chalice", root / ".chalice")
    shutil.copy(ROOT / "infra" / "template.yaml", root / "infra")
    return root


def test_every_module_is_shipped_with_bytecode_that_is_not_checked_again(packed: zipfile.ZipFile) -> None:
    names = set(packed.namelist())
    modules = [name for name in names if name.endswith(".py")]
    assert "app.py" in modules
    assert "chalicelib/workers.py" in modules
    for module in modules:
        compiled = importlib.util.cache_from_source(module)
        magic, flags = struct.unpack("<4sI", packed.read(compiled)[:8])
        assert magic == importlib.util.MAGIC_NUMBER, module
        assert flags == 0b01, module  # PEP 552: by hash, not checked


def test_only_models_of_used_services_are_shipped(packed: zipfile.ZipFile) -> None:
    parts = [name.split("/") for name in packed.namelist() if name.startswith("botocore/data/")]
    assert {part[2] for part in parts if len(part) > 3} == package.SERVICES
    assert ["botocore", "data", "endpoints.json"] in parts or ["botocore", "data", "endpoints.json.gz"] in parts
    assert ["botocore", "data", "partitions.json"] in parts


def test_what_only_builds_is_not_shipped(packed: zipfile.ZipFile) -> None:
    folders = {name.split("/")[0] for name in packed.namelist()}
    assert not folders & {"infra", "tests", "benchmarks", "ministack", "boto3", "pip", "setuptools", "cfnlint", "samtranslator"}


def test_the_same_sources_give_the_same_bytes(project: Path, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        package.build(tmp_path / name, "host", project)
        digests.add(
            tuple(hashlib.sha256((tmp_path / name / file).read_bytes()).hexdigest() for file in ("deployment.zip", "template.json"))
        )
    assert len(digests) == 1
    assert not (project / ".chalice" / "deployments").exists()


@pytest.fixture
def needing_a_compiler(project: Path, tmp_path: Path) -> Path:
    """A project with a dependency of which there is no wheel."""
    source = tmp_path / "native-1.0"
    source.mkdir()
    (source / "setup.py").write_text(NATIVE_SETUP)
    (source / "native.py").write_text("")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: native\nVersion: 1.0\n")
    with tarfile.open(tmp_path / "native-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    (project / "requirements.txt").write_text(f"native @ file://{tmp_path}/native-1.0.tar.gz\n")
    return project


def test_a_dependency_without_a_wheel_fails_the_build(needing_a_compiler: Path, tmp_path: Path) -> None:
    foreign = "x86_64" if package.ARCHITECTURES[os.uname().machine] == "arm64" else "arm64"
    told = "too old a C library" if sys.version_info < (3, 12) else r"no wheel for Python .*native"
    with pytest.raises(package.PackageError, match=told):
        package.build(tmp_path / "out", foreign, needing_a_compiler)
    assert not (tmp_path / "out" / "deployment.zip").exists()


def test_what_was_compiled_here_is_not_shipped(needing_a_compiler: Path, tmp_path: Path) -> None:
    """It has what this machine's headers allow, and another machine's would make another of it."""
    with pytest.raises(package.PackageError, match="only one compiled here: native"):
        package.build(tmp_path / "out", "host", needing_a_compiler)
    assert not (tmp_path / "out" / "deployment.zip").exists()


def test_every_format_of_images_is_shipped(packed: zipfile.ZipFile) -> None:
    modules = {name.split("/")[1].partition(".")[0] for name in packed.namelist() if name.startswith("PIL/_") and name.endswith(".so")}
    assert modules >= {"_imaging", "_imagingcms", "_webp", "_avif"}


def test_a_dependency_that_chalice_passes_over_in_silence_fails_the_build(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "native"
    folder.mkdir()
    (folder / "setup.py").write_text(NATIVE_SETUP)
    (folder / "native.py").write_text("")
    (project / "requirements.txt").write_text(f"filetype==1.2.0\nnative @ file://{folder}\n")
    with pytest.raises(package.PackageError, match="not in the package that Chalice made: native"):
        package.build(tmp_path / "out", "host", project)


def test_an_app_that_cannot_be_imported_fails_in_one_line(project: Path, tmp_path: Path) -> None:
    (project / "app.py").write_text('raise RuntimeError("no such thing")\n')
    with pytest.raises(package.PackageError, match="no such thing") as failed:
        package.build(tmp_path / "out", "host", project)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("arguments", "missing", "told"),
    [
        (["--stage", "x"], "AWS_DEFAULT_REGION", "no region"),
        (["--stage", "x"], "AWS_ACCESS_KEY_ID", "no AWS credentials"),
        (["--stage", "Not A Stage"], "", "no stage name"),
    ],
)
def test_a_deployment_that_cannot_begin_says_so_in_one_line(arguments: list[str], missing: str, told: str) -> None:
    given = {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    given.pop(missing, None)
    command = [sys.executable, "-m", "infra.deploy", *arguments]
    run = subprocess.run(command, cwd=ROOT, env=clean_environment(**given), text=True, capture_output=True, check=False)
    assert run.returncode == 1
    assert told in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_deploying_again_keeps_the_master_key(stack: Stack) -> None:
    ssm, name = stack.client("ssm"), f"/{stack.prefix}/master-key"
    before = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    assert before["Type"] == "SecureString"
    command = [sys.executable, "-c", f"from infra import deploy; deploy._ensure_master_key(deploy._session(), {stack.prefix!r})"]
    subprocess.run(command, cwd=ROOT, env=stack.aws.environment, check=True, capture_output=True)
    assert ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"] == before["Value"]
