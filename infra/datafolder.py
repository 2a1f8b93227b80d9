"""The folder of the local run (`.data`): what lies in it, who may use it, and whether it fits this version.

`lock`        held by the run that uses the folder, and by its embedded AWS for as long as that lives
`version`     layout and provisioned resources that the folder was made for
`master.key`  root of every derived key; without it no sealed secret opens
`dev.env`     the environment to `source`: addresses and keys of the demo tenant
`aws/`        the embedded AWS (`infra/stack.py`)
`files/`      bytes of the filesystem provider
`images.port` the port of the image function, taken again so that sourced environments stay right
`stream.json` how far the runner has read (`infra/runner.py`)
"""

import base64
import fcntl
import json
import os
import secrets
import shlex
from pathlib import Path
from typing import Any

# Raised when what lies in the folder changes its meaning.
LAYOUT = 1
MASTER_KEY_BYTES = 32


class FolderError(Exception):
    """The folder cannot be used; the message is the one line to show."""


class DataFolder:
    """One data folder, for data that was made for the resources named by `fingerprint`."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.aws = path / "aws"
        self.files = path / "files"
        self.environment_file = path / "dev.env"
        self.stream_positions = path / "stream.json"
        self.images_port = path / "images.port"
        self._fingerprint = fingerprint
        self._version_file = path / "version"
        self.key_file = path / "master.key"

    def lock(self) -> int:
        """Take the folder for this process; returns the descriptor that holds it. Raises FolderError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise FolderError(f"cannot use the folder {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise FolderError(f"{self.path} is in use by another run; stop that one, or set STOWAGE_DATA to another folder") from error
        return descriptor

    def is_complete(self) -> bool:
        """Whether a start on this folder has come to its end; raises FolderError for data of another version."""
        version = self._version()
        if version is None and any(each.name != "lock" for each in self.path.iterdir()):
            raise FolderError(f"{self.path} holds something else than Stowage's data; set STOWAGE_DATA to another folder")
        if version is None:
            return False
        if (version.get("layout"), version.get("resources")) != (LAYOUT, self._fingerprint):
            raise FolderError(f"{self.path} was made by another version of Stowage; move it away or delete it, then start again")
        return bool(version.get("complete"))

    def mark(self, complete: bool) -> None:
        """Note the version, and whether the first start has come to its end."""
        version = {"layout": LAYOUT, "resources": self._fingerprint, "complete": complete}
        _write(self._version_file, json.dumps(version) + "\n")

    def master_key(self, complete: bool) -> str:
        """The master key, made once; raises FolderError when a complete folder has lost it."""
        if not self.key_file.exists():
            if complete:
                raise FolderError(f"{self.key_file} is missing, and nothing sealed in {self.path} opens without it; restore it")
            _write(self.key_file, base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode() + "\n")
        return self.key_file.read_text().strip()

    def read_environment(self) -> dict[str, str]:
        """What `dev.env` exports; empty without it."""
        try:
            words = shlex.split(self.environment_file.read_text(), comments=True)
        except (OSError, ValueError):
            return {}
        return dict(word.split("=", 1) for word in words if "=" in word)

    def write_environment(self, values: dict[str, str]) -> None:
        """Write `dev.env`, readable by its owner only."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
        _write(self.environment_file, "".join(lines))

    def _version(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._version_file.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
