"""What a storage may be told of itself: the field rules of both surfaces, for one model.

The vault takes `r2` and `s3` under seed 000's names and rules; the backups surface takes every kind of the catalogue under seed 001's.
Either way a `Connection` comes out whose rules hold, or InvalidRequest that names the field as the caller wrote it.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from chalicelib import aws, outbound
from chalicelib.core import names
from chalicelib.errors import InvalidRequest, StorageUnavailable
from chalicelib.providers.catalogue import AUTO, FILES, KINDS, SPEAKS_AZURE, SPEAKS_FTP, SPEAKS_S3, SPEAKS_SFTP, Connection

VAULT, BACKUPS = "vault", "backups"
MAX_PREFIX = 1024
MAX_SECRET = 512
MAX_PRIVATE_KEY = 16_384
VAULT_KINDS = {"r2": "cloudflare_r2", "s3": "aws_s3"}
TLS = ("explicit", "implicit", "none")
PARTITIONS = ("aws", "aws-cn", "aws-us-gov")
# Objects in these must be thawed for hours before they can be read.
FROZEN_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*[a-z0-9]")
_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9])+")
_FOLDER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_KEY = re.compile(r"[A-Za-z0-9+/=]+")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_ACCOUNT = re.compile(r"[0-9a-f]{32}")
_R2_HOST = re.compile(r"https://[0-9a-f]{32}(?:\.(?:eu|fedramp))?\.r2\.cloudflarestorage\.com/?")
_B2_HOST = re.compile(r"s3\.([a-z0-9-]{1,40})\.backblazeb2\.com")
_STORAGE_CLASS = re.compile(r"[A-Z0-9_]{1,40}")
_NOT_IN_PATHS = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')
_HOST_KEY = re.compile(r"[a-z0-9@.-]{3,60} [A-Za-z0-9+/]{32,2000}={0,2}")


@dataclass(frozen=True, slots=True)
class Named:
    """How a surface calls a field, where its name is another than the model's."""

    names: Mapping[str, str]

    def of(self, field: str) -> str:
        return self.names.get(field, field)


VAULT_NAMES = Named(
    {
        "kind": "provider",
        "bucket": "bucket_name",
        "endpoint": "endpoint_url",
        "prefix": "remote_path",
        "access_key": "access_key_id",
        "secret_key": "secret_access_key",
    }
)
BACKUPS_NAMES = Named({"kind": "provider", "endpoint": "endpoint_url", "prefix": "path_prefix"})


def checked(surface: str, given: Mapping[str, Any]) -> Connection:
    """The connection that these fields of the model describe; raises InvalidRequest."""
    return _Rules(VAULT_NAMES).vault(given) if surface == VAULT else _Rules(BACKUPS_NAMES).backups(given)


def check_name(surface: str, name: str) -> str:
    """The name of a storage; raises InvalidRequest."""
    if surface == VAULT and not _NAME.fullmatch(name):
        raise InvalidRequest("name: letters, digits, '.', '_' and '-' alone", field="name")
    return names.check_title(name)


@lru_cache(maxsize=1)
def aws_regions() -> frozenset[str]:
    """The regions in which S3 is offered, as botocore knows them."""
    return frozenset(region for partition in PARTITIONS for region in aws.session().get_available_regions("s3", partition))


class _Rules:
    """Rules that name the field at fault as a surface calls it."""

    def __init__(self, named: Named) -> None:
        self._named = named

    def _refuse(self, field: str, rule: str) -> InvalidRequest:
        name = self._named.of(field)
        return InvalidRequest(f"{name}: {rule}", field=name)

    # ---- the vault -------------------------------------------------------------------------------------
    def vault(self, given: Mapping[str, Any]) -> Connection:
        if given["kind"] not in VAULT_KINDS.values():
            raise self._refuse("kind", f"one of: {', '.join(VAULT_KINDS)}")
        connection = Connection(**given)
        self._bucket_name(connection.bucket)
        self._key("access_key", connection.access_key, 16)
        self._key("secret_key", connection.secret_key, 32)
        self._path("prefix", connection.prefix)
        if connection.kind == "aws_s3":
            if connection.endpoint:
                raise self._refuse("endpoint", "omit it for s3, or leave it empty: it follows from the region")
            self._aws_region(connection.region)
        else:
            if connection.region != AUTO:
                raise self._refuse("region", 'it must be "auto" for r2')
            if not _R2_HOST.fullmatch(connection.endpoint):
                raise self._refuse(
                    "endpoint", "for r2 it is the account's endpoint, https://ACCOUNT-ID.r2.cloudflarestorage.com, without a bucket"
                )
        return connection

    def _key(self, field: str, key: str, least: int) -> None:
        if not least <= len(key) <= 128 or not _KEY.fullmatch(key):
            raise self._refuse(field, f"{least} to 128 of A–Z, a–z, 0–9, '+', '/' and '='")

    def _bucket_name(self, bucket: str) -> None:
        if not 3 <= len(bucket) <= 63 or not _BUCKET.fullmatch(bucket) or ".." in bucket:
            raise self._refuse(
                "bucket",
                "3 to 63 lowercase letters, digits, hyphens and periods, the first and last a letter or digit, no two periods together",
            )
        if _is_ipv4(bucket):
            raise self._refuse("bucket", "it must not look like an IPv4 address")

    def _aws_region(self, region: str) -> None:
        if region not in aws_regions():
            raise self._refuse("region", "it must be a region of AWS, such as us-east-1")

    def _path(self, field: str, path: str) -> None:
        if len(path) > MAX_PREFIX:
            raise self._refuse(field, f"at most {MAX_PREFIX} characters")
        if path.startswith("/") or ".." in path or _NOT_IN_PATHS.search(path) or not _is_text(path):
            raise self._refuse(field, "a relative path, without '..' and without < > : \" | ? * \\ and control characters")

    # ---- backups ---------------------------------------------------------------------------------------
    def backups(self, given: Mapping[str, Any]) -> Connection:
        kind = KINDS.get(given["kind"])
        if kind is None:
            raise self._refuse("kind", f"one of: {', '.join(KINDS)}")
        self._path("prefix", given.get("prefix", ""))
        rules = {
            SPEAKS_S3: self._s3,
            SPEAKS_AZURE: self._azure,
            SPEAKS_SFTP: self._server,
            SPEAKS_FTP: self._server,
            FILES: self._files,
        }
        connection = rules[kind.protocol](Connection(**given))
        self._credentials(connection)
        return connection

    def _with(self, connection: Connection, **changes: Any) -> Connection:
        return Connection(**(asdict(connection) | changes))

    def _s3(self, connection: Connection) -> Connection:
        kind = KINDS[connection.kind]
        self._bucket_name(connection.bucket)
        self._none_of(connection, "host", "port", "tls", "host_key", "private_key")
        if connection.storage_class and (
            not _STORAGE_CLASS.fullmatch(connection.storage_class) or connection.storage_class in FROZEN_CLASSES
        ):
            raise self._refuse("storage_class", "a class whose objects can be read at once, such as STANDARD_IA")
        if connection.kind == "backblaze_b2":
            connection = self._b2(connection)
        elif connection.kind == "cloudflare_r2":
            connection = self._r2(connection)
        elif kind.endpoint is None:
            self._own_endpoint(connection)
        elif connection.endpoint:
            raise self._refuse("endpoint", f"omit it for {kind.name}, or leave it empty: it follows from the region")
        if connection.kind != "cloudflare_r2":
            self._none_of(connection, "account_id")
        connection = self._with(connection, region=connection.region or kind.region or "")
        if connection.kind == "aws_s3":
            self._aws_region(connection.region)
        elif not _REGION.fullmatch(connection.region):
            raise self._refuse("region", "it is required: lowercase letters, digits and hyphens, such as fra1")
        return connection

    def _r2(self, connection: Connection) -> Connection:
        if not connection.account_id and not connection.endpoint:
            raise InvalidRequest("Account ID is required for Cloudflare R2", field="account_id")
        if connection.account_id and not _ACCOUNT.fullmatch(connection.account_id):
            raise self._refuse("account_id", "the account id of Cloudflare is 32 hexadecimal digits")
        if connection.endpoint and not _R2_HOST.fullmatch(connection.endpoint):
            raise self._refuse("endpoint", "the account's endpoint, https://ACCOUNT-ID.r2.cloudflarestorage.com, or leave it out")
        if connection.region not in ("", AUTO):
            raise self._refuse("region", 'it is "auto" for Cloudflare R2, or leave it out')
        return connection

    def _b2(self, connection: Connection) -> Connection:
        endpoint = connection.endpoint if "://" in connection.endpoint else f"https://{connection.endpoint}"
        outbound.check_endpoint(endpoint, self._named.of("endpoint"), plain_http=False)
        parts = urlsplit(endpoint)
        match = _B2_HOST.fullmatch(parts.netloc)
        if match is None:
            raise self._refuse("endpoint", "it must be that of the bucket's region, such as s3.us-west-004.backblazeb2.com")
        if connection.region not in ("", match[1]):
            raise self._refuse("region", f"the endpoint is that of {match[1]}")
        return self._with(connection, endpoint=endpoint, region=match[1])

    def _own_endpoint(self, connection: Connection) -> None:
        name = KINDS[connection.kind].title
        if not connection.endpoint:
            raise self._refuse("endpoint", f"it is required for {name}, with protocol and port, such as http://minio.example.com:9000")
        outbound.check_endpoint(connection.endpoint, self._named.of("endpoint"), plain_http=True)
        if connection.kind == "minio" and urlsplit(connection.endpoint).port is None:
            raise self._refuse("endpoint", "it must include the port, such as http://minio.example.com:9000")

    def _azure(self, connection: Connection) -> Connection:
        self._none_of(connection, "host", "port", "tls", "host_key", "private_key", "account_id", "region", "storage_class")
        if not 3 <= len(connection.bucket) <= 63 or not _CONTAINER.fullmatch(connection.bucket):
            raise self._refuse("bucket", "a container has 3 to 63 lowercase letters, digits and single hyphens")
        if connection.endpoint:
            outbound.check_endpoint(connection.endpoint, self._named.of("endpoint"), plain_http=False)
        if not _is_base64(connection.secret_key):
            raise self._refuse("secret_key", "the account key is base64")
        if not connection.endpoint and not re.fullmatch("[a-z0-9]{3,24}", connection.access_key):
            raise self._refuse("access_key", "the account: 3 to 24 lowercase letters and digits")
        return connection

    def _server(self, connection: Connection) -> Connection:
        kind = KINDS[connection.kind]
        self._none_of(connection, "endpoint", "account_id", "region", "storage_class")
        if not connection.host:
            raise self._refuse("host", f"it is required for {kind.title}")
        outbound.check_host(connection.host, "host")
        bucket = connection.bucket
        if not bucket or len(bucket) > MAX_PREFIX or not bucket.isprintable() or ".." in bucket.split("/") or not _is_text(bucket):
            raise self._refuse("bucket", "the path of a folder on the server, without '..'")
        if kind.protocol == SPEAKS_FTP:
            self._none_of(connection, "private_key", "host_key")
            if connection.tls not in ("", *TLS):
                raise self._refuse("tls", f"one of: {', '.join(TLS)}")
        else:
            self._none_of(connection, "tls")
            if connection.host_key and not _HOST_KEY.fullmatch(connection.host_key):
                raise self._refuse("host_key", "the type and the key in base64, such as `ssh-ed25519 AAAA…`")
            self._private_key(connection)
        if not 0 <= connection.port <= 65535:
            raise self._refuse("port", "1 to 65535")
        tls = (connection.tls or TLS[0]) if kind.protocol == SPEAKS_FTP else ""
        return self._with(connection, port=connection.port or kind.port, tls=tls)

    def _private_key(self, connection: Connection) -> None:
        if not connection.private_key:
            return
        from chalicelib.providers.sftp import read_private_key

        if len(connection.private_key) > MAX_PRIVATE_KEY:
            raise self._refuse("private_key", f"at most {MAX_PRIVATE_KEY} characters")
        try:
            read_private_key(connection.private_key, connection.secret_key)
        except StorageUnavailable:
            raise self._refuse(
                "private_key", "an Ed25519, ECDSA or RSA key in PEM or OpenSSH's form; its passphrase is secret_key"
            ) from None

    def _files(self, connection: Connection) -> Connection:
        self._none_of(
            connection,
            "host",
            "port",
            "tls",
            "host_key",
            "private_key",
            "account_id",
            "region",
            "storage_class",
            "endpoint",
            "access_key",
            "secret_key",
        )
        if len(connection.bucket) > 100 or not _FOLDER.fullmatch(connection.bucket):
            raise self._refuse("bucket", "the name of a folder: 1 to 100 letters, digits, '.', '_' or '-'")
        return connection

    def _credentials(self, connection: Connection) -> None:
        kind = KINDS[connection.kind]
        if kind.protocol == FILES:
            return
        is_server = kind.protocol in (SPEAKS_SFTP, SPEAKS_FTP)
        needed = {"access_key": kind.access_key_is, "secret_key": kind.secret_key_is}
        if connection.private_key:
            needed.pop("secret_key")
        for field, meaning in needed.items():
            if not getattr(connection, field):
                raise self._refuse(field, f"it is required: the {meaning}")
        for field, meaning in (("access_key", kind.access_key_is), ("secret_key", kind.secret_key_is)):
            value = getattr(connection, field)
            fits = value.isprintable() and _is_text(value) if is_server else not value or _PRINTABLE.fullmatch(value)
            if len(value) > MAX_SECRET or not fits:
                raise self._refuse(field, f"the {meaning}: at most {MAX_SECRET} characters that can be printed, without spaces around them")

    def _none_of(self, connection: Connection, *fields: str) -> None:
        for field in fields:
            if getattr(connection, field):
                raise self._refuse(field, f"{KINDS[connection.kind].title} has no such field; leave it out")


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
        return True
    except ValueError:
        return False


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _is_text(value: str) -> bool:
    try:
        value.encode()
        return True
    except UnicodeEncodeError:
        return False
