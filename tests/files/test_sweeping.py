"""What the cleanup does with files: their bytes lie in a place of their own, and their folders may go while they are out of sight."""

import pytest

from chalicelib import providers, seam
from chalicelib.core import names, sweeps
from chalicelib.tables.buckets import FILES
from chalicelib.tables.garbage import Quarantined
from chalicelib.tables.objects import StoredObject
from chalicelib.tables.table import Transaction
from tests.client import Client
from tests.conftest import Clock, Tenant
from tests.durability.conftest import Machinery, Stream, machinery
from tests.files.conftest import delete, folder, get, keys, row_of, stored

__all__ = ["machinery"]  # a fixture

# Superseded bytes stay for a day, for those who are reading them, and go with the hour after it.
DAY = 25 * 3600


def hidden(tenant: Tenant, key: str) -> Quarantined:
    """A file's row, put out of sight as a sweep does when its bytes are missing."""
    row = row_of(tenant, key)
    assert row is not None
    made = Quarantined(Quarantined.HOUR, row.physical_key, row=row.attribute_values, until=seam.timestamp() + 3600)
    with Transaction() as transaction:
        transaction.remove(row, StoredObject.name.exists())
        transaction.put(made)
    return made


def bytes_under(tenant: Tenant, key: str) -> str:
    """The physical key of a file's bytes."""
    row = row_of(tenant, key)
    assert row is not None
    return str(row.physical_key)


def held(tenant: Tenant) -> set[str]:
    """The physical keys of all that the storage holds of the tenant's files."""
    return {each.key for each in providers.internal().list(names.container(tenant.tenant_id, FILES))}


@pytest.mark.parametrize("goes", [True, False], ids=["folder gone", "folder there"])
def test_a_file_that_returns_from_quarantine_is_in_no_folder_that_has_gone(tenant: Tenant, ada: Client, goes: bool) -> None:
    """F13.3"""
    folder_id = folder(ada, "holidays")
    stored(ada, "a.jpg", query=f"?folderId={folder_id}")
    hidden(tenant, "a.jpg")
    assert get(ada, "a.jpg").status == 404
    if goes:
        assert ada("DELETE", f"/api/folders/{folder_id}").status == 200
    sweeps.end_quarantines(lambda: 100)
    assert get(ada, "a.jpg").body == b"bytes"
    row = row_of(tenant, "a.jpg")
    assert row is not None
    assert row.folder_id == (None if goes else folder_id)
    assert keys(ada, f"folderId={'__root__' if goes else folder_id}") == ["a.jpg"]


def test_the_place_of_a_files_bytes_says_whose_they_are(tenant: Tenant, ada: Client) -> None:
    """F8.17: so bytes that no row names are known for what they are."""
    stored(ada, "docs/a b+ü.txt")
    row = row_of(tenant, "docs/a b+ü.txt")
    assert row is not None
    placed = names.placed(row.physical_key)
    assert placed == names.Placed(tenant.tenant_id, FILES, "docs/a b+ü.txt", row.version, False)
    assert row.physical_key.startswith(names.container(tenant.tenant_id, FILES))
    (suspect,) = sweeps._unnamed([names.physical_key(tenant.tenant_id, FILES, "gone", "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1024)]) or [None]
    assert suspect is None, "there are no such bytes"
    key = names.physical_key(tenant.tenant_id, FILES, "gone", "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1024)
    providers.internal().put(key, b"orphan", "text/plain")
    assert [each.physical_key for each in sweeps._unnamed([key, row.physical_key])] == [key]


def test_superseded_bytes_of_files_are_filed_as_garbage(tenant: Tenant, ada: Client, stream: Stream) -> None:
    """Invariant 3"""
    from chalicelib.core import garbage

    stored(ada, "a.txt")
    old = row_of(tenant, "a.txt")
    stored(ada, "a.txt", b"over")
    stream.deliver()
    assert old is not None
    assert garbage.is_filed(old.physical_key)
    new = row_of(tenant, "a.txt")
    assert new is not None
    assert not garbage.is_filed(new.physical_key)


def test_a_day_later_only_the_bytes_of_what_is_a_file_are_there(
    tenant: Tenant, ada: Client, service: Client, machinery: Machinery, clock: Clock
) -> None:
    """F8.15: also of one that is called otherwise than its bytes, and of one that was put where another had been."""
    for key in ("gone", "over", "moved", "onto"):
        stored(ada, key, f"first {key}".encode())
    unneeded = {bytes_under(tenant, key) for key in ("gone", "over", "onto")}
    assert delete(ada, "gone").status == 200
    stored(ada, "over", b"second over")
    assert ada("POST", "/storage/object/move", {"bucket": FILES, "from": "moved", "to": "docs/moved"}).status == 200
    stored(ada, "draft", b"draft")
    moved_onto = ada("POST", "/storage/object/move", {"bucket": FILES, "from": "draft", "to": "onto"}, {"x-upsert": "true"})
    assert moved_onto.status == 200
    files = {"over": b"second over", "docs/moved": b"first moved", "onto": b"draft"}
    needed = {bytes_under(tenant, key) for key in files}
    machinery.stream.deliver()
    assert held(tenant) == needed | unneeded
    clock.advance(DAY)
    machinery.hour()
    assert held(tenant) == needed
    assert {key: get(service, key).body for key in files} == files
    assert get(service, "gone").status == 404
