"""Replaces the master key, of the local run that is up or of a deployed stage, and seals every secret anew under the new one.

    python -m infra.rotation [--data .data | --stage prod] [--forget KEY_ID]

The old key stays behind the new one, for signed URLs live up to a week. `--forget` removes it: once nothing is sealed under it, and a week
after the last change. Nothing has to be restarted, and nobody notices: a process that meets a secret sealed under a key it does not
know reads the keys again. Killed at any point, it can be run again; the worst is one more key in the list. One at a time.
"""

import argparse
import base64
import os
import secrets
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.datafolder import MASTER_KEY_BYTES, DataFolder

SIGNED_URLS_LIVE = 7 * 24 * 3600


class RotationError(Exception):
    """It could not be done; the message is the one line to show."""


class Keys(ABC):
    """Where the master keys are kept: texts in base64, the one in use first."""

    @abstractmethod
    def read(self) -> list[str]:
        """The keys."""

    @abstractmethod
    def write(self, keys: list[str]) -> None:
        """Replace them, all at once."""

    @abstractmethod
    def changed_at(self) -> float:
        """When they were written last, in seconds since 1970."""


class InFile(Keys):
    """The local run's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[str]:
        return self._path.read_text().strip().split(",")

    def write(self, keys: list[str]) -> None:
        staged = self._path.with_suffix(".new")
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(",".join(keys) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, self._path)

    def changed_at(self) -> float:
        return self._path.stat().st_mtime


class InParameter(Keys):
    """A stage's: an SSM SecureString."""

    def __init__(self, name: str) -> None:
        import boto3

        self._ssm, self._name = boto3.client("ssm"), name

    def read(self) -> list[str]:
        return str(self._answer()["Value"]).split(",")

    def write(self, keys: list[str]) -> None:
        self._ssm.put_parameter(Name=self._name, Value=",".join(keys), Type="SecureString", Overwrite=True)

    def changed_at(self) -> float:
        return float(self._answer()["LastModifiedDate"].timestamp())

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._ssm.get_parameter(Name=self._name, WithDecryption=True)["Parameter"]
        return answer


def local(data: Path) -> Keys:
    """The keys of the local run whose data lie in `data`; turns this process to it. Raises RotationError."""
    folder = DataFolder(data, "")
    environment = folder.read_environment()
    if not environment:
        raise RotationError(f"there is no {data / 'dev.env'}; start `make run` first, or name its folder with STOWAGE_DATA")
    os.environ.pop("STOWAGE_MASTER_KEY", None)  # of another installation, and it would count before the file
    os.environ.update(environment)
    return InFile(folder.key_file)


def of_stage(stage: str) -> Keys:
    """The keys of a deployed stage; turns this process to it, under the credentials of whoever runs it."""
    import boto3

    prefix = f"stowage-{stage}"
    for name in [name for name in os.environ if name.startswith("STOWAGE_")]:
        del os.environ[name]
    region = boto3.Session().region_name or ""
    os.environ |= {"STOWAGE_TABLE_PREFIX": prefix, "STOWAGE_MASTER_KEY_PARAMETER": f"/{prefix}/master-key", "AWS_REGION": region}
    return InParameter(f"/{prefix}/master-key")


def rotate(keys: Keys) -> None:
    """Put a new key first, and seal everything under it."""
    # Imported only now: `chalicelib` reads its settings when it is imported.
    from chalicelib.access import sealing
    from chalicelib.core import resealing

    before = keys.read()
    after = [base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode(), *before]
    keys.write(after)
    if keys.read() != after:
        raise RotationError("somebody else has changed the keys at this moment; look who, and try again")
    sealing.forget_master_keys()
    count = resealing.reseal_all(_progress)
    new, *old = sealing.master_keys()
    print(f"rotation: {count} secrets are sealed under the new key {new.key_id}")
    print(f"rotation: {', '.join(key.key_id for key in old)} still open signed URLs of the last week; then: --forget {old[0].key_id}")


def forget(keys: Keys, key_id: str, now: float) -> None:
    """Remove a key that nothing needs any more; raises RotationError while something does."""
    from chalicelib.access import sealing
    from chalicelib.core import resealing

    known = {sealing.master_key_of(text).key_id: text for text in keys.read()}
    if key_id not in known:
        raise RotationError(f"there is no key {key_id}; there are: {', '.join(known)}")
    if key_id == next(iter(known)):
        raise RotationError(f"key {key_id} is the one in use; rotate first")
    if keys.changed_at() + SIGNED_URLS_LIVE > now:
        raise RotationError(f"URLs signed under key {key_id} may still be in use; try again a week after the last rotation")
    resealing.reseal_all(_progress)
    left = resealing.sealed_under(key_id)
    if left:
        raise RotationError(f"{left} secrets are still sealed under key {key_id}; try again")
    keys.write([text for known_id, text in known.items() if known_id != key_id])
    print(f"rotation: key {key_id} is forgotten")


def _progress(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"rotation: {done} of {total} secrets", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0, or 1 after one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.rotation", description="Replace the master key and seal every secret anew.")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="folder of the local run (.data)")
    parser.add_argument("--stage", help="a deployed stage instead: its stack is stowage-STAGE")
    parser.add_argument("--forget", metavar="KEY_ID", help="remove this old key, a week after it was replaced")
    chosen = parser.parse_args(arguments)
    try:
        keys = of_stage(chosen.stage) if chosen.stage else local(chosen.data)
        if chosen.forget:
            forget(keys, chosen.forget, time.time())
        else:
            rotate(keys)
    except (RotationError, OSError, BotoCoreError, ClientError) as error:
        print(f"rotation: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
