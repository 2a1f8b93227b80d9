"""What MiniStack forgets when it stops, and this remembers: multipart uploads that are not finished."""

from pathlib import Path

import pytest
from ministack.services import s3 as ministack_s3

from chalicelib.errors import BytesMissing
from chalicelib.providers.s3 import S3
from infra import stack

PART = b"x" * (5 << 20)


def storage(aws: stack.EmbeddedAWS) -> S3:
    return S3("kept", endpoint=aws.endpoint, access_key=stack.ACCESS_KEY, secret_key=stack.SECRET_KEY)


def test_an_unfinished_upload_goes_on_after_a_clean_stop(tmp_path: Path) -> None:
    first = stack.EmbeddedAWS(tmp_path)
    first.start()
    first.client("s3").create_bucket(Bucket="kept")
    upload_id = storage(first).create_multipart("objects/a b", "text/plain")
    one = storage(first).upload_part("objects/a b", upload_id, 1, PART)
    given_up = storage(first).create_multipart("objects/c", "text/plain")
    storage(first).upload_part("objects/c", given_up, 1, b"c")
    assert first.stop()
    second = stack.EmbeddedAWS(tmp_path)
    second.start()
    try:
        two = storage(second).upload_part("objects/a b", upload_id, 2, b"end")
        assert [part.number for part in storage(second).list_parts("objects/a b", upload_id)] == [1, 2]
        storage(second).complete_multipart("objects/a b", upload_id, [one, two])
        assert storage(second).read("objects/a b", len(PART) - 1, 4) == b"xend"
        storage(second).abort_multipart("objects/c", given_up)
    finally:
        assert second.stop()
    assert list((tmp_path / "state" / "parts").iterdir()) == []


def test_what_was_finished_or_given_up_is_not_remembered(tmp_path: Path) -> None:
    first = stack.EmbeddedAWS(tmp_path)
    first.start()
    first.client("s3").create_bucket(Bucket="kept")
    upload_id = storage(first).create_multipart("objects/a", "text/plain")
    storage(first).abort_multipart("objects/a", upload_id)
    assert first.stop()
    second = stack.EmbeddedAWS(tmp_path)
    second.start()
    try:
        with pytest.raises(BytesMissing):
            storage(second).list_parts("objects/a", upload_id)
    finally:
        second.stop()


def test_ministack_has_what_is_hooked_into() -> None:
    assert isinstance(ministack_s3._PERSISTED_BUCKET_DICTS, dict)
    assert isinstance(ministack_s3._multipart_uploads._data, dict)
