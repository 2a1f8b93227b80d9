"""The seed's "TUS Resumable Upload" as a user types it: its own lines, byte for byte, with its 5 MiB chunks.

Five MiB are more than Lambda carries, so the run has its limit raised, as a run elsewhere may.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.local.test_run import Running, running

pytestmark = pytest.mark.xdist_group("seed-uploads")

SEED_ADDRESS = "http://localhost:3000"
CREATE = r"""curl -X POST http://localhost:3000/storage/v1/upload/tus \
-H "Authorization: Bearer $SERVICE_KEY" \
-H "Tus-Resumable: 1.0.0" \
-H "Upload-Length: 104857600" \
-H "Upload-Metadata: filename dmlkZW8ubXA0,bucket dmlkZW9z"
"""
FIRST = r"""curl -X PATCH http://localhost:3000/storage/v1/upload/tus/{upload_id} \
-H "Authorization: Bearer $SERVICE_KEY" \
-H "Tus-Resumable: 1.0.0" \
-H "Upload-Offset: 0" \
-H "Content-Type: application/offset+octet-stream" \
--data-binary @chunk1.bin
"""
PROGRESS = r"""curl -I http://localhost:3000/storage/v1/upload/tus/{upload_id} \
-H "Authorization: Bearer $SERVICE_KEY" \
-H "Tus-Resumable: 1.0.0"
"""
RESUME = r"""curl -X PATCH http://localhost:3000/storage/v1/upload/tus/{upload_id} \
-H "Authorization: Bearer $SERVICE_KEY" \
-H "Tus-Resumable: 1.0.0" \
-H "Upload-Offset: 5242880" \
-H "Content-Type: application/offset+octet-stream" \
--data-binary @chunk2.bin
"""
CHUNK = 5242880


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("seed")
    with running(folder / "data", STOWAGE_MAX_BODY="10485760") as run:
        yield run


def typed(live: Running, folder: Path, line: str, upload_id: str = "") -> str:
    """Head and body of what the line is answered."""
    text = line.replace(SEED_ADDRESS, f"http://localhost:{live.port}").replace("{upload_id}", upload_id)
    script = f'source "{live.data}/dev.env"\ncurl() {{ command curl --silent --show-error --include "$@"; }}\n{text}'
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.removeprefix("HTTP/1.1 100 Continue\n\n")


def header(answer: str, name: str) -> str:
    return re.search(rf"^{name}: (.*?)\r?$", answer, re.MULTILINE | re.IGNORECASE)[1]  # type: ignore[index]


def test_the_seed_s_lines_begin_progress_and_resume_an_upload(live: Running, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"chunk{number}.bin").write_bytes(Random(number).randbytes(CHUNK))
    bucket = 'curl -X POST http://localhost:3000/storage/buckets -H "Authorization: Bearer $SERVICE_KEY" -d \'{"name": "videos"}\''
    assert " 201 " in typed(live, tmp_path, bucket)
    created = typed(live, tmp_path, CREATE)
    assert created.startswith("HTTP/1.1 201 ")
    upload_id = header(created, "Location").rpartition("/")[2]
    assert header(created, "Location") == f"http://localhost:{live.port}/storage/v1/upload/tus/{upload_id}"
    first = typed(live, tmp_path, FIRST, upload_id)
    assert first.startswith("HTTP/1.1 204 ")
    progress = typed(live, tmp_path, PROGRESS, upload_id)
    assert (header(progress, "Upload-Offset"), header(progress, "Upload-Length")) == ("5242880", "104857600")
    resumed = typed(live, tmp_path, RESUME, upload_id)
    assert resumed.startswith("HTTP/1.1 204 ")
    assert header(resumed, "Upload-Offset") == "10485760"
