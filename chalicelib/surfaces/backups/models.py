"""What the backups surface's routes take and give."""

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from chalicelib.surfaces.vault.models import Body, Secret, StorageState, Text

Port = Annotated[int, Field(ge=1, le=65535)]
PrivateKey = Annotated[str, Field(max_length=16_384, description="Of SFTP: PEM or OpenSSH's own form; its passphrase is `secret_key`.")]
HostKey = Annotated[str, Field(max_length=2100, description="Of SFTP: `ssh-ed25519 AAAA…`. Left out: the one shown at the first test.")]


class ConnectionFields(Body):
    """What a storage is reached by, beside provider and bucket, as far as its provider has it."""

    region: Text | None = None
    endpoint_url: Text | None = None
    account_id: Text | None = None
    host: Text | None = None
    port: Port | None = None
    tls: Text | None = Field(None, description="Of FTP: explicit (default), implicit or none.")
    host_key: HostKey | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    private_key: PrivateKey | None = None
    path_prefix: Text | None = None
    storage_class: Text | None = None


class CreateStorageConfig(ConnectionFields):
    """A storage by seed 001's fields. Which are needed depends on the provider (`GET /api/v1/backups/storage-providers`)."""

    name: Text
    provider: Text
    bucket: Text = Field(description="Bucket or container; on a server the path of the base folder.")
    is_default: bool = False

    def described(self) -> dict[str, Any]:
        """The connection's fields that were given, by the seed's names."""
        told = self.model_dump(exclude={"name", "is_default"})
        return {name: value for name, value in told.items() if value is not None}


class ChangeStorageConfig(ConnectionFields):
    """What is to change; null empties a field of the connection, and leaves name, provider, bucket and the flags."""

    name: Text | None = None
    provider: Text | None = None
    bucket: Text | None = None
    is_default: bool | None = None
    is_active: bool | None = None

    def given(self) -> dict[str, Any]:
        """What was given, by the seed's names; an emptied field as empty."""
        told = self.model_dump(exclude_unset=True)
        emptied: dict[str, Any] = dict.fromkeys(ConnectionFields.model_fields, "") | {"port": 0}
        return {name: emptied[name] if value is None else value for name, value in told.items() if value is not None or name in emptied}


class StorageConfig(StorageState):
    """A storage without its credentials and account. `object_count` counts backups, `total_size_bytes` their bytes."""

    id: str
    organization_id: str
    name: str
    provider: str
    bucket: str
    region: str | None
    endpoint_url: str | None
    host: str | None
    port: int | None
    tls: str | None
    host_key: str | None
    path_prefix: str | None
    storage_class: str | None
    is_default: bool
    is_active: bool
    total_size_bytes: int
    object_count: int


StorageConfigs = list[StorageConfig]


class StorageConfigDeleted(TypedDict):
    """Nothing more to say."""


class ConnectionTest(TypedDict):
    """What a test found, null where it is not known; `code` is stable, `hint` says what to do."""

    success: bool
    message: str
    bucket_exists: bool | None
    can_write: bool | None
    can_read: bool | None
    latency_ms: int | None
    code: str | None
    step: Literal["LIST", "PUT", "GET"] | None
    hint: str | None
    warning: str | None


class StorageSettings(TypedDict):
    """What this platform allows."""

    enabled_providers: list[str]
    allow_org_byos: bool
    has_default_storage: bool


class StorageProvider(TypedDict):
    """A line of the comparison, and what the provider wants to be told."""

    provider: str
    name: str
    enabled: bool
    required_fields: list[str]
    best_for: str
    cost: str
    egress_fees: str
    setup_complexity: str
    notes: str
    s3_compatible: bool
    encryption_at_rest: bool | str
    versioning: bool
    lifecycle_policies: bool
    multi_region: bool | str
    zero_egress: bool
    gdpr: bool


StorageProviders = list[StorageProvider]
