"""What the vault's routes take and give."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

Id = Annotated[str, Field(max_length=64, description="A UUID, hyphenated.")]
Text = Annotated[str, Field(max_length=2048)]
Secret = Annotated[str, Field(max_length=512)]


class Body(BaseModel):
    """A JSON object; fields that are not named here are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", defer_build=True)


class CreateVaultStorage(Body):
    """A bucket on R2 or S3, by seed 000's fields and rules."""

    name: Text
    provider: Literal["r2", "s3"]
    bucket_name: Text
    region: Text
    access_key_id: Secret
    secret_access_key: Secret
    endpoint_url: Text | None = Field(None, description="Required for r2: the account's endpoint. To be left out for s3.")
    remote_path: Text | None = Field(None, description="Where in the bucket; none: at its root.")


class EditVaultStorage(Body):
    """What is to change; null takes `endpoint_url` and `remote_path` away, and leaves the others."""

    storage_uuid: Id
    name: Text | None = None
    provider: Literal["r2", "s3"] | None = None
    bucket_name: Text | None = None
    region: Text | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    endpoint_url: Text | None = None
    remote_path: Text | None = None

    def given(self) -> dict[str, Any]:
        """What was given, by the seed's names."""
        told = self.model_dump(exclude_unset=True, exclude={"storage_uuid"})
        emptied = ("endpoint_url", "remote_path")
        return {name: "" if value is None else value for name, value in told.items() if value is not None or name in emptied}


class DeleteVaultStorage(Body):
    """Which storage; it may be named in the query instead."""

    storage_uuid: Id | None = None


Kept = Literal["enforced", "checked"]


class Safeguards(TypedDict):
    """Who sees to it that an upload overwrites nothing and arrives whole: `enforced` by the storage, or `checked` afterwards by Stowage."""

    overwrite: Kept
    content_md5: Kept
    checksum_sha256: Kept


class Capabilities(TypedDict):
    """What the last connectivity test saw; null where a right, or the notion, is missing."""

    can_delete: bool | None
    conditional_put: bool | None
    content_md5: bool | None
    checksum_sha256: bool | None
    metadata: bool | None
    range_read: bool | None
    multipart: bool | None
    versioning: bool | None
    clock_skew_seconds: float | None


class StorageState(TypedDict):
    """What is shown of a storage on either surface beside the surface's own fields."""

    status: Literal["untested", "healthy", "degraded"]
    status_reason: str | None
    capabilities: Capabilities | None
    safeguards: Safeguards
    probed_at: str | None
    bucket_count: int
    bucket_object_count: int
    bucket_size_bytes: int
    last_used_at: str | None
    credentials_changed_at: str
    created_at: str
    updated_at: str


class VaultStorage(StorageState):
    """A storage without its credentials. `warning` tells what the test could not do."""

    storage_uuid: str
    name: str
    provider: Literal["r2", "s3"]
    bucket_name: str
    region: str
    endpoint_url: str | None
    remote_path: str | None
    key_count: int
    warning: str | None


VaultStorages = list[VaultStorage]


class VaultStorageDeleted(TypedDict):
    """Nothing more to say."""


class StoragePolicy(TypedDict):
    """The rights in words, and on AWS as an IAM policy; `optional` ones are only used to delete."""

    storage_uuid: str
    permissions: list[str]
    optional: list[str]
    policy: dict[str, Any] | None
    policy_with_optional: dict[str, Any] | None


class CorsRule(TypedDict):
    AllowedOrigins: list[str]
    AllowedMethods: list[str]
    AllowedHeaders: list[str]
    ExposeHeaders: list[str]
    MaxAgeSeconds: int


class StorageCors(TypedDict):
    """The rules as the provider takes them."""

    storage_uuid: str
    cors: list[CorsRule]
