"""What every provider does, on real servers: the contract of `chalicelib/providers/__init__.py`."""

import base64
import hashlib
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.errors import BytesMissing, StorageUnavailable
from chalicelib.providers import Copier, Describer, Expirer, Listed, ListedPart, Multipart, Part, Presigner, Provider, Stat
from tests.contract.conftest import STORAGES, Storage
from tests.contract.keys import NASTY_NAMES, fresh_folder, object_names, physical

BODY = bytes(range(256)) * 4
TEXT = "text/plain"
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def listed(provider: Provider, prefix: str, after: str = "") -> list[str]:
    return [entry.key for entry in provider.list(prefix, after)]


def whole(provider: Provider, key: str) -> bytes | None:
    stat = provider.stat(key)
    return None if stat is None else provider.read(key, 0, stat.size)


@pytest.mark.parametrize("storage", STORAGES, ids=[storage.fixture for storage in STORAGES])
def test_a_provider_can_what_it_is_said_to(storage: Storage, request: pytest.FixtureRequest) -> None:
    provider = request.getfixturevalue(storage.fixture)
    found = {capability for capability in (Copier, Describer, Expirer, Presigner, Multipart) if isinstance(provider, capability)}
    assert found == storage.capabilities
    assert 1024 >= provider.max_key_bytes > 700


# ---- put, read, stat ---------------------------------------------------------------------------------------------
def test_what_is_put_is_read_back(provider: Provider, key: str) -> None:
    provider.put(key, BODY, TEXT)
    assert provider.read(key, 0, len(BODY)) == BODY


@few
@given(st.data())
def test_any_range_is_read_exactly(provider: Provider, data: st.DataObject) -> None:
    body = data.draw(st.binary(min_size=1, max_size=300))
    offset = data.draw(st.integers(0, len(body) - 1))
    length = data.draw(st.integers(1, len(body) - offset))
    key = fresh_folder() + "a"
    provider.put(key, body, TEXT)
    assert provider.read(key, offset, length) == body[offset : offset + length]


def test_an_empty_range_is_read_as_nothing(provider: Provider, key: str) -> None:
    provider.put(key, BODY, TEXT)
    assert provider.read(key, 7, 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(0, len(BODY) + 1), (len(BODY) - 1, 2), (len(BODY), 1), (len(BODY) + 100, 5)])
def test_bytes_beyond_the_end_are_missing(provider: Provider, key: str, offset: int, length: int) -> None:
    provider.put(key, BODY, TEXT)
    with pytest.raises(BytesMissing):
        provider.read(key, offset, length)


def test_an_empty_object_is_there(provider: Provider, key: str) -> None:
    provider.put(key, b"", TEXT)
    stat = provider.stat(key)
    assert stat is not None
    assert stat.size == 0
    assert provider.read(key, 0, 0) == b""
    assert list(provider.list(key)) == [Listed(key, 0)]


def test_an_object_of_several_mebibytes_is_whole(provider: Provider, key: str) -> None:
    body = bytes(5 << 20) + b"end"
    provider.put(key, body, TEXT)
    assert provider.read(key, 0, len(body)) == body
    assert provider.read(key, 5 << 20, 3) == b"end"


def test_reading_what_is_not_there_is_bytes_missing(provider: Provider, key: str) -> None:
    with pytest.raises(BytesMissing):
        provider.read(key, 0, 1)


def test_what_is_not_there_has_no_stat(provider: Provider, key: str) -> None:
    assert provider.stat(key) is None


def test_a_stat_tells_the_size(provider: Provider, key: str) -> None:
    provider.put(key, BODY, TEXT)
    assert provider.stat(key) == Stat(len(BODY))


def test_a_folder_of_keys_is_no_object(provider: Provider, folder: str) -> None:
    provider.put(folder + "a/b", BODY, TEXT)
    assert provider.stat(folder + "a") is None
    with pytest.raises(BytesMissing):
        provider.read(folder + "a", 0, 1)


def test_what_lies_below_an_object_is_not_there(provider: Provider, folder: str) -> None:
    provider.put(folder + "a", BODY, TEXT)
    assert provider.stat(folder + "a/b") is None
    with pytest.raises(BytesMissing):
        provider.read(folder + "a/b", 0, 1)
    assert provider.delete([folder + "a/b"]) == {}
    assert whole(provider, folder + "a") == BODY


@pytest.mark.parametrize("name", NASTY_NAMES, ids=ascii)
def test_every_name_is_kept_as_it_is(provider: Provider, folder: str, name: str) -> None:
    key = physical(folder, name)
    provider.put(key, name.encode(), TEXT)
    assert whole(provider, key) == name.encode()
    assert listed(provider, folder) == [key]
    assert provider.delete([key]) == {}
    assert provider.stat(key) is None


def test_different_names_never_meet(provider: Provider, folder: str) -> None:
    keys = [f"{folder}{number}{name}~x" for number, name in enumerate(NASTY_NAMES)]
    keys += [
        f"{folder}{name}" for name in ("a+b", "a b", "a%20b", "a%2Bb", "x%2Fy", "x%252Fy", "A", "a", "%", "%%", "%25", "q//r", "q/%/r")
    ]
    for key in keys:
        provider.put(key, key.encode(), TEXT)
    assert {key: whole(provider, key) for key in keys} == {key: key.encode() for key in keys}
    assert listed(provider, folder) == sorted(keys, key=str.encode)


# ---- overwriting -------------------------------------------------------------------------------------------------
def test_an_overwrite_replaces_the_whole(provider: Provider, key: str) -> None:
    provider.put(key, BODY, TEXT)
    provider.put(key, b"short", TEXT)
    assert whole(provider, key) == b"short"
    assert list(provider.list(key)) == [Listed(key, 5)]


def test_a_reader_sees_the_old_or_the_new_whole_and_never_a_mix(provider: Provider, key: str) -> None:
    size = 300_000
    provider.put(key, b"a" * size, TEXT)
    seen: list[bytes | Exception] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                seen.append(provider.read(key, 0, size))
            except Exception as error:
                seen.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(30):
        provider.put(key, (b"b" if number % 2 else b"a") * size, TEXT)
    done.set()
    reader.join()
    assert seen
    assert {body if isinstance(body, Exception) else (len(body), frozenset(body)) for body in seen} <= {
        (size, frozenset(b"a")),
        (size, frozenset(b"b")),
    }


# ---- delete ------------------------------------------------------------------------------------------------------
def test_deleting_takes_what_is_there_and_what_is_not(provider: Provider, folder: str) -> None:
    for name in ("a", "b", "c"):
        provider.put(folder + name, BODY, TEXT)
    left = provider.delete([folder + "a", folder + "never", folder + "c", folder + "a"])
    assert left == {}
    assert listed(provider, folder) == [folder + "b"]


def test_deleting_nothing_is_nothing(provider: Provider) -> None:
    assert provider.delete([]) == {}


def test_deleting_a_folder_of_keys_removes_none_of_them(provider: Provider, folder: str) -> None:
    provider.put(folder + "a/b", BODY, TEXT)
    assert provider.delete([folder + "a"]) == {}
    assert listed(provider, folder) == [folder + "a/b"]


def test_what_was_deleted_can_be_put_again(provider: Provider, key: str) -> None:
    provider.put(key, b"one", TEXT)
    provider.delete([key])
    provider.put(key, b"two", TEXT)
    assert whole(provider, key) == b"two"


def test_listing_and_deleting_go_past_a_thousand_keys(quick: Provider, folder: str) -> None:
    keys = [f"{folder}{number:05}" for number in range(1005)]
    for key in keys:
        quick.put(key, b"", TEXT)
    assert listed(quick, folder) == keys
    assert listed(quick, folder, after=keys[1]) == keys[2:]
    assert quick.delete([*keys[:1004], *(f"{folder}missing{number}" for number in range(500))]) == {}
    assert listed(quick, folder) == keys[1004:]


# ---- list --------------------------------------------------------------------------------------------------------
def test_a_prefix_is_exact(provider: Provider, folder: str) -> None:
    for name in ("images", "images/a", "images2/a", "image", "Images/a"):
        provider.put(f"{folder}{name}~1", b"", TEXT)
    assert listed(provider, folder + "images/") == [folder + "images/a~1"]
    assert listed(provider, folder + "images") == [folder + name for name in ("images/a~1", "images2/a~1", "images~1")]
    assert listed(provider, folder + "images3") == []


def test_nothing_is_listed_where_nothing_is(provider: Provider, folder: str) -> None:
    assert listed(provider, folder) == []
    assert listed(provider, folder + "a/b/c") == []


def test_a_listing_tells_sizes(provider: Provider, folder: str) -> None:
    provider.put(folder + "a", b"123", TEXT)
    provider.put(folder + "b", b"", TEXT)
    assert list(provider.list(folder)) == [Listed(folder + "a", 3), Listed(folder + "b", 0)]


def test_folders_do_not_disturb_the_order(provider: Provider, folder: str) -> None:
    names = ["a!b", "a-b", "a.b", "a/b", "a/b/c~", "a0b", "a~b", "aa", "é", "\uffff", "\U00010000"]
    keys = sorted((f"{folder}{name}~1" for name in names), key=str.encode)
    for key in reversed(keys):
        provider.put(key, b"", TEXT)
    assert listed(provider, folder) == keys


@few
@given(names=st.lists(object_names, min_size=1, max_size=6, unique=True), data=st.data())
def test_a_listing_is_in_the_order_of_utf8_bytes(provider: Provider, names: list[str], data: st.DataObject) -> None:
    folder = fresh_folder()
    keys = sorted((physical(folder, name) for name in names), key=str.encode)
    for key in reversed(keys):
        provider.put(key, b"", TEXT)
    assert listed(provider, folder) == keys
    chosen = data.draw(st.sampled_from(keys))
    prefix = chosen[: data.draw(st.integers(len(folder), len(chosen)))]
    after = data.draw(st.sampled_from(["", *keys, chosen[:-1], chosen + "0"]))
    wanted = [key for key in keys if key.startswith(prefix) and key.encode() > after.encode()]
    assert listed(provider, prefix, after) == wanted


# ---- Copier ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a b+c", "ünï/🙂", "x%2Fy", "p//q", "plain"])
def test_a_copy_is_an_object_of_its_own(copier: Any, folder: str, name: str) -> None:
    source, target = f"{folder}{name}~1", f"{folder}copies/{name}~2"
    copier.put(source, BODY, TEXT)
    copier.copy(source, target)
    copier.delete([source])
    assert whole(copier, target) == BODY
    assert copier.stat(source) is None


def test_a_copy_replaces_what_was_there(copier: Any, folder: str) -> None:
    copier.put(folder + "a", BODY, TEXT)
    copier.put(folder + "b", b"old", TEXT)
    copier.copy(folder + "a", folder + "b")
    assert whole(copier, folder + "b") == BODY


def test_a_copy_of_what_is_not_there_is_bytes_missing(copier: Any, folder: str) -> None:
    with pytest.raises(BytesMissing):
        copier.copy(folder + "a", folder + "b")
    assert copier.stat(folder + "b") is None


# ---- Presigner ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a b+c", "ünï/🙂", "x%2Fy", "p//q", "plain"])
def test_a_presigned_get_carries_type_and_disposition(presigner: Any, folder: str, name: str) -> None:
    key = f"{folder}{name}~1"
    presigner.put(key, BODY, "application/octet-stream")
    disposition = "attachment; filename=\"a.txt\"; filename*=UTF-8''%C3%A4.txt"
    url = presigner.presign_get(key, 60, "text/plain; charset=utf-8", disposition)
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == BODY
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["Content-Disposition"] == disposition


def test_a_presigned_get_without_disposition_has_none(presigner: Any, key: str) -> None:
    presigner.put(key, BODY, TEXT)
    with urllib.request.urlopen(presigner.presign_get(key, 60, "image/png", ""), timeout=10) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] is None


# ---- inspect -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a b+c", "ünï/🙂", "x%2Fy", "p//q", "plain"])
def test_an_inspection_tells_size_and_the_first_bytes(provider: Provider, folder: str, name: str) -> None:
    provider.put(f"{folder}{name}~1", BODY, TEXT)
    found = provider.inspect(f"{folder}{name}~1", 10)
    assert found is not None
    assert (found.size, found.start) == (len(BODY), BODY[:10])


@pytest.mark.parametrize("length", [1, len(BODY) - 1, len(BODY), len(BODY) + 1, 10 * len(BODY)])
def test_an_inspection_gives_as_many_bytes_as_there_are(provider: Provider, key: str, length: int) -> None:
    provider.put(key, BODY, TEXT)
    found = provider.inspect(key, length)
    assert found is not None
    assert (found.size, found.start) == (len(BODY), BODY[:length])


def test_an_empty_object_is_inspected_as_empty(provider: Provider, key: str) -> None:
    provider.put(key, b"", TEXT)
    found = provider.inspect(key, 512)
    assert found is not None
    assert (found.size, found.start) == (0, b"")


def test_what_is_not_there_is_inspected_as_none(provider: Provider, folder: str) -> None:
    provider.put(folder + "a/b", BODY, TEXT)
    assert provider.inspect(folder + "a", 512) is None
    assert provider.inspect(folder + "never", 512) is None


@pytest.mark.parametrize("body", [BODY, b""])
def test_an_inspection_tells_when_it_was_stored_last(provider: Provider, key: str, body: bytes) -> None:
    provider.put(key, b"before", TEXT)
    began = time.time()
    provider.put(key, body, TEXT)
    found = provider.inspect(key, 1)
    assert found is not None
    assert began - 2 < found.stored < time.time() + 2, "S3 tells whole seconds"


@pytest.mark.parametrize("body", [BODY, b""])
def test_a_storage_that_presigns_keeps_the_type(presigner: Any, key: str, body: bytes) -> None:
    presigner.put(key, body, "text/csv; charset=utf-8")
    assert presigner.inspect(key, 1).content_type == "text/csv; charset=utf-8"


# ---- Describer ---------------------------------------------------------------------------------------------------
def test_what_is_said_of_an_object_by_a_presigned_put_is_told_again(describer: Any, key: str) -> None:
    told = {"x-amz-meta-upload-attempt": "One", "x-amz-meta-expected-size-bytes": "5"}
    signed = describer.presign_put(key, 60, {"Content-Length": "5", "If-None-Match": "*", **told})
    request = urllib.request.Request(signed.url, b"bytes", {"Content-Type": "application/octet-stream", **signed.headers}, method="PUT")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status in (200, 201)
    found = describer.describe(key)
    assert found.size == 5
    assert {name.removeprefix("x-amz-meta-"): value for name, value in told.items()}.items() <= found.metadata.items()
    assert found.md5 in (None, base64.b64encode(hashlib.md5(b"bytes").digest()).decode())


def test_what_was_put_without_a_word_is_described_without_one(describer: Any, key: str) -> None:
    describer.put(key, BODY, TEXT)
    found = describer.describe(key)
    assert (found.size, dict(found.metadata)) == (len(BODY), {})


def test_what_is_not_there_is_described_as_none(describer: Any, folder: str) -> None:
    assert describer.describe(folder + "never") is None


def test_of_what_was_put_together_no_md5_is_told(describer: Any, key: str) -> None:
    upload = describer.create_multipart(key, TEXT)
    describer.complete_multipart(key, upload, [describer.upload_part(key, upload, 1, BODY)])
    found = describer.describe(key)
    assert (found.size, found.md5) == (len(BODY), None)


def test_what_was_put_together_is_inspected_under_the_type_that_it_began_with(presigner: Any, key: str) -> None:
    upload = presigner.create_multipart(key, "image/png")
    presigner.complete_multipart(key, upload, [presigner.upload_part(key, upload, 1, BODY)])
    found = presigner.inspect(key, 4)
    assert (found.size, found.start, found.content_type) == (len(BODY), BODY[:4], "image/png")


# ---- Multipart ---------------------------------------------------------------------------------------------------
def test_an_object_is_made_of_its_parts_in_order(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    size = multipart.min_part_bytes
    last = multipart.upload_part(key, upload, 2, b"end")
    first = multipart.upload_part(key, upload, 1, b"a" * size)
    assert multipart.stat(key) is None
    multipart.complete_multipart(key, upload, [first, last])
    stat = multipart.stat(key)
    assert stat.size == size + 3
    assert multipart.read(key, size - 2, 5) == b"aaend"


def test_a_part_sent_again_replaces_the_earlier_one(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    multipart.upload_part(key, upload, 1, b"first")
    again = multipart.upload_part(key, upload, 1, b"again!")
    multipart.complete_multipart(key, upload, [again])
    assert whole(multipart, key) == b"again!"


def test_parts_that_are_not_named_are_left_out(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    kept = multipart.upload_part(key, upload, 1, b"kept")
    multipart.upload_part(key, upload, 2, b"not kept")
    multipart.complete_multipart(key, upload, [kept])
    assert whole(multipart, key) == b"kept"


@pytest.mark.parametrize("name", ["plain", "a b+ü%2F🙂//x"])
def test_a_part_is_copied_from_a_range_of_another_object(multipart: Any, folder: str, name: str) -> None:
    source, target = f"{folder}{name}~1", f"{folder}target"
    body = b"x" * 10 + b"a" * multipart.min_part_bytes + b"y" * 10
    multipart.put(source, body, TEXT)
    upload = multipart.create_multipart(target, TEXT)
    first = multipart.copy_part(target, upload, 1, source, 10, multipart.min_part_bytes)
    last = multipart.copy_part(target, upload, 2, source, len(body) - 10, 10)
    multipart.complete_multipart(target, upload, [first, last])
    assert whole(multipart, target) == body[10:]


def test_a_part_of_what_is_not_there_is_bytes_missing(multipart: Any, folder: str) -> None:
    upload = multipart.create_multipart(folder + "target", TEXT)
    with pytest.raises(BytesMissing):
        multipart.copy_part(folder + "target", upload, 1, folder + "never", 0, 10)


def test_completing_again_succeeds(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    parts = [multipart.upload_part(key, upload, 1, b"body")]
    multipart.complete_multipart(key, upload, parts)
    multipart.complete_multipart(key, upload, parts)
    assert whole(multipart, key) == b"body"


@pytest.mark.usefixtures("no_backoff")
def test_completing_what_was_aborted_fails(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    parts = [multipart.upload_part(key, upload, 1, b"body")]
    multipart.abort_multipart(key, upload)
    with pytest.raises((BytesMissing, StorageUnavailable)):  # moto's server answers 500
        multipart.complete_multipart(key, upload, parts)
    assert multipart.stat(key) is None


@pytest.mark.usefixtures("no_backoff")
def test_aborting_again_succeeds_and_leaves_nothing(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    multipart.upload_part(key, upload, 1, b"body")
    multipart.abort_multipart(key, upload)
    multipart.abort_multipart(key, upload)
    assert multipart.stat(key) is None
    with pytest.raises((BytesMissing, StorageUnavailable)):  # moto's server answers 500
        multipart.upload_part(key, upload, 2, b"more")


def test_aborting_what_was_completed_keeps_the_object(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    multipart.complete_multipart(key, upload, [multipart.upload_part(key, upload, 1, b"body")])
    multipart.abort_multipart(key, upload)
    assert whole(multipart, key) == b"body"


def test_a_part_with_the_wrong_etag_is_refused(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    part = multipart.upload_part(key, upload, 1, b"body")
    with pytest.raises(StorageUnavailable):
        multipart.complete_multipart(key, upload, [Part(1, '"00000000000000000000000000000000"')])
    assert multipart.stat(key) is None
    multipart.complete_multipart(key, upload, [part])
    assert whole(multipart, key) == b"body"


def test_parts_are_listed_by_number_with_etag_and_size(multipart: Any, folder: str) -> None:
    key, source = folder + "target", folder + "source"
    multipart.put(source, BODY, TEXT)
    upload = multipart.create_multipart(key, TEXT)
    assert list(multipart.list_parts(key, upload)) == []
    made = {
        number: multipart.upload_part(key, upload, number, body)
        for number, body in ((10, b"ten"), (2, b"2"), (9999, b"last"), (1, b"one!"), (100, b"x"))
    }
    made[11] = multipart.copy_part(key, upload, 11, source, 5, 7)
    sizes = {1: 4, 2: 1, 10: 3, 11: 7, 100: 1, 9999: 4}
    assert list(multipart.list_parts(key, upload)) == [ListedPart(number, made[number].etag, size) for number, size in sizes.items()]


def test_a_part_that_was_replaced_is_listed_once_as_it_is_now(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    multipart.upload_part(key, upload, 1, b"first")
    again = multipart.upload_part(key, upload, 1, b"again!")
    assert list(multipart.list_parts(key, upload)) == [ListedPart(1, again.etag, 6)]
    same = multipart.upload_part(key, upload, 1, b"again!")
    assert same == again
    assert list(multipart.list_parts(key, upload)) == [ListedPart(1, again.etag, 6)]


def test_an_object_is_made_of_its_parts_as_they_are_listed(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    multipart.upload_part(key, upload, 2, b"end")
    multipart.upload_part(key, upload, 1, b"a" * multipart.min_part_bytes)
    multipart.complete_multipart(key, upload, multipart.list_parts(key, upload))
    assert whole(multipart, key) == b"a" * multipart.min_part_bytes + b"end"


def test_two_uploads_of_one_key_have_parts_of_their_own(multipart: Any, key: str) -> None:
    first, second = multipart.create_multipart(key, TEXT), multipart.create_multipart(key, TEXT)
    assert first != second
    multipart.upload_part(key, first, 1, b"first")
    part = multipart.upload_part(key, second, 1, b"second")
    assert [part.size for part in multipart.list_parts(key, first)] == [5]
    multipart.complete_multipart(key, second, [part])
    assert whole(multipart, key) == b"second"
    assert [part.size for part in multipart.list_parts(key, first)] == [5]
    multipart.abort_multipart(key, first)
    assert whole(multipart, key) == b"second"


def test_parts_of_an_upload_that_there_is_not_are_bytes_missing(multipart: Any, folder: str) -> None:
    key = folder + "a"
    completed, aborted = (multipart.create_multipart(key, TEXT) for _ in range(2))
    multipart.complete_multipart(key, completed, [multipart.upload_part(key, completed, 1, b"body")])
    multipart.upload_part(key, aborted, 1, b"body")
    multipart.abort_multipart(key, aborted)
    for upload in ("0" * 32, completed, aborted):
        with pytest.raises(BytesMissing):
            multipart.list_parts(key, upload)


def test_the_object_is_whole_however_many_complete_it_at_once(multipart: Any, key: str) -> None:
    upload = multipart.create_multipart(key, TEXT)
    parts = [multipart.upload_part(key, upload, number, b"%d" % number * multipart.min_part_bytes) for number in (1, 2)]

    def complete(_: int) -> None:
        with suppress(StorageUnavailable):  # the parts went while it was at them: told to try again
            multipart.complete_multipart(key, upload, parts)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(complete, range(6)))
    multipart.complete_multipart(key, upload, parts)
    assert whole(multipart, key) == b"1" * multipart.min_part_bytes + b"2" * multipart.min_part_bytes


@pytest.mark.parametrize("name", ["plain", "a b+ü%2F🙂//x", "amp&amp;<tag>'"])
def test_every_unfinished_upload_to_a_key_is_aborted_and_no_other(multipart: Any, folder: str, name: str) -> None:
    key = folder + name
    others = [key + "2", key + "/x", key[:-1], folder + "other", key.upper()]
    kept = {other: multipart.create_multipart(other, TEXT) for other in others}
    unfinished = [multipart.create_multipart(key, TEXT) for _ in range(3)]
    multipart.upload_part(key, unfinished[0], 1, b"body")
    assert multipart.abort_all(key) == 3
    for upload in unfinished:
        with pytest.raises(BytesMissing):
            multipart.list_parts(key, upload)
    assert multipart.stat(key) is None
    assert multipart.abort_all(key) == 0
    for other, upload in kept.items():
        assert list(multipart.list_parts(other, upload)) == []
        assert multipart.abort_all(other) == 1


def test_there_is_nothing_to_abort_where_nothing_began_or_all_is_finished(multipart: Any, key: str) -> None:
    assert multipart.abort_all(key) == 0
    multipart.put(key, b"old", TEXT)
    assert multipart.abort_all(key) == 0
    upload = multipart.create_multipart(key, TEXT)
    multipart.complete_multipart(key, upload, [multipart.upload_part(key, upload, 1, b"body")])
    assert multipart.abort_all(key) == 0
    assert whole(multipart, key) == b"body"


def test_a_part_below_the_minimum_is_refused_unless_it_is_the_last(strict_multipart: Any, key: str) -> None:
    upload = strict_multipart.create_multipart(key, TEXT)
    small = bytes(strict_multipart.min_part_bytes - 1)
    parts = [strict_multipart.upload_part(key, upload, number, body) for number, body in ((1, small), (2, b"end"))]
    with pytest.raises(StorageUnavailable):
        strict_multipart.complete_multipart(key, upload, parts)
    assert strict_multipart.stat(key) is None


def test_the_limits_of_parts_make_an_object_of_at_least_48_gib_possible(multipart: Any) -> None:
    sizes = [multipart.min_part_bytes, multipart.max_part_bytes, multipart.max_part_bytes * multipart.max_parts]
    assert all(smaller < larger for smaller, larger in pairwise(sizes))
    assert multipart.min_part_bytes * multipart.max_parts >= 48 << 30


@pytest.mark.parametrize("name", ["a\uffff", "a\ufffe", "\U0010ffff\uffff/b"])
def test_a_key_that_xml_cannot_hold_is_deleted_with_the_others(provider: Provider, folder: str, name: str) -> None:
    """One request deletes many keys, and must not fail for the sake of one."""
    keys = [folder + "first", folder + name, folder + "last"]
    for key in keys:
        provider.put(key, b"x", TEXT)
    assert provider.delete(keys) == {}
    assert [provider.stat(key) for key in keys] == [None, None, None]
