"""OpenStack Swift in one process: the child that `tests.servers.strict_s3` starts.

    python -m infra.lifeline tests.servers.swift_process:main FOLDER

Its proxy, which speaks S3's protocol, and its account, container and object servers listen on free loopback ports, all in
one thread. Their names within Swift are those of version 2.38. Different from Swift as it is:

- what S3 refuses and Swift does not is refused (`keys`, `_check_signatures_first`, `_forget_completed_uploads`);
- objects' metadata are kept in memory, as not every file system has extended attributes, or has them large enough;
- nothing waits for the disk, and nothing is sent to syslog.

    FOLDER/etc    what Swift reads
    FOLDER/disk   accounts and containers (SQLite) and objects
"""

import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.servers.process import LOOPBACK, say_listening
from tests.servers.strict_s3 import StrictS3

ACCOUNT = "AUTH_stowage"
STORAGE = ("account", "container", "object")
MAX_KEY_BYTES = 1024
# Seconds that the servers wait for each other, however busy the machine is. After them an object would not be listed.
PATIENCE = 60
SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = stowage

[swift-constraints]
# A part is an object named `KEY/UPLOAD/NUMBER`; keys have their own limit.
max_object_name_length = 1200
max_meta_value_length = 2048
"""
PROXY_CONF = """
[DEFAULT]
swift_dir = {etc}
log_level = WARNING

[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats bulk s3api keys copy slo versioned_writes proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = {patience}
node_timeout = {patience}
recoverable_node_timeout = {patience}
error_suppression_interval = 0

[filter:s3api]
use = egg:swift#s3api
location = {region}
max_upload_part_num = 10000

[filter:keys]
paste.filter_factory = tests.servers.swift_process:keys

[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
max_manifest_size = 33554432

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:copy]
use = egg:swift#copy
[filter:versioned_writes]
use = egg:swift#versioned_writes
"""


# ---- what S3 refuses and Swift does not --------------------------------------------------------------------------
def keys(*_: object, **__: object) -> Callable[[Any], Any]:
    """Make the filter that knows who may do what: Swift's own, with keys that look as S3's do."""
    from swift.common.middleware.s3api.s3response import AccessDenied
    from swift.common.middleware.tempauth import TempAuth

    class Keys(TempAuth):
        def __init__(self, app: Any) -> None:
            super().__init__(app, {})
            url = f"/v1/{ACCOUNT}"
            self.users = {
                StrictS3.access_key: {"key": StrictS3.secret_key, "url": url, "groups": [".admin"]},
                StrictS3.second_access_key: {"key": StrictS3.second_secret_key, "url": url, "groups": []},
            }

        def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
            """Refuse what is not signed. What Swift asks itself is not, and goes to /v1/ACCOUNT."""
            if "s3api.auth_details" not in environ and not environ["PATH_INFO"].startswith("/v1/"):
                return AccessDenied()(environ, start_response)
            return super().__call__(environ, start_response)

    return Keys


def _check_signatures_first() -> None:
    """Whose key it is and the signature, before anything else of a request is looked at; then the length of its key."""
    from swift.common.middleware.s3api import s3request, s3response

    secrets = {StrictS3.access_key: StrictS3.secret_key, StrictS3.second_access_key: StrictS3.second_secret_key}
    validate = s3request.S3Request._validate_headers

    def validate_strictly(request: Any) -> None:
        if not isinstance(request, s3request.SigV4Mixin):
            raise s3response.InvalidRequest("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
        if request.access_key not in secrets:
            raise s3response.InvalidAccessKeyId(a_w_s_access_key_id=request.access_key)
        request.sig_checker = s3request.SigCheckerV4(request)
        if not request.sig_checker.check_signature(secrets[request.access_key]):
            raise s3response.SignatureDoesNotMatch(**request.signature_does_not_match_kwargs())
        if len(request.object_name or "") > MAX_KEY_BYTES:  # each character of it is a byte
            raise s3response.KeyTooLongError()
        validate(request)

    s3request.S3Request._validate_headers = validate_strictly


def _forget_completed_uploads() -> None:
    """Parts of a completed upload are neither listed, added nor aborted. Completing it again is no mistake."""
    from swift.common.middleware.s3api.controllers import multi_upload
    from swift.common.middleware.s3api.s3response import NoSuchUpload

    find = multi_upload._get_upload_info

    def find_unfinished(request: Any, app: Any, upload_id: str) -> Any:
        found, is_unfinished = find(request, app, upload_id)
        if not is_unfinished and request.method != "POST":
            raise NoSuchUpload(upload_id=upload_id)
        return found, is_unfinished

    multi_upload._get_upload_info = find_unfinished


# ---- what Swift asks of the machine ------------------------------------------------------------------------------
class Attributes:
    """Extended attributes of files by their inodes, in memory: what Swift calls of the module `xattr`."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int, bytes], bytes] = {}

    def setxattr(self, file: Any, name: bytes, value: bytes) -> None:
        self._values[_inode(file, name)] = value

    def getxattr(self, file: Any, name: bytes) -> bytes:
        try:
            return self._values[_inode(file, name)]
        except KeyError:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA)) from None


def _inode(file: Any, name: bytes) -> tuple[int, int, bytes]:
    found = os.stat(file.fileno() if hasattr(file, "fileno") else file)
    return found.st_dev, found.st_ino, name


def _ask_nothing_of_the_machine() -> None:
    from swift.common import db
    from swift.common.utils import logs
    from swift.obj import diskfile

    connect = db.get_db_connection

    def connect_unsynchronized(*arguments: Any, **options: Any) -> Any:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    db.get_db_connection = connect_unsynchronized
    os.fsync = os.fdatasync = lambda _: None
    diskfile.xattr = Attributes()
    logs.ThreadSafeSysLogHandler = lambda **_: logging.StreamHandler()


# ---- the servers -------------------------------------------------------------------------------------------------
def main() -> None:
    """Serve until a signal ends the process."""
    folder = Path(sys.argv[1])
    os.environ["EVENTLET_THREADPOOL_SIZE"] = "0"  # read when eventlet is imported: files and SQLite in the one thread too
    from swift.common import constraints, utils

    utils.monkey_patch()
    import eventlet
    from swift.common.wsgi import loadapp

    etc = folder / "etc"
    etc.mkdir()
    (folder / "disk").mkdir()
    (etc / "swift.conf").write_text(SWIFT_CONF)
    utils.set_swift_dir(str(etc))
    constraints.reload_constraints()
    _check_signatures_first()
    _forget_completed_uploads()
    _ask_nothing_of_the_machine()

    listeners = {name: eventlet.listen((LOOPBACK, 0), backlog=512) for name in (*STORAGE, "proxy")}
    for listener in listeners.values():
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each empty object takes 40 ms
    for name, app in _storage(folder):
        _write_ring(etc / f"{name}.ring.gz", listeners[name].getsockname()[1])
        eventlet.spawn(_serve, listeners[name], app)
    configuration = etc / "proxy-server.conf"
    configuration.write_text(PROXY_CONF.format(etc=etc, patience=PATIENCE, region=StrictS3.region))
    proxy = loadapp(str(configuration))
    say_listening(listeners["proxy"].getsockname()[1])
    _serve(listeners["proxy"], proxy)


def _storage(folder: Path) -> Iterator[tuple[str, Any]]:
    from swift.account.server import AccountController
    from swift.container.server import ContainerController
    from swift.obj.server import ObjectController

    settings = {
        "swift_dir": str(folder / "etc"),
        "devices": str(folder),
        "mount_check": "false",
        "disable_fallocate": "true",
        "fallocate_reserve": "0",
        "recon_cache_path": str(folder),
        "log_level": "WARNING",
        "node_timeout": str(PATIENCE),
        "conn_timeout": str(PATIENCE),
        "container_update_timeout": str(PATIENCE),
    }
    for name, controller in zip(STORAGE, (AccountController, ContainerController, ObjectController), strict=True):
        yield name, controller(settings | {"log_name": name})


def _write_ring(file: Path, port: int) -> None:
    """Tell Swift that all of a kind is on one disk, behind the server on `port`."""
    from swift.common.ring import RingBuilder

    builder = RingBuilder(part_power=1, replicas=1, min_part_hours=0)
    builder.add_dev({"region": 1, "zone": 1, "weight": 1.0, "ip": LOOPBACK, "port": port, "device": "disk"})
    builder.rebalance()
    builder.get_ring().save(str(file))


def _serve(listener: Any, app: Any) -> None:
    from eventlet import wsgi
    from swift.common.constraints import MAX_REQUEST_LINE
    from swift.common.http_protocol import SwiftHttpProtocol
    from swift.common.utils import NullLogger

    wsgi.server(
        listener,
        app,
        NullLogger(),
        protocol=SwiftHttpProtocol,
        capitalize_response_headers=False,  # clients want `ETag`
        url_length_limit=MAX_REQUEST_LINE,
        socket_timeout=PATIENCE,
    )
