"""Azurite, Microsoft's emulator of Azure Blob Storage. It keeps what it is given in memory."""

import base64
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.npm import installed
from tests.servers.process import LOOPBACK, StartError, external, running

NPM = Path(__file__).parent / "npm"
PROGRAM = NPM / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT = "stowagetests"
# Seconds. Once for a checkout; a start comes after it.
INSTALL_LIMIT = 300


@dataclass(frozen=True)
class Azurite:
    """Where the blob service is, the account's name being part of the address, and the account's key."""

    endpoint: str
    account: str
    key: str
    connection_string: str


@contextmanager
def azurite(folder: Path) -> Iterator[Azurite]:
    """The blob service of one account with a key of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    installed(NPM, INSTALL_LIMIT)
    node = shutil.which("node")
    if node is None:
        raise StartError("node is missing: run tests/install-packages.sh as root, or install the Debian package nodejs")
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    accounts = f"AZURITE_ACCOUNTS={ACCOUNT}:{key}"
    options = ["--inMemoryPersistence", "--blobHost", LOOPBACK, "--blobPort", "0"]
    quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    command = external("/usr/bin/env", accounts, node, str(PROGRAM), *options, *quiet)
    with running(command, folder / "azurite.log", _address) as address:
        endpoint = f"{address}/{ACCOUNT}"
        connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"
        yield Azurite(endpoint, ACCOUNT, key, connection)


def _address(log: str) -> str | None:
    found = re.search(rf"successfully listens on (http://{re.escape(LOOPBACK)}:\d+)", log)
    return found[1] if found else None
