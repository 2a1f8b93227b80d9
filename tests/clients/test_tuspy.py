"""tuspy, the reference client in Python."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage
from tusclient.uploader import Uploader

from tests.clients.conftest import MIB, ONE_PROCESS, REQUEST_LIMIT, Source, Stowage

pytestmark = ONE_PROCESS

CHUNK = 4 * MIB
# Seconds.
TEST_LIMIT = 180

Begin = Callable[..., Uploader]


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """tuspy waits for answers without end; a test does not."""

    def interrupt(*_: object) -> None:
        raise TimeoutError(f"not done after {TEST_LIMIT} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(TEST_LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def begin(place: Stowage) -> Begin:
    """Makes uploaders of a source, under a name."""
    client = TusClient(place.endpoint, headers=place.headers)

    def make(source: Source, name: str, **options: object) -> Uploader:
        return client.uploader(str(source.path), **{"chunk_size": CHUNK, "metadata": place.metadata(name), **options})

    return make


@pytest.mark.parametrize("size", [1, 5 * MIB - 1, 5 * MIB + 1, 64 * MIB])
def test_an_upload_of_any_size_arrives_whole(begin: Begin, place: Stowage, source: Callable[[int], Source], size: int) -> None:
    begin(source(size), f"tuspy/{size}").upload()
    place.assert_holds(f"tuspy/{size}", source(size))


@pytest.mark.parametrize("place", ["stowage"], indirect=True)
def test_so_does_one_of_a_gigabyte(begin: Begin, place: Stowage, source: Callable[[int], Source]) -> None:
    begin(source(1024 * MIB), "tuspy/gigabyte").upload()
    place.assert_holds("tuspy/gigabyte", source(1024 * MIB))


@pytest.mark.parametrize("size", [1, 5 * MIB + 1, 64 * MIB])
def test_chunks_may_have_a_checksum(begin: Begin, place: Stowage, source: Callable[[int], Source], size: int) -> None:
    begin(source(size), f"tuspy/checked-{size}", upload_checksum=True).upload()
    place.assert_holds(f"tuspy/checked-{size}", source(size))


def test_another_uploader_goes_on_at_the_offset_of_a_url(begin: Begin, place: Stowage, source: Callable[[int], Source]) -> None:
    first = begin(source(64 * MIB), "tuspy/url")
    first.upload(stop_at=3 * CHUNK)
    second = begin(source(64 * MIB), "tuspy/url", url=first.url)
    assert second.offset == 3 * CHUNK
    second.upload()
    assert second.url == first.url
    place.assert_holds("tuspy/url", source(64 * MIB))


def test_another_uploader_finds_the_url_that_was_kept_for_a_file(
    begin: Begin, place: Stowage, source: Callable[[int], Source], tmp_path: Path
) -> None:
    kept = FileStorage(str(tmp_path / "urls.json"))
    first = begin(source(20 * MIB + 1), "tuspy/kept", store_url=True, url_storage=kept)
    first.upload(stop_at=2 * CHUNK)
    second = begin(source(20 * MIB + 1), "tuspy/kept", store_url=True, url_storage=kept)
    assert (second.url, second.offset) == (first.url, 2 * CHUNK)
    second.upload()
    kept.close()
    place.assert_holds("tuspy/kept", source(20 * MIB + 1))


@pytest.mark.parametrize("place", ["drive"], indirect=True)
def test_an_upload_of_a_file_is_shown_as_far_as_it_is(begin: Begin, place: Stowage, source: Callable[[int], Source]) -> None:
    uploader = begin(source(20 * MIB + 1), "tuspy/shown")
    for stop_at, status in ((2 * CHUNK, "uploading"), (20 * MIB + 1, "completed")):
        uploader.upload(stop_at=stop_at)
        shown = place.ask("GET", uploader.url.removeprefix(place.api))
        assert (shown["key"], shown["offset"], shown["size"], shown["status"]) == ("tuspy/shown", stop_at, 20 * MIB + 1, status)
        assert shown in place.ask("GET", f"/api/uploads?status={status}")["uploads"]


def test_an_upload_that_is_given_up_is_gone(begin: Begin, place: Stowage, source: Callable[[int], Source]) -> None:
    given_up = begin(source(20 * MIB + 1), "tuspy/given-up")
    given_up.upload(stop_at=2 * CHUNK)
    answer = requests.delete(given_up.url, headers=given_up.get_headers(), timeout=REQUEST_LIMIT)
    assert answer.status_code == 204
    with pytest.raises(TusCommunicationError) as refused:
        given_up.upload()
    assert refused.value.status_code == 404
    assert place.status("tuspy/given-up") == 404


@pytest.mark.parametrize(("place", "missing"), [("stowage", "bucket"), ("drive", "key")], indirect=["place"])
def test_without_metadata_it_is_told_what_is_missing(begin: Begin, source: Callable[[int], Source], missing: str) -> None:
    with pytest.raises(TusCommunicationError) as refused:
        begin(source(1), "", metadata={}).upload()
    assert refused.value.status_code == 400
    assert missing in refused.value.response_content.decode()
