"""What more than one file of uploads stands on."""

import pytest

from tests.api.tus_client import Tus
from tests.client import Client


@pytest.fixture
def tus(service: Client) -> Tus:
    """TUS under the service key, with a bucket `b`."""
    service.bucket("b")
    return Tus(service)


@pytest.fixture
def half(tus: Tus) -> str:
    """An upload of six bytes, three of which are here."""
    return tus.begin(6, b"abc")


@pytest.fixture(params=["s3", "filesystem"])
def storage(request: pytest.FixtureRequest, tus: Tus) -> Tus:
    """TUS on each provider."""
    if request.param == "filesystem":
        request.getfixturevalue("on_filesystem")
    return tus
