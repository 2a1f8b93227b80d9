"""HTTP clients of libraries, made to connect to screened addresses only, and to follow no redirect.

A storage's endpoint is chosen by a tenant: every connection to it is made by `outbound.connect`, whatever library makes it, and
none goes through a proxy, behind which nobody would know where it leads.
"""

from typing import TYPE_CHECKING, Any

import botocore.awsrequest
import urllib3
import urllib3.connection

from chalicelib.outbound import Screened, ScreenedHTTPConnection, ScreenedHTTPSConnection

if TYPE_CHECKING:
    import requests


class _PlainToS3(Screened, botocore.awsrequest.AWSHTTPConnection):  # type: ignore[misc]  # botocore has no types
    pass


class _EncryptedToS3(Screened, botocore.awsrequest.AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _PlainPoolToS3(botocore.awsrequest.AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _PlainToS3


class _EncryptedPoolToS3(botocore.awsrequest.AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _EncryptedToS3


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = ScreenedHTTPConnection


class _EncryptedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = ScreenedHTTPSConnection


def screen_botocore(client: Any) -> None:
    """Have a client of botocore that was made without proxies connect to screened addresses. `tests/unit/test_aws.py` holds the hooks."""
    client._endpoint.http_session._manager.pool_classes_by_scheme = {"http": _PlainPoolToS3, "https": _EncryptedPoolToS3}
    client.meta.events.register("before-parameter-build.s3", _follow_no_redirect)


def _follow_no_redirect(context: dict[str, Any], **_: Any) -> None:
    """Has botocore's redirector, which would look for a bucket in other regions, believe that it has done so."""
    context["s3_redirect"]["redirected"] = True


def new_session() -> "requests.Session":
    """A session of `requests` that connects to screened addresses."""
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
            super().init_poolmanager(*arguments, **named)
            self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _EncryptedPool}

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", Adapter())
    session.mount("https://", Adapter())
    return session
