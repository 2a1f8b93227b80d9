"""tuspy, the reference client in Python."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage
from tusclient.uploader import Uploader

from tests.clients.conftest import MIB, ONE_PROCESS, Source, Stowage

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
def begin(stowage: Stowage) -> Begin:
    """Makes uploaders of a source, under a name."""
    client = TusClient(stowage.endpoint, headers=stowage.headers)

    def make(source: Source, name: str, **options: object) -> Uploader:
        metadata = {"bucket": stowage.BUCKET, "path": name, "filetype": "application/octet-stream"}
        return client.uploader(str(source.path), **{"chunk_size": CHUNK, "metadata": metadata, **options})

    return make


@pytest.mark.parametrize("size", [1, 5 * MIB - 1, 5 * MIB + 1, 64 * MIB, 1024 * MIB])
def test_an_upload_of_any_size_arrives_whole(begin: Begin, stowage: Stowage, source: Callable[[int], Source], size: int) -> None:
    begin(source(size), f"tuspy/{size}").upload()
    row = stowage.assert_holds(f"tuspy/{size}", source(size))
    assert row["content_type"] == "application/octet-stream"


@pytest.mark.parametrize("size", [1, 5 * MIB + 1, 64 * MIB])
def test_chunks_may_have_a_checksum(begin: Begin, stowage: Stowage, source: Callable[[int], Source], size: int) -> None:
    begin(source(size), f"tuspy/checked-{size}", upload_checksum=True).upload()
    stowage.assert_holds(f"tuspy/checked-{size}", source(size))


def test_another_uploader_goes_on_at_the_offset_of_a_url(begin: Begin, stowage: Stowage, source: Callable[[int], Source]) -> None:
    first = begin(source(64 * MIB), "tuspy/url")
    first.upload(stop_at=3 * CHUNK)
    second = begin(source(64 * MIB), "tuspy/url", url=first.url)
    assert second.offset == 3 * CHUNK
    second.upload()
    assert second.url == first.url
    stowage.assert_holds("tuspy/url", source(64 * MIB))


def test_another_uploader_finds_the_url_that_was_kept_for_a_file(
    begin: Begin, stowage: Stowage, source: Callable[[int], Source], tmp_path: Path
) -> None:
    kept = FileStorage(str(tmp_path / "urls.json"))
    first = begin(source(20 * MIB + 1), "tuspy/kept", store_url=True, url_storage=kept)
    first.upload(stop_at=2 * CHUNK)
    second = begin(source(20 * MIB + 1), "tuspy/kept", store_url=True, url_storage=kept)
    assert (second.url, second.offset) == (first.url, 2 * CHUNK)
    second.upload()
    kept.close()
    stowage.assert_holds("tuspy/kept", source(20 * MIB + 1))


def test_without_metadata_it_is_told_that_a_bucket_is_needed(begin: Begin, source: Callable[[int], Source]) -> None:
    with pytest.raises(TusCommunicationError) as refused:
        begin(source(1), "", metadata={}).upload()
    assert refused.value.status_code == 400
    assert "bucket" in refused.value.response_content.decode()
