"""The kinds of storage that there are: what each wants to be told, what follows from that, and what it can.

One table for all surfaces: field rules (`core/storage_rules.py`), clients (`opened`), documents for the user (`core/storage_papers.py`)
and the comparison of seed 001 come from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from chalicelib.errors import StorageUnavailable
from chalicelib.providers import Promise, Provider
from chalicelib.settings import settings

SPEAKS_S3, SPEAKS_AZURE, SPEAKS_SFTP, SPEAKS_FTP, FILES = "s3", "azure", "sftp", "ftp", "filesystem"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Traits:
    """The seed's comparison: True, False, or a word where it is neither."""

    best_for: str
    cost: str
    egress: str
    setup: str
    notes: str
    encryption_at_rest: bool | str
    versioning: bool
    lifecycle: bool
    multi_region: bool | str
    zero_egress: bool
    gdpr: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of storage. `endpoint` is made of `region` or `account_id`, None: it has to be given.

    `region` None: it has to be given; `port` of servers that are not asked over HTTP.
    """

    name: str
    title: str
    protocol: str
    traits: Traits
    endpoint: str | None = None
    region: str | None = None
    plain_http: bool = False
    virtual_host: bool = False
    port: int = 0
    access_key_is: str = "access key"
    secret_key_is: str = "secret key"

    @property
    def required(self) -> tuple[str, ...]:
        """The fields of a connection that have to be given."""
        if self.protocol == FILES:
            return ("bucket",)
        if self.protocol in (SPEAKS_SFTP, SPEAKS_FTP):
            return ("host", "bucket", "access_key", "secret_key")
        pattern = self.endpoint or ""
        derived = tuple(field for field in ("region", "account_id") if f"{{{field}}}" in pattern)
        return ("bucket", *derived, *(() if pattern else ("endpoint",)), "access_key", "secret_key")


def _in_house(best_for: str, notes: str, setup: str = "moderate") -> Traits:
    return Traits(best_for, "Infrastructure cost", "$0", setup, notes, "manual", False, False, "not applicable", True)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "aws_s3",
            "AWS S3",
            SPEAKS_S3,
            Traits("Enterprise", "$0.023/GB/mo", "$0.09/GB", "easy", "Industry standard, multi-region", True, True, True, "manual", False),
            endpoint="https://s3.{region}.amazonaws.com",
            virtual_host=True,
        ),
        Kind(
            "cloudflare_r2",
            "Cloudflare R2",
            SPEAKS_S3,
            Traits(
                "Most users", "$0.015/GB/mo", "$0", "easy", "Zero egress, S3-compatible, recommended", True, True, True, "automatic", True
            ),
            endpoint="https://{account_id}.r2.cloudflarestorage.com",
            region=AUTO,
        ),
        Kind(
            "backblaze_b2",
            "Backblaze B2",
            SPEAKS_S3,
            Traits(
                "Archival", "$0.005/GB/mo", "$0.01/GB", "moderate", "Lowest storage cost, good for long-term", True, True, True, True, False
            ),
            access_key_is="application key id",
            secret_key_is="application key",
        ),
        Kind(
            "minio",
            "MinIO",
            SPEAKS_S3,
            Traits(
                "Self-hosted",
                "Infrastructure cost",
                "$0",
                "advanced",
                "GDPR compliance, full control",
                True,
                True,
                True,
                "do it yourself",
                True,
            ),
            region="us-east-1",
            plain_http=True,
        ),
        Kind(
            "sftp",
            "SFTP",
            SPEAKS_SFTP,
            _in_house("Legacy systems", "Use existing SFTP servers"),
            port=22,
            access_key_is="user",
            secret_key_is="password",
        ),
        Kind(
            "ftp",
            "FTP",
            SPEAKS_FTP,
            _in_house("Legacy systems", "Less secure than SFTP"),
            port=21,
            access_key_is="user",
            secret_key_is="password",
        ),
        Kind(
            "digitalocean_spaces",
            "DigitalOcean Spaces",
            SPEAKS_S3,
            Traits("small teams", "$5/mo for 250 GB", "$0.01/GB", "easy", "flat price", True, True, True, "manual", False),
            endpoint="https://{region}.digitaloceanspaces.com",
        ),
        Kind(
            "wasabi",
            "Wasabi",
            SPEAKS_S3,
            Traits("archival", "$0.007/GB/mo", "$0", "easy", "objects are paid for 90 days", True, True, True, "manual", True),
            endpoint="https://s3.{region}.wasabisys.com",
        ),
        Kind(
            "s3_compatible",
            "Other S3-compatible",
            SPEAKS_S3,
            Traits(
                "everything else",
                "depends",
                "depends",
                "advanced",
                "whatever speaks S3's protocol",
                "depends",
                True,
                True,
                "depends",
                False,
            ),
            region="us-east-1",
            plain_http=True,
        ),
        Kind(
            "azure_blob",
            "Azure Blob Storage",
            SPEAKS_AZURE,
            Traits("Azure users", "$0.018/GB/mo", "$0.087/GB", "easy", "not S3-compatible", True, True, True, "manual", False),
            endpoint="https://{access_key}.blob.core.windows.net",
            region="",
            access_key_is="account",
            secret_key_is="account key",
        ),
        Kind("filesystem", "Local disk", FILES, _in_house("a single machine", "not on Lambda", "easy"), region=""),
    )
}


@dataclass(frozen=True, slots=True)
class Connection:
    """What a storage is reached by, its rules checked; fields that its kind does not have are empty. `prefix` as it was given."""

    kind: str
    bucket: str
    region: str = ""
    endpoint: str = ""
    account_id: str = ""
    host: str = ""
    port: int = 0
    tls: str = ""
    host_key: str = ""
    prefix: str = ""
    storage_class: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)

    @property
    def folder(self) -> str:
        """The prefix as keys begin with it."""
        return folder_of(self.prefix)

    @property
    def address(self) -> str:
        """The URL that an S3 or Azure storage is asked at."""
        if self.endpoint:
            return self.endpoint
        pattern = KINDS[self.kind].endpoint or ""
        china = ".cn" if self.kind == "aws_s3" and self.region.startswith("cn-") else ""
        return pattern.format(region=self.region, account_id=self.account_id, access_key=self.access_key) + china

    @property
    def place(self) -> tuple[str, ...]:
        """What tells where the bytes lie: two connections of one place show the same objects."""
        is_of_user = bool(self.host) and not self.bucket.startswith("/")  # a relative folder lies below the user's own
        return (self.kind, self.bucket, self.address.rstrip("/"), self.host, str(self.port), self.folder, self.access_key * is_of_user)


def folder_of(prefix: str) -> str:
    """A prefix as keys begin with it: empty, or without empty segments and ending in `/` (seed 000, "Object Layout")."""
    segments = [segment for segment in prefix.split("/") if segment]
    return "/".join(segments) + "/" if segments else ""


def opened(connection: Connection, tenant_id: str, unkept: frozenset[Promise] = frozenset()) -> Provider:
    """The provider for a connection, as bare as providers are; raises StorageUnavailable for a key that cannot be read.

    The tenant's own folder keeps storages of the kind `filesystem` apart: nobody chooses a path of the machine.
    """
    kind = KINDS[connection.kind]
    if kind.protocol == SPEAKS_S3:
        return _opened_s3(connection, kind, unkept)
    if kind.protocol == SPEAKS_AZURE:
        from chalicelib.providers.azure import Azure

        address = _stood_in_for(connection.address)
        return Azure(
            connection.bucket, account=connection.access_key, key=connection.secret_key, endpoint=address, prefix=connection.folder
        )
    if kind.protocol == FILES:
        from chalicelib.providers.filesystem import Filesystem

        return Filesystem(f"{settings().storage_root}/storages/{tenant_id}/{connection.bucket}/{connection.folder}".rstrip("/"))
    host, port = _server(connection)
    base, prefix = connection.bucket, connection.folder.rstrip("/")
    if kind.protocol == SPEAKS_SFTP:
        from chalicelib.providers.sftp import SFTP

        return SFTP(
            host,
            base,
            port=port,
            username=connection.access_key,
            password=connection.secret_key,
            private_key=connection.private_key,
            host_key=connection.host_key,
            prefix=prefix,
        )
    from chalicelib.providers.ftp import FTP

    return FTP(host, base, port=port, username=connection.access_key, password=connection.secret_key, tls=connection.tls, prefix=prefix)


def _opened_s3(connection: Connection, kind: Kind, unkept: frozenset[Promise]) -> Provider:
    from chalicelib.providers.s3 import S3

    if not connection.access_key or not connection.secret_key:  # without them a client would take this function's own
        raise StorageUnavailable("the storage has no credentials; give it some")
    address = _stood_in_for(connection.address)
    return S3(
        connection.bucket,
        region=connection.region,
        endpoint=address,
        access_key=connection.access_key,
        secret_key=connection.secret_key,
        prefix=connection.folder,
        virtual_host=kind.virtual_host and address == connection.address,
        storage_class=connection.storage_class,
        screened=True,
        unkept=unkept,
    )


def _stood_in_for(address: str) -> str:
    """The address, or the one of the server that stands in for its host."""
    return settings().overrides.get(urlsplit(address).netloc, address)


def _server(connection: Connection) -> tuple[str, int]:
    instead = settings().overrides.get(connection.host)
    if not instead:
        return connection.host, connection.port
    parts = urlsplit(instead)
    return str(parts.hostname), parts.port or connection.port
