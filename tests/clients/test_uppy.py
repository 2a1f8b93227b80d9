"""Uppy in headless Chromium, on a page whose origin is neither Stowage's nor the storage's."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.conftest import ANSWERED, HERE, MIB, ONE_PROCESS, Source, Stowage
from tests.local.test_run import running

pytestmark = ONE_PROCESS

# Seconds.
PAGE_LIMIT = 90
BROWSER_LIMIT = 120

TUS = "pages/tus.mjs"
# Uppy 6 has its own S3 client and asks for signed URLs; Uppy 5 and before took functions.
DIRECT = {"uppy-6": "pages/s3.mjs", "uppy-5": "uppy5/s3.mjs"}


@dataclass(frozen=True)
class Outcome:
    """What a page and the browser tell of an upload."""

    uploaded: list[str]
    errors: list[str]
    pauses: int
    downloaded: dict[str, Any]
    answers: list[dict[str, Any]]
    complaints: list[str]

    def statuses(self, method: str, url_part: str = "") -> list[int]:
        return [answer["status"] for answer in self.answers if answer["method"] == method and url_part in answer["url"]]


Upload = Callable[..., Outcome]


@pytest.fixture
def upload(packages: Path, folder: Path, tmp_path: Path) -> Upload:
    """Uploads a source, under a name, by the page that a script makes."""

    def run(script: str, place: Stowage, source: Source, name: str, awaited: str | None = None, **told: int) -> Outcome:
        file = tmp_path / name
        file.symlink_to(source.path)
        where = {"api": place.api, "endpoint": place.endpoint, "bucket": place.BUCKET, "meta": place.placed, "object": place.url(name)}
        settings = {
            "script": str(HERE / script),
            "file": str(file),
            "told": {"key": place.key, **where, **told},
            "awaited": awaited,
            "profile": str(folder / f"profile-of-{name}"),
            "milliseconds": PAGE_LIMIT * 1000,
        }
        command = ["node", "browser.mjs", json.dumps(settings)]
        ended = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=BROWSER_LIMIT, check=False)
        assert ended.returncode == 0, ended.stderr
        return Outcome(**json.loads(ended.stdout))

    return run


def assert_downloaded(outcome: Outcome, source: Source) -> None:
    """The page itself got the source's bytes back, the large ones from the storage."""
    assert (outcome.errors, len(outcome.uploaded)) == ([], 1), outcome.complaints
    assert outcome.downloaded == {"status": 200, "redirected": source.size > ANSWERED, "sha256": source.sha256}


# ---- TUS -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 5 * MIB + 1, 64 * MIB])
def test_a_page_uploads_by_tus_and_downloads_the_same(upload: Upload, place: Stowage, source: Callable[[int], Source], size: int) -> None:
    name = f"uppy-{size}.bin"
    assert_downloaded(upload(TUS, place, source(size), name), source(size))
    place.assert_holds(name, source(size))


@pytest.mark.parametrize(("size", "pause_at"), [(5 * MIB + 1, 2 * MIB), (64 * MIB, 30 * MIB)])
def test_a_paused_page_goes_on_with_the_upload_that_it_began(
    upload: Upload, place: Stowage, source: Callable[[int], Source], size: int, pause_at: int
) -> None:
    name = f"uppy-paused-{size}.bin"
    outcome = upload(TUS, place, source(size), name, pauseAt=pause_at)
    assert_downloaded(outcome, source(size))
    assert outcome.pauses == 1
    assert outcome.statuses("POST") == [201]
    assert 200 in outcome.statuses("HEAD")
    place.assert_holds(name, source(size))


def test_a_page_of_an_origin_that_is_not_named_is_kept_out(upload: Upload, folder: Path, source: Callable[[int], Source]) -> None:
    with running(folder / "strict", STOWAGE_LOG_LEVEL="WARNING", STOWAGE_CORS_ORIGINS="https://app.example") as live:
        strict = Stowage(live)
        strict.make_bucket()
        with pytest.raises(AssertionError, match="Failed to fetch"):
            upload(DIRECT["uppy-6"], strict, source(1), "kept-out.bin")
        assert strict.status("kept-out.bin") == 404


# ---- direct ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [64 * MIB, 20 * MIB + 1])
@pytest.mark.parametrize("script", DIRECT.values(), ids=DIRECT.keys())
def test_a_page_uploads_parts_to_the_storage_itself(
    upload: Upload, stowage: Stowage, source: Callable[[int], Source], script: str, size: int
) -> None:
    name = f"{script.replace('/', '-')}-{size}.bin"
    outcome = upload(script, stowage, source(size), name)
    assert_downloaded(outcome, source(size))
    assert outcome.statuses("PUT", "partNumber=") == [200] * -(-size // (16 * MIB))
    assert not outcome.statuses("PUT", stowage.api), "no byte went through Stowage"
    assert outcome.statuses("POST", "/confirm") == [200]
    stowage.assert_holds(name, source(size))


@pytest.mark.parametrize("script", DIRECT.values(), ids=DIRECT.keys())
def test_a_paused_page_goes_on_with_the_parts_that_are_missing(
    upload: Upload, stowage: Stowage, source: Callable[[int], Source], script: str
) -> None:
    name = f"{script.replace('/', '-')}-paused.bin"
    outcome = upload(script, stowage, source(64 * MIB), name, pauseAt=30 * MIB)
    assert_downloaded(outcome, source(64 * MIB))
    assert outcome.pauses == 1
    assert outcome.statuses("POST", "/direct") == [201]
    stowage.assert_holds(name, source(64 * MIB))


@pytest.mark.parametrize("script", DIRECT.values(), ids=DIRECT.keys())
def test_a_page_that_gives_up_leaves_no_upload(upload: Upload, stowage: Stowage, source: Callable[[int], Source], script: str) -> None:
    name = f"{script.replace('/', '-')}-given-up.bin"
    outcome = upload(script, stowage, source(64 * MIB), name, awaited="DELETE", cancelAt=10 * MIB)
    assert (outcome.uploaded, outcome.downloaded["status"]) == ([], 404)
    (ended,) = [answer for answer in outcome.answers if answer["method"] == "DELETE"]
    assert ended["status"] == 200
    again = requests.get(f"{ended['url']}/parts", headers=stowage.headers, timeout=60)
    assert (again.status_code, again.json()["code"]) == (404, "UploadNotFound")
