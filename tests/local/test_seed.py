"""The seed's "Bucket Management" and "Object Upload and Download" as a user types them: bash, curl, real files.

The tests stand in the order of a session: the seed's own lines, then more files, names and options of curl, then the
deletions, then the end of the run. A worker of its own keeps them so.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from shlex import quote
from typing import Any

import pytest
from PIL import Image

from infra import stack
from tests.local.test_run import ROOT, START_LIMIT, STOP_LIMIT, Running, free_port, nobody_uses, running

pytestmark = pytest.mark.xdist_group("seed")

# Copied from the seed as it stands there; only the port is put in when a line is run.
SEED_ADDRESS = "http://localhost:3000"
SEED = r"""# Create a public bucket with MIME whitelist
curl -X POST http://localhost:3000/storage/buckets \
-H "Authorization: Bearer $SERVICE_KEY" \
-H "Content-Type: application/json" \
-d '{
"name": "avatars",
"public": true,
"allowed_mime_types": ["image/png", "image/jpeg", "image/webp"],
"file_size_limit": 5242880
}'
# Create a private bucket for documents
curl -X POST http://localhost:3000/storage/buckets \
-H "Authorization: Bearer $SERVICE_KEY" \
-H "Content-Type: application/json" \
-d '{"name": "documents", "public": false}'
# List all buckets
curl http://localhost:3000/storage/buckets \
-H "Authorization: Bearer $SERVICE_KEY"
# Delete a bucket (removes all objects)
curl -X DELETE http://localhost:3000/storage/buckets/avatars \
-H "Authorization: Bearer $SERVICE_KEY"
# Simple upload
curl -X POST http://localhost:3000/storage/object/avatars/user1.png \
-H "Authorization: Bearer $SERVICE_KEY" \
-H "Content-Type: image/png" \
--data-binary @avatar.png
# Download a file
curl http://localhost:3000/storage/object/avatars/user1.png \
-H "Authorization: Bearer $ANON_KEY" -o avatar.png
# Download with image transform
curl "http://localhost:3000/storage/object/avatars/user1.png?width=200&height=200&format=webp&quality=80" \
-H "Authorization: Bearer $ANON_KEY" -o thumbnail.webp
# List objects with prefix and pagination
curl "http://localhost:3000/storage/objects/avatars?prefix=user1/&limit=100&offset=0" \
-H "Authorization: Bearer $ANON_KEY"
# Delete a file
curl -X DELETE http://localhost:3000/storage/object/avatars/user1.png \
-H "Authorization: Bearer $SERVICE_KEY"
"""
_WORDS = re.split(r"^# (.+)\n", SEED, flags=re.MULTILINE)[1:]
LINES = dict(zip(_WORDS[::2], _WORDS[1::2], strict=True))
"""The seed's lines by the comment above each."""
CREATE_PUBLIC = "Create a public bucket with MIME whitelist"
CREATE_PRIVATE = "Create a private bucket for documents"
LIST_BUCKETS = "List all buckets"
DELETE_BUCKET = "Delete a bucket (removes all objects)"
UPLOAD = "Simple upload"
DOWNLOAD = "Download a file"
TRANSFORM = "Download with image transform"
LIST_OBJECTS = "List objects with prefix and pagination"
DELETE_FILE = "Delete a file"

# curl as the seed has it, but that it notes the answer's head and shows errors instead of a progress meter.
CURL = 'curl() { command curl --disable --silent --show-error --dump-header "$HEAD" "$@"; }'
SERVICE = '-H "Authorization: Bearer $SERVICE_KEY"'
ANON = '-H "Authorization: Bearer $ANON_KEY"'
# Seconds.
LINE_LIMIT = 60
JOB_LIMIT = 30

KINDS = {
    "photo.jpg": "image/jpeg",
    "avatar.png": "image/png",
    "invoice.pdf": "application/pdf",
    "empty": "text/plain",
    "note.txt": "text/plain",
}


# ---- files -----------------------------------------------------------------------------------------------------
def picture(width: int, height: int, seed: int) -> Image.Image:
    """Light and shadow with the noise of a sensor, so that no format makes it small."""
    grey = Image.radial_gradient("L").resize((width, height))
    light = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), grey.point(lambda level: 255 - level)))
    noise = Image.frombytes("RGB", (width, height), Random(seed).randbytes(width * height * 3))
    return Image.blend(light, noise, 0.25)


def scanned_page(width: int, height: int) -> bytes:
    """A PDF of one page that shows a grey picture of `width` by `height` bytes, uncompressed as some scanners write it."""
    drawn = b"q 595 0 0 842 0 0 cm /Scan Do Q"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /XObject << /Scan 5 0 R >> >> /Contents 4 0 R >>"
    scan = b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8 /Length %d >>\n"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        scan % (width, height, width * height) + b"stream\n" + Random(4).randbytes(width * height) + b"\nendstream",
    ]
    pdf = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    pdf += b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        count,
        table,
        count,
        len(pdf),
    )
    return bytes(pdf)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a user uploads."""
    folder = tmp_path_factory.mktemp("files")
    picture(2000, 1500, 1).save(folder / "photo.jpg", quality=85)
    picture(1200, 900, 2).save(folder / "avatar.png")
    (folder / "invoice.pdf").write_bytes(scanned_page(2000, 2000))
    (folder / "empty").touch()
    (folder / "note.txt").write_text("Grüße, 世界\n", encoding="utf-8")
    (folder / "too-large.bin").write_bytes(Random(5).randbytes(5_000_000))
    (folder / "far-too-large.bin").write_bytes(Random(6).randbytes(11_000_000))
    return folder


# ---- a terminal ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Answered:
    """What curl got and printed. Header names in lower case."""

    status: int
    headers: dict[str, str]
    printed: bytes

    def json(self) -> Any:
        return json.loads(self.printed)


class Terminal:
    """A bash with `dev.env` sourced, in a folder of its own; `$FILES` is where the files lie."""

    def __init__(self, live: Running, files: Path, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port or live.port
        self._head = folder / ".head"
        self._environment = clean_environment() | {"FILES": str(files), "HEAD": str(self._head)}
        self._start = f"set -e; {sourced(live)}; export STOWAGE_URL=http://localhost:{self.port}; {CURL}\n"

    def __call__(self, line: str, exit_status: int = 0) -> Answered:
        """Run a line with one curl in it."""
        self._head.unlink(missing_ok=True)
        command = ["bash", "-c", self._start + line]
        done = subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, timeout=LINE_LIMIT, check=False)
        assert done.returncode == exit_status, f"{line}\n{done.stderr.decode()}{done.stdout[:1000]!r}"
        last = self._head.read_bytes().decode().strip().split("\r\n\r\n")[-1]  # an interim 100 comes before
        status, *headers = last.split("\r\n")
        fields = (header.partition(":") for header in headers)
        return Answered(int(status.split()[1]), {name.lower(): value.strip() for name, _, value in fields}, done.stdout)

    def seed(self, title: str) -> Answered:
        """Run the seed's line under this title."""
        return self(LINES[title].replace(SEED_ADDRESS, f"http://localhost:{self.port}"))

    def file(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    # ---- lines that many tests need ----
    def bucket(self, name: str) -> None:
        body = quote(json.dumps({"name": name}))
        assert self(f'curl -X POST "$STOWAGE_URL/storage/buckets" {SERVICE} -H "Content-Type: application/json" -d {body}').status == 201

    def put(self, place: str, file: str) -> Answered:
        """Upload one of the files to `bucket/path`, the path percent-encoded."""
        sent = f'-H "Content-Type: {KINDS[file]}" --data-binary @"$FILES/{file}"'
        return self(f'curl --path-as-is -X POST "$STOWAGE_URL/storage/object/{place}" {SERVICE} {sent}')

    def get(self, place: str, options: str = "", key: str = SERVICE) -> Answered:
        return self(f'curl --path-as-is "$STOWAGE_URL/storage/object/{place}" {key} {options}')

    def delete(self, place: str) -> Answered:
        return self(f'curl --path-as-is -X DELETE "$STOWAGE_URL/storage/object/{place}" {SERVICE}')

    def info(self, place: str) -> Answered:
        return self(f'curl --path-as-is "$STOWAGE_URL/storage/object-info/{place}" {SERVICE}')

    def rows(self, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
        """The bucket's listing."""
        answered = self(f'curl -G "$STOWAGE_URL/storage/objects/{bucket}" --data-urlencode {quote("prefix=" + prefix)} {SERVICE}')
        assert answered.status == 200, answered
        rows: list[dict[str, Any]] = answered.json()
        return rows

    def names(self, bucket: str) -> list[str]:
        return [row["name"] for row in self.rows(bucket)]


def clean_environment() -> dict[str, str]:
    """A user's, without proxies, keys or a .curlrc: what a line needs beside it must come from `dev.env`."""
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}


def sourced(live: Running) -> str:
    return f"source {quote(str(live.data / 'dev.env'))}"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The run that all tests here share. Its log would fill the pipe that nobody reads meanwhile, so it tells only of trouble."""
    missing = [command for command in ("bash", "curl") if not shutil.which(command, path=clean_environment()["PATH"])]
    if missing:
        pytest.fail(f"{' and '.join(missing)} is not installed; tests/install-packages.sh does that, or your package manager")
    with running(tmp_path_factory.mktemp("seed") / "data", STOWAGE_LOG_LEVEL="WARNING") as started:
        yield started


@pytest.fixture
def terminal(live: Running, files: Path, tmp_path: Path) -> Terminal:
    return Terminal(live, files, tmp_path)


@pytest.fixture(scope="module")
def shared(live: Running, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A terminal for module fixtures."""
    return Terminal(live, files, tmp_path_factory.mktemp("terminal"))


# ---- the seed's lines, in its order ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Told:
    """What the seed's lines answered, by title, and the file that its download wrote."""

    answers: dict[str, Answered]
    downloaded: bytes


@pytest.fixture(scope="module")
def told(shared: Terminal, files: Path) -> Told:
    """The seed's lines but the deletions and the transform, with a picture in the folder that it lists."""
    answers = {title: shared.seed(title) for title in (CREATE_PUBLIC, CREATE_PRIVATE, LIST_BUCKETS)}
    uploaded = shutil.copy(files / "avatar.png", shared.folder / "avatar.png")
    answers[UPLOAD] = shared.seed(UPLOAD)
    uploaded.unlink()  # the download has the same name
    answers[DOWNLOAD] = shared.seed(DOWNLOAD)
    assert shared.put("avatars/user1/photo.jpg", "photo.jpg").status == 201
    answers[LIST_OBJECTS] = shared.seed(LIST_OBJECTS)
    return Told(answers, shared.file("avatar.png"))


def test_the_lines_are_the_seed_s_to_the_byte() -> None:
    assert sha256(SEED.encode()) == "c8f9d1c349cce8beaab8f8fbc76d4d9e7a929d8abc0c38c4445a73bb9e5a5f4e"


def test_the_files_are_what_they_seem(files: Path) -> None:
    for name, form in (("photo.jpg", "JPEG"), ("avatar.png", "PNG")):
        with Image.open(files / name) as image:
            image.load()
            assert image.format == form
            assert 1_000_000 <= image.width * image.height <= 3_000_000
        assert 1_000_000 < (files / name).stat().st_size < 4_400_000
    pdf = (files / "invoice.pdf").read_bytes()
    assert 3_990_000 < len(pdf) < 4_010_000
    assert pdf[int(pdf.split()[-2]) :].startswith(b"xref\n0 6\n")


def test_the_line_that_creates_a_public_bucket_creates_it_as_told(told: Told) -> None:
    answer = told.answers[CREATE_PUBLIC]
    assert answer.status == 201
    created = answer.json()
    assert (created["name"], created["public"], created["visibility"]) == ("avatars", True, "public")
    assert created["allowed_mime_types"] == created["allowed_mimes"] == ["image/png", "image/jpeg", "image/webp"]
    assert created["file_size_limit"] == created["max_file_size"] == 5_242_880


def test_the_line_that_creates_a_private_bucket_creates_it_as_told(told: Told) -> None:
    answer = told.answers[CREATE_PRIVATE]
    assert answer.status == 201
    created = answer.json()
    assert (created["name"], created["public"], created["visibility"]) == ("documents", False, "private")
    assert created["allowed_mime_types"] is None
    assert created["file_size_limit"] is None


def test_the_line_that_lists_the_buckets_shows_both(told: Told) -> None:
    answer = told.answers[LIST_BUCKETS]
    assert answer.status == 200
    assert {bucket["id"]: bucket["name"] for bucket in answer.json()} == {
        told.answers[CREATE_PUBLIC].json()["id"]: "avatars",
        told.answers[CREATE_PRIVATE].json()["id"]: "documents",
    }


def test_the_line_that_uploads_stores_the_picture(told: Told, files: Path) -> None:
    answer, content = told.answers[UPLOAD], (files / "avatar.png").read_bytes()
    assert answer.status == 201
    stored = answer.json()
    assert (stored["name"], stored["size"], stored["content_type"]) == ("user1.png", len(content), "image/png")
    assert stored["checksum"] == sha256(content)


def test_the_line_that_downloads_by_the_anon_key_gives_the_same_bytes(told: Told, files: Path) -> None:
    answer = told.answers[DOWNLOAD]
    assert answer.status == 200
    assert answer.headers["content-type"] == "image/png"
    assert sha256(told.downloaded) == sha256((files / "avatar.png").read_bytes())


def test_the_line_that_lists_by_prefix_shows_what_lies_in_the_folder_only(told: Told, files: Path) -> None:
    answer, content = told.answers[LIST_OBJECTS], (files / "photo.jpg").read_bytes()
    assert answer.status == 200
    (row,) = answer.json()
    assert (row["name"], row["size"], row["content_type"]) == ("user1/photo.jpg", len(content), "image/jpeg")
    assert row["checksum"] == sha256(content)


def test_the_line_that_transforms_gives_the_picture_small_and_as_webp(told: Told, shared: Terminal) -> None:
    answer = shared.seed(TRANSFORM)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
    with Image.open(shared.folder / "thumbnail.webp") as image:
        image.load()
        assert (image.format, image.size) == ("WEBP", (200, 150))


def test_a_bucket_of_the_seed_is_not_created_twice(told: Told, terminal: Terminal) -> None:
    assert terminal.seed(CREATE_PUBLIC).status == 409


@pytest.mark.parametrize("declared", ["application/pdf", "image/png"])
def test_the_whitelist_refuses_a_pdf_whatever_it_is_called(told: Told, terminal: Terminal, declared: str) -> None:
    sent = f'-H "Content-Type: {declared}" --data-binary @"$FILES/invoice.pdf"'
    refused = terminal(f'curl -X POST "$STOWAGE_URL/storage/object/avatars/invoice.png" {SERVICE} {sent}')
    assert refused.status == 415
    assert terminal.get("avatars/invoice.png").status == 404


def test_uploading_the_line_s_picture_again_overwrites_it(told: Told, terminal: Terminal, files: Path) -> None:
    shutil.copy(files / "avatar.png", terminal.folder)
    again = terminal.seed(UPLOAD)
    assert again.status == 200
    assert again.json()["id"] == told.answers[UPLOAD].json()["id"]
    assert again.json()["version"] != told.answers[UPLOAD].json()["version"]


def test_the_anon_key_sees_nothing_in_the_private_bucket_and_writes_nowhere(told: Told, terminal: Terminal) -> None:
    assert terminal.put("documents/secret.txt", "note.txt").status == 201
    assert terminal.get("documents/secret.txt", key=ANON).status == 404
    for bucket in ("documents", "avatars"):
        sent = '-H "Content-Type: image/png" --data-binary @"$FILES/avatar.png"'
        assert terminal(f'curl -X POST "$STOWAGE_URL/storage/object/{bucket}/anon.png" {ANON} {sent}').status == 403
        assert terminal.get(f"{bucket}/anon.png").status == 404


# ---- real files ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("file", KINDS)
def test_a_file_comes_back_as_it_went(told: Told, terminal: Terminal, files: Path, file: str) -> None:
    content = (files / file).read_bytes()
    stored = terminal.put(f"documents/{file}", file)
    assert stored.status == 201
    assert (stored.json()["size"], stored.json()["checksum"]) == (len(content), sha256(content))
    answer = terminal.get(f"documents/{file}")
    assert answer.status == 200
    assert (answer.headers["content-type"], answer.headers["content-length"]) == (KINDS[file], str(len(content)))
    assert sha256(answer.printed) == sha256(content)


# ---- names -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Named:
    """An object's name, the path that curl sends for it, and the file that it gets."""

    name: str
    path: str
    file: str


# Next to each name stands one that a careless decoder would take for it.
NAMES = {
    "spaces": Named("my holiday photo.jpg", "my%20holiday%20photo.jpg", "photo.jpg"),
    "plus": Named("my+holiday+photo.jpg", "my+holiday+photo.jpg", "note.txt"),
    "encoded plus": Named("1+1=2.txt", "1%2B1=2.txt", "note.txt"),
    "NFC": Named("caf\u00e9.pdf", "caf%C3%A9.pdf", "invoice.pdf"),
    "NFD": Named("cafe\u0301.pdf", "cafe%CC%81.pdf", "note.txt"),
    "other scripts": Named("写真/\U0001f4f7.png", "%E5%86%99%E7%9C%9F/%F0%9F%93%B7.png", "avatar.png"),
    "%2F": Named("either/or.txt", "either%2For.txt", "note.txt"),
    "%252F": Named("either%2For.txt", "either%252For.txt", "empty"),
    "one slash": Named("a/b.txt", "a/b.txt", "note.txt"),
    "two slashes": Named("a//b.txt", "a//b.txt", "photo.jpg"),
    "no slash at the end": Named("inbox", "inbox", "note.txt"),
    "a slash at the end": Named("inbox/", "inbox/", "empty"),
    "two slashes at the end": Named("inbox//", "inbox//", "avatar.png"),
}
EACH_NAME = pytest.mark.parametrize("named", NAMES.values(), ids=NAMES)


@pytest.fixture(scope="module")
def uploads(shared: Terminal) -> dict[str, Answered]:
    """The answers to uploading under each name, all there before the first is looked at."""
    shared.bucket("names")
    return {named.name: shared.put(f"names/{named.path}", named.file) for named in NAMES.values()}


@EACH_NAME
def test_a_name_is_taken_as_it_is(uploads: dict[str, Answered], files: Path, named: Named) -> None:
    answer, content = uploads[named.name], (files / named.file).read_bytes()
    assert answer.status == 201
    stored = answer.json()
    assert (stored["name"], stored["size"], stored["checksum"]) == (named.name, len(content), sha256(content))


@EACH_NAME
def test_a_name_is_listed_as_it_is(uploads: dict[str, Answered], terminal: Terminal, files: Path, named: Named) -> None:
    content = (files / named.file).read_bytes()
    rows = terminal.rows("names", prefix=named.name)
    assert [row["name"] for row in rows] == sorted(each.name for each in NAMES.values() if each.name.startswith(named.name))
    assert (rows[0]["name"], rows[0]["size"], rows[0]["checksum"]) == (named.name, len(content), sha256(content))


@EACH_NAME
def test_a_name_is_downloaded_with_its_own_bytes(uploads: dict[str, Answered], terminal: Terminal, files: Path, named: Named) -> None:
    answer = terminal.get(f"names/{named.path}")
    assert answer.status == 200
    assert answer.headers["content-type"] == KINDS[named.file]
    assert sha256(answer.printed) == sha256((files / named.file).read_bytes())


@EACH_NAME
def test_a_name_is_described_by_object_info(uploads: dict[str, Answered], terminal: Terminal, named: Named) -> None:
    answer = terminal.info(f"names/{named.path}")
    assert answer.status == 200
    shown, stored = answer.json(), uploads[named.name].json()
    assert (shown["name"], shown["bucket"], shown["content_type"]) == (named.name, "names", KINDS[named.file])
    assert {key: shown[key] for key in stored} == stored


def test_all_names_are_listed_by_code_points(uploads: dict[str, Answered], terminal: Terminal) -> None:
    assert terminal.names("names") == sorted(named.name for named in NAMES.values())


def test_composed_and_decomposed_letters_stay_two_names(uploads: dict[str, Answered], terminal: Terminal) -> None:
    composed, decomposed = NAMES["NFC"].name, NAMES["NFD"].name
    assert unicodedata.normalize("NFD", composed) == decomposed != composed
    assert {composed, decomposed} <= set(terminal.names("names"))


def test_an_encoded_slash_plus_or_letter_is_the_same_name_as_a_plain_one(uploads: dict[str, Answered], terminal: Terminal) -> None:
    for named, otherwise in (("%2F", "either/or.txt"), ("plus", "my%2Bholiday%2Bphoto.jpg"), ("one slash", "%61/b%2Etxt")):
        shown = terminal.info(f"names/{otherwise}")
        assert shown.status == 200
        assert shown.json()["id"] == uploads[NAMES[named].name].json()["id"]


@pytest.mark.parametrize("path", ["../secret.txt", "a/./b.txt", "%2E%2E/secret.txt", "a%00b", "50%", "caf%E9.txt", "/leading.txt"])
def test_a_path_that_can_name_no_object_is_refused(uploads: dict[str, Answered], terminal: Terminal, path: str) -> None:
    before = terminal.names("names")
    refused = terminal.put(f"names/{path}", "note.txt")
    assert (refused.status, refused.json()["code"]) == (400, "InvalidName")
    assert terminal.names("names") == before


@pytest.fixture(scope="module")
def removals(shared: Terminal) -> dict[str, tuple[Answered, Answered, set[str]]]:
    """For each name, in a bucket that has them all: the answers to its deletion and to a download after that, and what is left."""
    shared.bucket("removals")
    for named in NAMES.values():
        assert shared.put(f"removals/{named.path}", "note.txt").status == 201
    return {
        named.name: (shared.delete(f"removals/{named.path}"), shared.get(f"removals/{named.path}"), set(shared.names("removals")))
        for named in NAMES.values()
    }


@EACH_NAME
def test_deleting_a_name_deletes_that_object_and_no_other(removals: dict[str, tuple[Answered, Answered, set[str]]], named: Named) -> None:
    deleted, gone, left = removals[named.name]
    order = [each.name for each in NAMES.values()]
    assert (deleted.status, deleted.json()) == (200, {})
    assert gone.status == 404
    assert left == set(order[order.index(named.name) + 1 :])


# ---- sending ---------------------------------------------------------------------------------------------------
TAKE_LARGER = ("/storage/v1/upload/tus", "/storage/upload/resumable", "/storage/upload/direct")


@pytest.mark.parametrize("file", ["too-large.bin", "far-too-large.bin"], ids=["5 MB", "11 MB"])
@pytest.mark.parametrize("framing", ["", "-H 'Transfer-Encoding: chunked'"], ids=["length", "chunked"])
def test_a_body_too_large_is_413_and_told_what_takes_it(told: Told, terminal: Terminal, file: str, framing: str) -> None:
    """5 MB is beyond Lambda's limit, 11 MB beyond API Gateway's."""
    sent = f'-H "Content-Type: application/octet-stream" {framing} --data-binary @"$FILES/{file}"'
    refused = terminal(f'curl -X POST "$STOWAGE_URL/storage/object/documents/large" {SERVICE} {sent}')
    assert refused.status == 413
    assert refused.json()["code"] == "TooLarge"
    assert [route for route in TAKE_LARGER if route not in refused.json()["message"]] == []
    assert terminal.get("documents/large").status == 404


@pytest.mark.parametrize(
    "sent",
    ['-T - < "$FILES/photo.jpg"', '-H "Transfer-Encoding: chunked" --data-binary @"$FILES/photo.jpg"'],
    ids=["from a pipe", "by header"],
)
def test_a_chunked_body_is_stored_whole(told: Told, terminal: Terminal, files: Path, sent: str, request: pytest.FixtureRequest) -> None:
    place = f"documents/chunked/{request.node.callspec.id.replace(' ', '-')}.jpg"
    content = (files / "photo.jpg").read_bytes()
    stored = terminal(f'curl -X POST "$STOWAGE_URL/storage/object/{place}" {SERVICE} -H "Content-Type: image/jpeg" {sent}')
    assert stored.status == 201
    assert (stored.json()["size"], stored.json()["checksum"]) == (len(content), sha256(content))
    assert sha256(terminal.get(place).printed) == sha256(content)


# ---- asking for less than the whole ----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def photo(told: Told, shared: Terminal, files: Path) -> bytes:
    """What lies at `documents/kept.jpg`."""
    assert shared.put("documents/kept.jpg", "photo.jpg").status == 201
    return (files / "photo.jpg").read_bytes()


def test_curl_i_shows_the_headers_of_a_download_and_no_body(photo: bytes, terminal: Terminal) -> None:
    head, whole = terminal.get("documents/kept.jpg", "-I"), terminal.get("documents/kept.jpg", "-o whole")
    assert (head.status, whole.status) == (200, 200)
    assert head.headers["x-object-size"] == str(len(photo))
    # API Gateway renames the Content-Length of a function's answer to HEAD, and the local server does as it does.
    assert str(len(photo)) in (head.headers.get("x-amzn-remapped-content-length"), head.headers.get("content-length"))
    for name in ("accept-ranges", "cache-control", "content-type", "etag", "last-modified"):
        assert head.headers[name] == whole.headers[name]
    assert head.printed.endswith(b"\r\n\r\n")
    assert head.printed.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(("asked", "first", "last"), [("0-99", 0, 99), ("1000000-", 1_000_000, None), ("-100", -100, None)])
def test_curl_r_gets_that_range(photo: bytes, terminal: Terminal, asked: str, first: int, last: int | None) -> None:
    answer = terminal.get("documents/kept.jpg", f"-r {asked}")
    start, end = first % len(photo), len(photo) - 1 if last is None else last
    assert answer.status == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{len(photo)}"
    assert answer.printed == photo[start : end + 1]


def test_a_range_after_the_end_is_416_with_the_size(photo: bytes, terminal: Terminal) -> None:
    answer = terminal.get("documents/kept.jpg", f"-r {len(photo)}-")
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(photo)}"


def test_curl_c_resumes_a_download_that_broke_off(photo: bytes, terminal: Terminal) -> None:
    (terminal.folder / "kept.jpg").write_bytes(photo[:500_000])
    answer = terminal.get("documents/kept.jpg", "-C - -o kept.jpg")
    assert answer.status == 206
    assert answer.headers["content-length"] == str(len(photo) - 500_000)
    assert sha256(terminal.file("kept.jpg")) == sha256(photo)


def test_curl_c_leaves_a_finished_download_alone(photo: bytes, terminal: Terminal) -> None:
    (terminal.folder / "kept.jpg").write_bytes(photo)
    assert terminal.get("documents/kept.jpg", "-C - -o kept.jpg").status == 416
    assert sha256(terminal.file("kept.jpg")) == sha256(photo)


# ---- conditions ------------------------------------------------------------------------------------------------
def test_curl_z_downloads_only_what_is_newer_than_the_copy(photo: bytes, terminal: Terminal) -> None:
    time.sleep(1.1)  # within the second of a change no copy is said to be current
    assert terminal.get("documents/kept.jpg", "-R -o kept.jpg").status == 200
    again = terminal.get("documents/kept.jpg", "-z kept.jpg -o again.jpg")
    assert (again.status, again.headers.get("content-length", "0")) == (304, "0")
    older = terminal.get("documents/kept.jpg", '-z "1 Jan 2020" -o older.jpg')
    assert older.status == 200
    assert sha256(terminal.file("older.jpg")) == sha256(photo)


def test_etag_compare_downloads_only_what_has_changed(told: Told, terminal: Terminal, files: Path) -> None:
    options = "--etag-save etag --etag-compare etag"
    assert terminal.put("documents/changing", "note.txt").status == 201
    assert terminal.get("documents/changing", f"{options} -o first").status == 200
    assert terminal.file("etag").strip()
    unchanged = terminal.get("documents/changing", options)
    assert (unchanged.status, unchanged.printed) == (304, b"")
    assert terminal.put("documents/changing", "photo.jpg").status == 200
    changed = terminal.get("documents/changing", f"{options} -o second")
    assert changed.status == 200
    assert terminal.file("first") == (files / "note.txt").read_bytes()
    assert sha256(terminal.file("second")) == sha256((files / "photo.jpg").read_bytes())
    assert terminal.get("documents/changing", options).status == 304


# ---- `chalice local` on its own --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Plain:
    """A `chalice local` beside the run, and what it says."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path


@pytest.fixture(scope="module")
def chalice_local(live: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    port, log = free_port(), tmp_path_factory.mktemp("chalice-local") / "log"
    line = f"set -e; {sourced(live)}; exec chalice local --port {port} --no-autoreload"
    with log.open("wb") as output:
        process = subprocess.Popen(["bash", "-c", line], cwd=ROOT, env=clean_environment(), stdout=output, stderr=output)
    try:
        assert stack.await_answer(port, "/health", process, START_LIMIT), log.read_text()
        yield Plain(process, port, log)
    finally:
        stack.stop(process, STOP_LIMIT)


@pytest.fixture(scope="module")
def plain(live: Running, chalice_local: Plain, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A terminal whose `$STOWAGE_URL` is the plain `chalice local`."""
    return Terminal(live, files, tmp_path_factory.mktemp("plain"), chalice_local.port)


@EACH_NAME
def test_plain_chalice_local_serves_the_same_object(uploads: dict[str, Answered], plain: Terminal, files: Path, named: Named) -> None:
    answer = plain.get(f"names/{named.path}")
    assert answer.status == 200
    assert sha256(answer.printed) == sha256((files / named.file).read_bytes())
    assert answer.headers["etag"] == f'"{uploads[named.name].json()["version"]}"'


def test_plain_chalice_local_answers_the_seed_s_lines(told: Told, plain: Terminal, files: Path) -> None:
    assert {"avatars", "documents"} <= {bucket["name"] for bucket in plain.seed(LIST_BUCKETS).json()}
    assert plain.seed(LIST_OBJECTS).json() == told.answers[LIST_OBJECTS].json()
    assert plain.seed(DOWNLOAD).status == 200
    assert sha256(plain.file("avatar.png")) == sha256((files / "avatar.png").read_bytes())


def test_what_plain_chalice_local_takes_the_run_serves(told: Told, plain: Terminal, terminal: Terminal, files: Path) -> None:
    assert plain.put("documents/from//plain%20local.pdf", "invoice.pdf").status == 201
    answer = terminal.get("documents/from//plain%20local.pdf")
    assert sha256(answer.printed) == sha256((files / "invoice.pdf").read_bytes())
    assert plain.delete("documents/from//plain%20local.pdf").status == 200
    assert terminal.get("documents/from//plain%20local.pdf").status == 404


def test_plain_chalice_local_is_ended_by_sigterm_with_0(chalice_local: Plain) -> None:
    chalice_local.process.terminate()
    assert chalice_local.process.wait(STOP_LIMIT) == 0, chalice_local.log.read_text()


# ---- the seed's deletions --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def deleted_file(told: Told, shared: Terminal) -> Answered:
    """The answer to the seed's deletion of a file."""
    return shared.seed(DELETE_FILE)


@pytest.fixture(scope="module")
def deleted_bucket(deleted_file: Answered, shared: Terminal) -> Answered:
    """The answer to the seed's deletion of a bucket, after that."""
    return shared.seed(DELETE_BUCKET)


def test_the_line_that_deletes_a_file_deletes_that_file_only(deleted_file: Answered, terminal: Terminal) -> None:
    assert (deleted_file.status, deleted_file.json()) == (200, {})
    assert terminal.get("avatars/user1.png", key=ANON).status == 404
    assert terminal.names("avatars") == ["user1/photo.jpg"]
    assert terminal.seed(DELETE_FILE).status == 404


def test_the_line_that_deletes_a_bucket_takes_its_objects_with_it(deleted_bucket: Answered, terminal: Terminal) -> None:
    assert deleted_bucket.status == 200
    assert terminal.get("avatars/user1/photo.jpg", key=ANON).status == 404
    assert terminal.seed(LIST_OBJECTS).json() == []  # to the anon key a bucket that is gone looks like a private one
    assert "avatars" not in {bucket["name"] for bucket in terminal.seed(LIST_BUCKETS).json()}
    assert terminal.seed(DELETE_BUCKET).status == 404


def test_the_deleted_bucket_s_job_removes_what_was_in_it(deleted_bucket: Answered, terminal: Terminal) -> None:
    """Its last look comes a minute later, for uploads that were under way; nobody waits for that here."""
    deadline = time.monotonic() + JOB_LIMIT
    while True:
        job = terminal(f'curl "$STOWAGE_URL/jobs/{deleted_bucket.json()["job_id"]}" {SERVICE}').json()
        assert (job["kind"], job["error"]) == ("bucket.delete", None)
        if job["done"] == 1:
            break
        assert time.monotonic() < deadline, job
        time.sleep(0.1)


def test_the_name_of_the_deleted_bucket_is_free_and_the_new_bucket_empty(deleted_bucket: Answered, terminal: Terminal) -> None:
    assert terminal.seed(CREATE_PUBLIC).status == 201
    assert terminal.names("avatars") == []
    assert terminal.get("avatars/user1/photo.jpg", key=ANON).status == 404


def test_the_other_bucket_is_still_there(deleted_bucket: Answered, photo: bytes, terminal: Terminal) -> None:
    assert sha256(terminal.get("documents/kept.jpg").printed) == sha256(photo)


# ---- the end ---------------------------------------------------------------------------------------------------
def test_after_all_that_sigterm_ends_the_run_with_0_and_nothing_went_wrong(live: Running) -> None:
    assert live.stop() == 0
    assert nobody_uses(live.data)
    lines = live.output.splitlines()
    assert "stopping" in lines
    assert [line for line in lines if "ERROR" in line or line.startswith(("Traceback", "stowage:"))] == []
