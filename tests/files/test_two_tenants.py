"""Two tenants who use the same keys: neither ever sees, counts or overwrites what is the other's."""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib import providers
from infra import stack
from tests.api.tus_client import encoded
from tests.client import Client
from tests.conftest import Tenant
from tests.durability.conftest import Stream
from tests.files.conftest import folder, get, keys, listed, patch, put
from tests.files.test_uploads import Uploads

OPERATIONS = 1000
KEYS = ["a.txt", "b.txt", "docs/a.txt", "docs/b.txt", "docs/deep/a.txt", "ü/a b+c.txt"]
FOLDERS = ["mine", "yours", "docs"]


@dataclass
class File:
    """What a tenant knows of one of its files."""

    body: bytes
    acl: str
    folder: str | None
    metadata: dict[str, Any] | None
    version: str
    token: str | None = None


@dataclass
class Drive:
    """A tenant, and an exact model of what is in its drive."""

    name: str
    client: Client
    files: dict[str, File] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    dice: random.Random = field(default_factory=random.Random)
    # Of who sees all: their counts come from counters, which it moves.
    stream: Stream | None = None

    # ---- what may happen -----------------------------------------------------------------------------
    def put(self) -> None:
        key, body = self.dice.choice(KEYS), f"{self.name} {self.dice.random()}".encode()
        answer = put(self.client, key, body, "?folderId=__root__")
        assert answer.status == (200 if key in self.files else 201)
        data, old = answer.json()["data"], self.files.get(key) or File(body, "private", None, None, "")
        self.files[key] = File(body, old.acl, None, old.metadata, data["version"], old.token)

    def upload(self) -> None:
        key, body = self.dice.choice(KEYS), f"{self.name} in chunks {self.dice.random()}".encode()
        uploads = Uploads(self.client)
        upload_id = uploads.begin(len(body), body[:9], upload_metadata=encoded(key=key, folderId="__root__"))
        assert uploads.patch(upload_id, 9, body[9:]).status == 204
        old = self.files.get(key) or File(body, "private", None, None, "")
        version = get(self.client, key).headers["etag"].strip('"')
        self.files[key] = File(body, old.acl, None, old.metadata, version, old.token)

    def move(self) -> None:
        source, target = self.dice.sample(KEYS, 2)
        wanted = {"bucket": ".files", "from": source, "to": target}
        answer = self.client("POST", "/storage/object/move", wanted, {"x-upsert": "false"})
        if source not in self.files:
            assert answer.status == 404
        elif target in self.files:
            assert answer.status == 409
        else:
            self.files[target] = self.files.pop(source)
            self.files[target].token = None  # it ends with a move

    def get(self) -> None:
        key = self.dice.choice(KEYS)
        answer, file = get(self.client, key), self.files.get(key)
        assert answer.status == (200 if file else 404)
        if file:
            assert answer.body == file.body
            assert get(self.client, key, if_none_match=f'"{file.version}"').status == 304

    def delete(self) -> None:
        key = self.dice.choice(KEYS)
        assert self.client("DELETE", f"/api/storage/{_quoted(key)}").status == (200 if self.files.pop(key, None) else 404)

    def patch(self) -> None:
        key, acl, mark = self.dice.choice(KEYS), self.dice.choice(["public", "private"]), self.dice.choice([None, 1, 2])
        name = self.dice.choice([None, *self.folders])
        answer = patch(self.client, key, acl=acl, metadata={self.name: mark}, folderId=self.folders[name] if name else None)
        file = self.files.get(key)
        assert answer.status == (200 if file else 404)
        if file:
            file.acl, file.folder = acl, name
            file.metadata = {self.name: mark} if mark else None

    def list(self) -> None:
        prefix = self.dice.choice(["", "docs/", "a", "ü"])
        assert sorted(keys(self.client, f"prefix={_quoted(prefix)}")) == sorted(key for key in self.files if key.startswith(prefix))

    def search(self) -> None:
        part = self.dice.choice(["A.T", "docs", "deep/", "ü", "none"])
        found = sorted(keys(self.client, f"search={_quoted(part)}"))
        assert found == sorted(key for key in self.files if part.casefold() in key.casefold())

    def list_folder(self) -> None:
        name = self.dice.choice([None, *self.folders])
        query = f"folderId={self.folders[name] if name else '__root__'}"
        assert sorted(keys(self.client, query)) == sorted(key for key, file in self.files.items() if file.folder == name)

    def count(self) -> None:
        if self.stream is not None:
            self.stream.deliver()
            assert listed(self.client, "limit=1")["meta"]["total"] == len(self.files)
        counted = self.client("GET", "/api/storage/folder-counts").json()
        model = Counter(file.folder for file in self.files.values())
        assert counted["root"] == model.pop(None, 0)
        assert {folder_id: number for folder_id, number in counted["byFolderId"].items() if number} == {
            self.folders[str(name)]: number for name, number in model.items()
        }
        assert (counted["total"], counted["complete"]) == (len(self.files), True)

    def make_folder(self) -> None:
        name = self.dice.choice(FOLDERS)
        if name in self.folders:
            assert self.client("POST", "/api/folders", {"name": name}).status == 409
        else:
            self.folders[name] = folder(self.client, name)

    def remove_folder(self) -> None:
        name = self.dice.choice(FOLDERS)
        if name in self.folders:
            assert self.client("DELETE", f"/api/folders/{self.folders.pop(name)}").status == 200
            for file in self.files.values():
                file.folder = None if file.folder == name else file.folder

    def sign(self) -> None:
        key = self.dice.choice(KEYS)
        answer = self.client("POST", f"/api/storage/{_quoted(key)}/sign")
        assert answer.status == (200 if key in self.files else 404)
        if key in self.files:
            self.files[key].token = answer.json()["path"]

    def open(self) -> None:
        for file in self.files.values():
            if file.token:
                assert self.client.using("")("GET", file.token).body == file.body


def _quoted(key: str) -> str:
    from urllib.parse import quote

    return quote(key)


STEPS = {
    "put": 6,
    "get": 6,
    "delete": 2,
    "patch": 4,
    "list": 3,
    "list_folder": 2,
    "count": 2,
    "make_folder": 1,
    "remove_folder": 1,
    "sign": 2,
    "upload": 2,
    "move": 1,
    "search": 1,
}


@pytest.mark.parametrize("who", ["users of one name", "service keys"])
def test_a_thousand_random_operations_each_interleaved_never_touch_what_is_the_others(
    embedded: stack.EmbeddedAWS, new_tenant: Any, who: str
) -> None:
    tenants: list[Tenant] = [new_tenant("one"), new_tenant("two")]
    dice = random.Random(8)
    clients = [tenant.user(sub="same") if who == "users of one name" else tenant.service for tenant in tenants]
    drives = [
        Drive(name, client, dice=random.Random(seed)) for seed, (name, client) in enumerate(zip(("one", "two"), clients, strict=True))
    ]
    if who == "service keys":
        for drive, tenant in zip(drives, tenants, strict=True):
            drive.stream = Stream(embedded, tenant.tenant_id)
    left = [OPERATIONS] * 2
    while any(left):
        turn = dice.randrange(2)
        if left[turn]:
            left[turn] -= 1
            (step,) = dice.choices(list(STEPS), STEPS.values())
            getattr(drives[turn], step)()
    for drive, tenant in zip(drives, tenants, strict=True):
        page = listed(drive.client, "limit=200")["data"]
        assert {each["key"]: (each["acl"], each["metadata"]) for each in page} == {
            key: (file.acl, file.metadata) for key, file in drive.files.items()
        }
        drive.open()
        # What lies in the storage is under the tenant's own folder, and a key of one is never the other's.
        stored = [each.key for each in providers.internal().list(f"objects/tenants/{tenant.tenant_id}/")]
        assert {key.removeprefix(f"objects/tenants/{tenant.tenant_id}/").rpartition("~")[0] for key in stored} >= set(drive.files)


def test_a_token_of_one_tenant_opens_nothing_of_the_other(new_tenant: Any) -> None:
    one, two = new_tenant(), new_tenant()
    for tenant, body in ((one, b"one"), (two, b"two")):
        assert put(tenant.service, "same", body).status == 201
    path = one.service("POST", "/api/storage/same/sign").json()["path"]
    for client in (two.service, two.user(), two.anon, two.nobody):
        assert client("GET", path).body == b"one", "the token says whose file it is, whatever credential comes along"
    forged = path.replace(path.partition("token=")[2].partition(".")[0], _payload_of(two, one, path))
    assert two.nobody("GET", forged).status == 401


def _payload_of(victim: Tenant, signer: Tenant, path: str) -> str:
    """A token's payload that names another tenant."""
    import base64

    encoded = path.partition("token=")[2].partition(".")[0]
    text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    return base64.urlsafe_b64encode(text.replace(signer.tenant_id, victim.tenant_id).encode()).decode().rstrip("=")
