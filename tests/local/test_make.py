"""The Makefile's own part: which Python it takes, and when it installs packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ["sh", "awk", "cat", "env", "tr", "make"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile with empty requirement files, and a PATH in `bin` that has no Python yet."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (tmp_path / "bin" / tool).symlink_to(found)
    (tmp_path / "infra").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "infra" / "venv.sh", tmp_path / "infra")
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    return tmp_path


def provide(project: Path, name: str, script: str) -> None:
    path = project / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(project: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": str(project / "bin"), "HOME": os.environ.get("HOME", "/")}
    return subprocess.run([*command], cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_help_is_the_default_and_lists_every_target(project: Path) -> None:
    shown = run(project, "make").stdout
    assert [line.split()[1] for line in shown.splitlines()] == "help run test lint bench cleanup package deploy clean".split()  # noqa: SIM905


def test_without_a_suitable_python_there_is_one_clear_line(project: Path) -> None:
    provide(project, "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    ended = run(project, "infra/venv.sh", "requirements.txt")
    assert ended.returncode == 1
    assert ended.stderr == "stowage: no Python 3.11, 3.12 or 3.13 found; install one, or set PYTHON to its path\n"
    assert run(project, "make", "run").returncode != 0


def test_a_python_without_venv_is_named_with_what_to_install(project: Path) -> None:
    provide(project, "python3.12", 'case "$2" in *ensurepip*) exit 1;; esac; exit 0')
    ended = run(project, "infra/venv.sh", "requirements.txt")
    assert ended.returncode == 1
    assert "python3.12 cannot make virtual environments" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_deployment_needs_a_stage(project: Path) -> None:
    ended = run(project, "make", "deploy")
    assert ended.returncode != 0
    assert "make deploy STAGE=prod" in ended.stderr


def test_packages_are_installed_once_and_again_when_their_file_changes(project: Path) -> None:
    provide(project, "python3.13", "exit 127")
    provide(project, "python3.11", f'exec "{sys.executable}" "$@"')
    first = run(project, "infra/venv.sh", "requirements.txt")
    assert first.returncode == 0, first
    assert "installing the packages of requirements.txt" in first.stdout
    again = run(project, "infra/venv.sh", "requirements.txt")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    (project / "requirements.txt").write_text("# something else\n")
    changed = run(project, "infra/venv.sh", "requirements.txt")
    assert "creating" not in changed.stdout
    assert "installing" in changed.stdout


def test_packages_that_cannot_be_installed_are_not_taken_for_installed(project: Path) -> None:
    provide(project, "python3.11", f'exec "{sys.executable}" "$@"')
    (project / "requirements.txt").write_text("./missing.whl\n")
    for _ in range(2):
        ended = run(project, "infra/venv.sh", "requirements.txt")
        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1] == "stowage: the packages could not be installed; see above"
