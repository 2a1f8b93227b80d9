"""The rules of names (FEATURES F8.18, CONTRACT "Names") at their boundaries, and physical keys."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import seam
from chalicelib.core import names
from chalicelib.errors import InvalidName, KeyTooLong
from chalicelib.surfaces.mounted import SURFACES

VERSION = "01JD3ZXQ2M8V9K4T6W7Y0ABCDE"
LONGEST = "/".join(["n" * 200, "n" * 200, "n" * 200, "n" * 97])


@pytest.mark.parametrize(
    "name",
    [
        "a", ".a", "..a", "...a", "a/", "a//", "a//b", "a b", " a", "a+b", "100%", "a%2Fb", "%2F", "a.b.c", "-", "~", "a~b", "ä/日本/🙂",
        "uploading", ".uploading/a", "a.uploading.txt", "a.uploading/", "s" * 200, "é" * 100, LONGEST,
        "a~" + "0" * 25, "a~" + "0" * 27, "a~" + "0" * 25 + "-", "~" + "0" * 26 + "x", "0" * 26, "a~" + "é" * 26, "\u0085", "a\u2028b",
    ],
)  # fmt: skip
def test_a_good_name_is_given_back_as_it_is(name: str) -> None:
    assert names.check_object_name(name) == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "needs a name"),
        ("/a", "start with '/'"),
        ("/", "start with '/'"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x7f", "control"),
        ("a\x1f", "control"),
        ("a\\b", "'\\\\'"),
        ("a?b", "'\\?'"),
        ("a#b", "'#'"),
        (".", "'.' or '..'"),
        ("..", "'.' or '..'"),
        ("a/../b", "'.' or '..'"),
        ("a/./b", "'.' or '..'"),
        ("%2e", "'.' or '..'"),
        ("%2E%2e", "'.' or '..'"),
        (".%2e/a", "'.' or '..'"),
        ("a/%2e.", "'.' or '..'"),
        ("a.", "dot or a space"),
        ("a./b", "dot or a space"),
        ("a ", "dot or a space"),
        ("a /b", "dot or a space"),
        ("...", "dot or a space"),
        ("a.uploading", "uploading"),
        (".uploading", "uploading"),
        ("b/.uploading", "uploading"),
        ("s" * 201, "longer than 200"),
        ("é" * 101, "longer than 200"),
        ("a/" + "s" * 201 + "/b", "longer than 200"),
        (LONGEST + "n", "at most 700"),
        ("a~" + "0" * 26, "versions"),
        ("~" + "Z" * 26, "versions"),
        ("a~" + "z" * 26, "versions"),
        ("a~" + "0" * 26 + "/b", "versions"),
        ("a/b~" + VERSION, "versions"),
        ("\ud800", "surrogates"),
        ("a\udfff/b", "surrogates"),
    ],
)
def test_a_bad_name_is_told_by_its_rule(name: str, rule: str) -> None:
    with pytest.raises(InvalidName, match=rule):
        names.check_object_name(name)


def test_the_longest_name_has_700_bytes() -> None:
    assert len(LONGEST.encode()) == names.MAX_NAME_BYTES == 700
    assert names.MAX_SEGMENT_BYTES == 200


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_invalid_and_nothing_else(text: str) -> None:
    try:
        assert names.check_object_name(text) == text
    except InvalidName as error:
        error.message.encode()  # it goes into an answer


# ---- prefixes ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prefix", ["", "/", ".", "..", "a ", "a/.", "a.uploading", "s" * 700, "a~" + VERSION])
def test_a_prefix_may_stop_anywhere(prefix: str) -> None:
    assert names.check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["\0", "a\\", "a?", "#", "\ud800", "s" * 701, "é" * 351])
def test_a_prefix_that_no_name_has_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidName):
        names.check_prefix(prefix)


# ---- buckets -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a", "A", "0", "-", "_", "a.b", "a..b", "a.", "-._", "b" * 100, "Move", "moves", "public", "buckets"])
def test_a_good_bucket_name_is_given_back(name: str) -> None:
    assert names.check_bucket_name(name) == name


@pytest.mark.parametrize("name", ["", ".", ".a", "b" * 101, "a/b", "a b", "a%", "ä", "a\n", "\na", "a\0", "move", "copy", "日", "١"])
def test_a_bad_bucket_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        names.check_bucket_name(name)


def test_the_reserved_words_are_the_static_siblings_of_a_bucket_in_the_routes() -> None:
    """API Gateway prefers a static resource, and never falls through: such a bucket could not be reached."""
    paths = [route.path.strip("/").split("/") for surface in SURFACES for route in surface.routes]
    parents = {tuple(parts[: parts.index("{bucket}")]) for parts in paths if "{bucket}" in parts}
    assert parents, "no route has a bucket"
    siblings = {
        parts[len(parent)] for parent in parents for parts in paths if tuple(parts[: len(parent)]) == parent and len(parts) > len(parent)
    }
    assert {word for word in siblings if not word.startswith("{")} == names.RESERVED_BUCKETS


# ---- physical keys -----------------------------------------------------------------------------------------------
def _passes(name: str) -> bool:
    try:
        return bool(names.check_object_name(name))
    except InvalidName:
        return False


good_names = st.text(st.sampled_from("ab/~.-% 0Zé") | st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(
    _passes
)
good_buckets = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", fullmatch=True)
versions = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26)


@given(st.uuids(), good_buckets, good_names, versions, st.booleans())
def test_a_physical_key_is_read_back(tenant: uuid.UUID, bucket: str, name: str, version: str, direct: bool) -> None:
    key = names.physical_key(str(tenant), bucket, name, version, 1024, direct)
    assert key == f"objects/{tenant}-{bucket}/{name}~{version}{'.direct' if direct else ''}"
    assert names.placed(key) == names.Placed(str(tenant), bucket, name, version, direct)


@pytest.mark.parametrize(
    "key",
    [
        "",
        f"objects/{uuid.UUID(int=0)}-b/a",
        f"objects/{uuid.UUID(int=0)}-b/~{VERSION}",
        f"objects/{uuid.UUID(int=0)}/a~{VERSION}",
        f"objects/short-b/a~{VERSION}",
        f"deltas/{uuid.UUID(int=0)}-b/a~{VERSION}",
        f"xobjects/{uuid.UUID(int=0)}-b/a~{VERSION}",
        f"objects/{uuid.UUID(int=0)}-b/a~{VERSION}.DIRECT",
        f"objects/{uuid.UUID(int=0)}-b/a~{VERSION}.direct.direct",
        f"objects/{uuid.UUID(int=0)}-b/a~{VERSION}.direct\n",
        f"objects/{uuid.UUID(int=0)}-b/a~{VERSION}direct",
        f"objects/{uuid.UUID(int=0)}-b/a.direct",
        f"objects/{uuid.UUID(int=0)}-b/a~{VERSION.lower()}",
        f"objects/{uuid.UUID(int=0)}-b/a~{VERSION[:-1]}U",
        f"uploads/{VERSION}/00000001",
        f"objects/{uuid.UUID(int=0)}-b/a~{VERSION[1:]}",
        f"objects/{uuid.UUID(int=0)}-b/a~{VERSION}\n",
        "transforms/x",
    ],
)
def test_a_key_that_was_not_made_here_is_nothing(key: str) -> None:
    assert names.placed(key) is None


@pytest.mark.parametrize("direct", [False, True])
def test_a_key_over_the_limit_tells_the_room_that_there_is(direct: bool) -> None:
    tenant, version = seam.new_uuid(), seam.new_version()
    overhead = len(names.physical_key(tenant, "bucket", "", version, 1024, direct))
    limit = overhead + 10
    assert names.physical_key(tenant, "bucket", "n" * 10, version, limit, direct)
    with pytest.raises(KeyTooLong) as refused:
        names.physical_key(tenant, "bucket", "é" * 6, version, limit, direct)
    assert refused.value.details == {"max_name_bytes": 10}
    assert "10 bytes" in refused.value.message


def test_every_good_name_fits_every_provider() -> None:
    assert names.physical_key(seam.new_uuid(), "b" * 100, LONGEST, seam.new_version(), 1024, direct=True)


# ---- uploads -----------------------------------------------------------------------------------------------------
@given(versions)
def test_an_upload_is_known_by_a_ulid(version: str) -> None:
    assert names.is_version(version)
    assert names.staging_prefix(version) == f"uploads/{version}/"


@pytest.mark.parametrize(
    "text", ["", VERSION[1:], VERSION + "0", VERSION.lower(), VERSION + "\n", "U" + VERSION[1:], "é" * 26, "../" + VERSION[3:]]
)
def test_what_is_no_ulid_is_no_uploads_id(text: str) -> None:
    assert not names.is_version(text)
