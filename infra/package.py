"""Builds what is deployed: `deployment.zip` and `template.json`.

Chalice makes the zip and merges `infra/template.yaml` into its template; this module then adds bytecode, drops
what no function loads, and makes the zip reproducible: the same sources and pins give the same bytes. The build
happens in a folder of its own, so that it can neither pick up stray files nor leave any behind.

    python -m infra.package --out dist [--arch arm64|x86_64|host]
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
# `infra` is not shipped: it holds the template, and Chalice's command line loads `chalice.local`, for which `app.py`
# imports the shim.
SOURCES = ("app.py", "chalicelib", "requirements.txt", ".chalice", "infra")
ARCHITECTURES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "amd64": "x86_64"}
# What the runtimes of Lambda and the tests offer; Chalice takes the version that it runs on itself.
PYTHONS = ((3, 11), (3, 12), (3, 13))
SERVICES = frozenset({"dynamodb", "events", "lambda", "s3", "sqs", "ssm", "sts"})
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
UNPACKED_LIMIT = 262_144_000
ZIPPED_EPOCH = (1980, 1, 1, 0, 0, 0)
CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"
# Chalice knows which C library each runtime of Lambda has; a stack on this machine runs with this machine's.
CHALICE_HERE = (
    "import platform; from chalice.deploy.packager import DependencyBuilder; DependencyBuilder._RUNTIME_GLIBC = {};"
    " DependencyBuilder._DEFAULT_GLIBC = tuple(map(int, (platform.libc_ver()[1] or '2.26').split('.')[:2])); " + CHALICE
)


class PackageError(Exception):
    """The package cannot be built; the message is the one line to show."""


def build(out: Path, arch: str = "arm64", root: Path = ROOT) -> None:
    """Write `deployment.zip` and `template.json` into `out`, from the sources under `root`.

    `arch` is the Lambda architecture, or `host` for a stack that runs on this machine. The runtime is this interpreter's
    version, because bytecode and binary wheels belong to one version. Raises PackageError.
    """
    architecture = _architecture(arch)
    _check_python(arch)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stowage-package-") as folder:
        project, made, unpacked = (Path(folder, name) for name in ("project", "made", "unpacked"))
        _step("copying the sources")
        _copy_sources(root, project, architecture)
        _step(f"chalice package for Python {_python()} on {architecture}: fetching the packages of requirements.txt")
        _run_chalice(project, made, CHALICE_HERE if arch == "host" else CHALICE)
        with zipfile.ZipFile(made / "deployment.zip") as packed:
            packed.extractall(unpacked)
        _check_complete(project / "requirements.txt", unpacked)
        _step("trimming and compiling")
        _trim(unpacked)
        _compile(unpacked)
        _write_zip(unpacked, out / "deployment.zip")
        _write_template(made / "sam.yaml", out / "template.json")
        _report(unpacked, made / "deployment.zip", out)


def _step(text: str) -> None:
    print(f"package: {text}", flush=True)


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _architecture(arch: str) -> str:
    if arch != "host":
        return arch
    try:
        return ARCHITECTURES[platform.machine().lower()]
    except KeyError:
        raise PackageError(f"Lambda has no architecture for this machine ({platform.machine()}); use --arch arm64 or x86_64") from None


def _check_python(arch: str) -> None:
    if sys.version_info[:2] not in PYTHONS:
        raise PackageError(f"Python {_python()} is not supported; run this with Python 3.11, 3.12 or 3.13")
    if sys.version_info[:2] == (3, 11) and arch != "host":
        # Lambda's 3.11 runs on Amazon Linux 2 (glibc 2.26), for which Pillow offers no wheels any more.
        raise PackageError("Lambda's Python 3.11 has too old a C library for Pillow; run this with Python 3.12 or 3.13 (PYTHON=python3.13)")


def _copy_sources(root: Path, project: Path, architecture: str) -> None:
    project.mkdir()
    for name in SOURCES:
        source, target = root / name, project / name
        if not source.exists():
            raise PackageError(f"{source} is missing")
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "deployments", "deployed"))
        else:
            shutil.copy(source, target)
    chosen = project / ".chalice" / "config.json"
    settings = json.loads(chosen.read_text())
    chosen.write_text(json.dumps(settings | {"lambda_architecture": architecture}))


def _run_chalice(project: Path, made: Path, program: str) -> None:
    """`chalice package`, which imports `app.py`; a package that it leaves out is an error here."""
    # A developer's STOWAGE_* must not decide what is built; the region is needed but is not in the template.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOWAGE_")}
    environment.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    # No call to AWS is made, but Chalice looks for credentials, even in the metadata of the machine.
    environment["AWS_EC2_METADATA_DISABLED"] = "true"
    command = [sys.executable, "-c", program, "package", "--merge-template", "infra/template.yaml", str(made)]
    run = subprocess.run(command, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    left_out = re.search(r"Could not install dependencies:\n(.*?)\nYou will", run.stdout, re.DOTALL)
    if left_out:
        names = ", ".join(left_out.group(1).split())
        raise PackageError(f"no wheel for Python {_python()} on the chosen architecture: {names}")
    if run.returncode != 0:
        raise PackageError(f"chalice package failed: {_last_line(run.stdout)}")


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _check_complete(requirements: Path, folder: Path) -> None:
    """Each requirement is there: Chalice says nothing of some that pip would not download (a folder, for one)."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text().splitlines())
    wanted = {_canonical(re.split(r"[=<>!~;@\[ ]", line)[0]) for line in lines if line}
    there = {_canonical(path.name.split("-")[0]) for path in folder.glob("*.dist-info")}
    if wanted - there:
        raise PackageError(f"not in the package that Chalice made: {', '.join(sorted(wanted - there))}")
    # Where there is no wheel, Chalice compiles what the machine's headers allow: Pillow without WebP, and so on.
    compiled = [path.parent.name.split("-")[0] for path in folder.glob("*.dist-info/WHEEL") if "-linux_" in path.read_text()]
    if compiled:
        raise PackageError(f"no wheel for Python {_python()} on the chosen architecture, only one compiled here: {', '.join(compiled)}")


def _canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _trim(folder: Path) -> None:
    """Drop the models of services that no function calls, and what would make two builds differ."""
    for service in (folder / "botocore" / "data").glob("*/"):
        if service.is_dir() and service.name not in SERVICES:
            shutil.rmtree(service)
    for pattern in ("botocore/data/*/*/examples-1.json*", "*.dist-info/RECORD", "*.dist-info/direct_url.json"):
        for file in folder.glob(pattern):
            file.unlink()
    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)


def _compile(folder: Path) -> None:
    """Add bytecode that Python trusts without looking at its source.

    The function's disk is read-only, so without it each cold start compiles every module anew. One process and
    a fixed hash seed, because what marshal writes depends on the history of the process.
    """
    mode = ["--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", "/var/task"]
    command = [sys.executable, "-m", "compileall", "-qq", "-j", "1", *mode, str(folder)]
    run = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, text=True, capture_output=True, check=False)
    if run.returncode != 0:
        raise PackageError(f"a module in the package does not compile: {_last_line(run.stdout + run.stderr)}")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file with its name in the zip, in the order of the names."""
    named = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    yield from sorted(named)


def _write_zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, path in _files(folder):
            entry = zipfile.ZipInfo(name, ZIPPED_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, so that the mode counts
            entry.external_attr = 0o100644 << 16
            packed.writestr(entry, path.read_bytes())


def _write_template(merged: Path, target: Path) -> None:
    """The merged template as JSON: PyYAML writes repeated parts as aliases, which CloudFormation refuses."""
    target.write_text(json.dumps(yaml.safe_load(merged.read_text()), indent=1, sort_keys=True) + "\n")


def _report(unpacked: Path, before: Path, out: Path) -> None:
    size = sum(path.stat().st_size for _, path in _files(unpacked))
    if size > UNPACKED_LIMIT:
        raise PackageError(f"unpacked the package has {size:,} bytes, and Lambda takes {UNPACKED_LIMIT:,}")
    made, zipped = before.stat().st_size, (out / "deployment.zip").stat().st_size
    _step(f"{out / 'deployment.zip'}: {_megabytes(zipped)} (as Chalice made it {_megabytes(made)}), unpacked {_megabytes(size)}")
    _step(f"{out / 'template.json'}: {len(template(out)['Resources'])} resources")


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def template(out: Path, code: str | None = None) -> dict[str, Any]:
    """The packaged template; with `code` (`s3://bucket/key`) in place of the local zip."""
    document: dict[str, Any] = json.loads((out / "template.json").read_text())
    for resource in document["Resources"].values():
        if code and resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = code
    return document


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0, or 1 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.package", description="Build deployment.zip and template.json.")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the two files (dist)")
    parser.add_argument(
        "--arch",
        choices=["arm64", "x86_64", "host"],
        default="arm64",
        help="architecture of the functions (arm64); host: to run on this machine",
    )
    chosen = parser.parse_args(arguments)
    try:
        build(chosen.out, chosen.arch)
    except PackageError as error:
        print(f"package: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
