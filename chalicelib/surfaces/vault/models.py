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


# ---- keys ----------------------------------------------------------------------------------------------------
class CreateVaultKey(Body):
    """A key of the caller's; without `storage_uuid` on internal storage, with its limits."""

    name: Text
    storage_uuid: Id | None = None


class EditVaultKey(Body):
    """What is to change. Another storage moves nothing, and a key does not go back to internal storage."""

    key_uuid: Id
    name: Text | None = None
    storage_uuid: Id | None = None


class DeleteVaultKey(Body):
    """Which key; it may be named in the query instead."""

    key_uuid: Id | None = None


class MigrateVaultKey(Body):
    """The key, and the storage that its deltas are copied to before it points there."""

    key_uuid: Id
    storage_uuid: Id


class VaultKey(TypedDict):
    """A key. `storage_uuid` null: internal storage; `user_uuid` null: the service key's; `job_id`: of a job that moves it."""

    key_uuid: str
    name: str
    storage_uuid: str | None
    user_uuid: str | None
    delta_count: int
    size_bytes: int
    job_id: str | None
    warning: str | None
    created_at: str
    updated_at: str


VaultKeys = list[VaultKey]


class KeyDeleted(TypedDict):
    """`deleted_count` of its deltas, those included that never came. `left` are objects that the storage did not delete, by their keys in
    its bucket, the first 1,000 of them.

    With a `job_id` there are more deltas than a request can delete, and the job goes on.
    """

    key_uuid: str
    deleted_count: int
    warning: str | None
    left: list[str]
    job_id: str | None


class Limit(TypedDict):
    """`used` null: no key was named; `resets_at` null: only deleting makes room."""

    limit: int
    used: int | None
    resets_at: str | None


class UploadLimits(TypedDict):
    daily: Limit
    monthly: Limit
    stored: Limit


class DownloadLimits(TypedDict):
    daily: Limit
    monthly: Limit


class Limits(TypedDict):
    """By days and months of the UTC calendar."""

    uploads: UploadLimits
    downloads: DownloadLimits


class StorageLimits(TypedDict):
    """`limits` null: the key lies on a storage of its owner's, which has none."""

    key_uuid: str | None
    max_delta_bytes: int
    limits: Limits | None


class Located(TypedDict):
    """A delta, and the key of the object that it should be."""

    delta_uuid: str
    object_key: str


class Layout(TypedDict):
    """Of the deltas that were checked, those that do not lie where their key points, and objects there that are of another size."""

    key_uuid: str
    storage_uuid: str | None
    checked_count: int
    missing: list[Located]
    differing: list[Located]


class KeyMigration(TypedDict):
    """`GET /jobs/{job_id}` tells how far it is."""

    key_uuid: str
    storage_uuid: str
    job_id: str


# ---- deltas --------------------------------------------------------------------------------------------------
class UploadDelta(Body):
    """What the encrypted file is. A known `delta_uuid` starts another attempt at one that is not stored."""

    key_uuid: Id
    size_bytes: Annotated[int, Field(ge=1, le=10_485_760)]
    content_md5: Annotated[str, Field(min_length=24, max_length=24, description="The base64 of the MD5.")]
    delta_uuid: Id | None = None


class ConfirmDelta(Body):
    """Which attempt has put its bytes."""

    delta_uuid: Id
    upload_attempt_uuid: Id


class DeleteDelta(Body):
    """Which delta; it may be named in the query instead."""

    delta_uuid: Id | None = None


Bytes = Annotated[int, Field(le=10_485_760)]


class ClaimSection(Body):
    """`length` bytes from `start` on."""

    delta_uuid: Id
    start: Annotated[Bytes, Field(ge=0)]
    length: Annotated[Bytes, Field(ge=1)]


class ReleaseSection(Body):
    """Which claim of which delta; both may be named in the query instead."""

    delta_uuid: Id | None = None
    claim_id: Id | None = None


class DeltaSafeguards(TypedDict):
    """Who sees to it that an upload overwrites nothing and arrives whole: `enforced` by the storage, or `checked` on confirmation."""

    overwrite: Kept
    content_md5: Kept


class DeltaUpload(TypedDict):
    """A PUT of exactly the promised bytes, with exactly these headers, until `expires_at`; then confirm it.

    `warning` tells what the storage does not see to by itself.
    """

    delta_uuid: str
    key_uuid: str
    upload_attempt_uuid: str
    method: Literal["PUT"]
    url: str
    headers: dict[str, str]
    expires_at: str
    object_key: str
    safeguards: DeltaSafeguards
    warning: str | None


class Delta(TypedDict):
    """A delta. While it is `pending`, size, MD5 and attempt are those of the latest attempt."""

    delta_uuid: str
    key_uuid: str
    status: Literal["pending", "stored"]
    size_bytes: int
    content_md5: str
    upload_attempt_uuid: str
    object_key: str
    safeguards: DeltaSafeguards
    warning: str | None
    created_at: str
    confirmed_at: str | None


Deltas = list[Delta]


class DeltaDownload(TypedDict):
    """A URL that answers GET until `expires_at`."""

    delta_uuid: str
    url: str
    expires_at: str


class DeltaDeleted(TypedDict):
    """`left` are objects that the storage did not delete, by their keys in its bucket."""

    delta_uuid: str
    warning: str | None
    left: list[str]


class SectionClaim(TypedDict):
    """A section that is taken; `user_uuid` null: by the service key."""

    claim_id: str
    delta_uuid: str
    start: int
    length: int
    user_uuid: str | None
    created_at: str


SectionClaims = list[SectionClaim]


class ClaimReleased(TypedDict):
    """Nothing more to say."""
