"""What the storage surface takes (Pydantic models) and gives (TypedDicts); OpenAPI is made from both."""

import re
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic needs these below Python 3.12
)

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from typing_extensions import TypedDict

from chalicelib.access.tokens import MAX_EMAIL_CHARACTERS, MAX_ROLE_CHARACTERS, MAX_SUBJECT_CHARACTERS
from chalicelib.core import content, names
from chalicelib.core.buckets import MAX_ALLOWED_TYPES
from chalicelib.core.listing import Row
from chalicelib.core.objects import MAX_DELETED_AT_ONCE
from chalicelib.core.signing import DEFAULT_LIFETIME, MAX_LIFETIME, MAX_SIGNED_AT_ONCE
from chalicelib.errors import StowageError
from chalicelib.images import options

_UNITS = {"": 1, "B": 1}
_UNITS |= {letter + "B": 1000**power for power, letter in enumerate("KMGT", 1)}
_UNITS |= {letter + "IB": 1024**power for power, letter in enumerate("KMGT", 1)}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([KMGT]?I?B?)", re.IGNORECASE)


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None or match[2].upper() not in _UNITS:
            raise ValueError("a size is a number of bytes or such as '20MB' or '5 MiB'")
        return int(float(match[1]) * _UNITS[match[2].upper()])
    return value


def _checked(check: Any) -> AfterValidator:
    """A rule of the core as a Pydantic validator."""

    def validate(value: Any) -> Any:
        try:
            return check(value)
        except StowageError as error:
            raise ValueError(error.message) from None

    return AfterValidator(validate)


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    content.metadata_text(metadata)
    return metadata


Size = Annotated[
    int,
    BeforeValidator(_bytes, json_schema_input_type=int | str),
    Field(gt=0, le=5 * 10**12, description="Bytes, or a text such as `20MB` (10^6) or `5 MiB` (2^20)."),
]
BucketName = Annotated[str, Field(min_length=1, max_length=names.MAX_BUCKET_CHARACTERS)]
ObjectName = Annotated[str, Field(min_length=1, max_length=names.MAX_NAME_BYTES), _checked(names.check_object_name)]
Path = Annotated[str, Field(max_length=4096)]
MediaType = Annotated[str, Field(min_length=3, max_length=content.MAX_TYPE_CHARACTERS), _checked(content.check_type)]
MediaTypes = Annotated[list[Annotated[str, Field(max_length=content.MAX_TYPE_CHARACTERS)]], Field(max_length=MAX_ALLOWED_TYPES)]
Metadata = Annotated[
    dict[str, JsonValue], _checked(_small), Field(description=f"Any JSON object of at most {content.MAX_METADATA_BYTES} bytes.")
]


class Body(BaseModel):
    """A JSON body: no silent conversions (`"true"` is not true), unknown fields ignored."""

    model_config = ConfigDict(
        strict=True, extra="ignore", defer_build=True, serialize_by_alias=True, validate_by_name=True, validate_by_alias=True
    )


class TransformOptions(Body):
    """How to transform an image; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")  # a misspelt option is not to be signed away

    width: int | None = Field(None, ge=1, le=options.MAX_SIDE, description="Pixels, at most.")
    height: int | None = Field(None, ge=1, le=options.MAX_SIDE, description="Pixels, at most.")
    fit: Literal["contain", "cover"] | None = Field(None, description="Where both are given: within them, or all of them filled.")
    focal: str | None = Field(None, max_length=20, description="`x,y` in percent: what `cover` keeps in view.")
    enlarge: bool | None = Field(None, description="Whether it may become larger than it is.")
    format: Literal["webp", "jpeg", "png", "avif", "auto"] | None = Field(None, description="`auto`: by the Accept header.")
    quality: int | None = Field(None, ge=1, le=options.MAX_QUALITY, description="Default 80; PNG has none.")

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> "TransformOptions":
        try:
            said = options.parse(self.given(), "")
        except StowageError as error:
            raise ValueError(error.message) from None
        if said is None and not self.stands_for_others:
            raise ValueError("name at least one option")
        return self

    @property
    def stands_for_others(self) -> bool:
        """Whether it names options that it does not say."""
        return False

    def given(self) -> dict[str, str]:
        """The options as a query has them."""
        said = self.model_dump(include=set(options.NAMES), exclude_none=True)
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in said.items()}


class Transform(TransformOptions):
    """How to transform an image, or which of its bucket's presets says so."""

    preset: str | None = Field(None, min_length=1, max_length=options.MAX_PRESET_CHARACTERS)

    @property
    def stands_for_others(self) -> bool:
        return self.preset is not None

    def given(self) -> dict[str, str]:
        return super().given() | ({options.PRESET: self.preset} if self.preset is not None else {})


Presets = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=options.MAX_PRESET_CHARACTERS)], TransformOptions],
    Field(max_length=options.MAX_PRESETS),
]


class BucketFields(Body):
    """A bucket's settings, in either spelling of the seed."""

    visibility: Literal["public", "private"] | None = None
    public: bool | None = None
    max_file_size: Size | None = None
    file_size_limit: Size | None = None
    allowed_mimes: MediaTypes | None = None
    allowed_mime_types: MediaTypes | None = None
    storage_id: str | None = Field(None, max_length=64, description="None: the internal storage.")
    transforms: Literal["any", "presets", "signed"] | None = Field(
        None, description="Whether images may be asked for with any options, by preset alone, or only by signed URLs that name a transform."
    )
    transform_presets: Presets | None = None

    @model_validator(mode="after")
    def _spellings_agree(self) -> "BucketFields":
        if self.public is not None and self.visibility is not None and self.public != (self.visibility == "public"):
            raise ValueError("public and visibility say different things")
        for first, second in (("max_file_size", "file_size_limit"), ("allowed_mimes", "allowed_mime_types")):
            if {first, second} <= self.model_fields_set and getattr(self, first) != getattr(self, second):
                raise ValueError(f"{first} and {second} say different things")
        return self

    def chosen(self) -> dict[str, Any]:
        """What was given, under the core's names."""
        given = self.model_fields_set
        chosen: dict[str, Any] = {}
        if self.visibility is not None:
            chosen["visibility"] = self.visibility
        elif self.public is not None:
            chosen["visibility"] = "public" if self.public else "private"
        for name, spellings in (
            ("file_size_limit", ("file_size_limit", "max_file_size")),
            ("allowed_mime_types", ("allowed_mime_types", "allowed_mimes")),
        ):
            for spelling in spellings:
                if spelling in given:
                    chosen[name] = getattr(self, spelling)
        if "transforms" in given:
            chosen["transforms"] = self.transforms
        if "transform_presets" in given:
            presets = self.transform_presets
            chosen["transform_presets"] = {name: preset.given() for name, preset in presets.items()} if presets else None
        return chosen


class CreateBucket(BucketFields):
    """A new bucket."""

    name: BucketName


class ChangeBucket(BucketFields):
    """Settings to change; what is left out stays. `null` lifts a limit."""

    name: BucketName | None = None


class Relocate(Body):
    """A copy or a move."""

    bucket: BucketName
    source: ObjectName = Field(alias="from")
    target: ObjectName = Field(alias="to")
    to_bucket: BucketName | None = Field(None, description="Left out: the same bucket.")


class DeleteMany(Body):
    """Objects to delete."""

    paths: list[Path] = Field(max_length=MAX_DELETED_AT_ONCE)


class ChangeObject(Body):
    """What of an object to change. `user_metadata` replaces what was there; `null` removes it."""

    user_metadata: Metadata | None = None
    content_type: MediaType | None = None

    @model_validator(mode="after")
    def _something_to_change(self) -> "ChangeObject":
        if not self.model_fields_set:
            raise ValueError("give user_metadata, content_type or both")
        if "content_type" in self.model_fields_set and self.content_type is None:
            raise ValueError("content_type cannot be removed")
        return self


class CreatePolicy(Body):
    """A new policy: a PostgreSQL boolean expression over the object's row and the caller."""

    bucket: BucketName
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    operation: Literal["SELECT", "INSERT", "UPDATE", "DELETE"]
    definition: Annotated[str, Field(min_length=1, max_length=4096)]


class Claims(Body):
    """What of a token policies see; what else it says is ignored."""

    sub: Annotated[str, Field(min_length=1, max_length=MAX_SUBJECT_CHARACTERS)]
    role: Annotated[str, Field(max_length=MAX_ROLE_CHARACTERS)] | None = None
    email: Annotated[str, Field(max_length=MAX_EMAIL_CHARACTERS)] | None = None


class ExplainPolicy(Body):
    """Whose request on which object is to be explained. Without `claims`: of someone who sends no token."""

    bucket: BucketName
    operation: Literal["SELECT", "INSERT", "UPDATE", "DELETE"]
    path: ObjectName
    claims: Claims | None = None
    size: Annotated[int, Field(ge=0)] | None = Field(None, description="For INSERT: of the object that is to be.")
    content_type: MediaType | None = Field(None, description="For INSERT.")
    user_metadata: Metadata | None = Field(None, description="For INSERT.")

    def named_claims(self) -> dict[str, Any] | None:
        """The claims, as a principal has them."""
        return self.claims.model_dump() if self.claims else None

    def prospect(self) -> dict[str, Any]:
        """What INSERT is asked for."""
        return {"size": self.size, "content_type": self.content_type, "user_metadata": self.user_metadata}


Lifetime = Annotated[int, Field(ge=1, le=MAX_LIFETIME, description="Seconds.")]


class Sign(Body):
    """An object to sign a download URL for."""

    bucket: BucketName
    path: ObjectName
    expires_in: Lifetime = DEFAULT_LIFETIME
    transform: Transform | None = Field(
        None, description="The one transform that the URL opens; without it, any that is asked for in the query."
    )


class SignMany(Body):
    """Objects to sign download URLs for."""

    bucket: BucketName
    paths: list[Path] = Field(max_length=MAX_SIGNED_AT_ONCE)
    expires_in: Lifetime = DEFAULT_LIFETIME
    transform: Transform | None = Field(None, description="As for one URL.")


class SignUpload(Body):
    """A path to sign an upload URL for. With `content_type` the upload has that type, whatever it says of itself."""

    bucket: BucketName
    path: ObjectName
    expires_in: Lifetime = DEFAULT_LIFETIME
    upsert: bool = False
    content_type: MediaType | None = None


class Revoke(Body):
    """An object whose signed URLs are to end."""

    bucket: BucketName
    path: ObjectName


def _digest(size: int) -> AfterValidator:
    """A digest of so many bytes, in base64 whichever way it was given."""
    return _checked(lambda text: content.digest_base64(text, size))


Bytes = Annotated[int, Field(ge=0, le=5 * 10**12, description="Bytes.")]
Sha256 = Annotated[str, Field(max_length=64, description="SHA-256 in hex or base64."), _digest(32)]
Md5 = Annotated[str, Field(max_length=32, description="MD5 in base64 or hex."), _digest(16)]


class BeginUpload(Body):
    """An object to upload in chunks."""

    bucket: BucketName
    path: ObjectName
    size: Bytes
    content_type: MediaType | None = None
    user_metadata: Metadata | None = None
    upsert: bool = True


class CompleteUpload(Body):
    """The end of an upload in chunks. With `checksum` it is completed only if the bytes have it."""

    checksum: Sha256 | None = None


class BeginDirect(BeginUpload):
    """An object to put into the storage directly. A checksum is signed; `parts` asks for that many, and not one PUT."""

    checksum_sha256: Sha256 | None = None
    content_md5: Md5 | None = None
    parts: Annotated[int, Field(ge=1, le=10_000)] | None = None


class PutPart(Body):
    """A part that was put, and the ETag that the storage answered."""

    number: Annotated[int, Field(ge=1, le=10_000)]
    etag: Annotated[str, Field(min_length=1, max_length=200)]


class ConfirmUpload(Body):
    """The end of a direct upload. ETags of parts are compared where they are given."""

    parts: Annotated[list[PutPart], Field(max_length=10_000)] | None = None


class Bucket(TypedDict):
    """A bucket. Counters follow writes by a second or so. Sizes in bytes; null: no limit of its own, any type."""

    id: str
    name: str
    visibility: Literal["public", "private"]
    public: bool
    max_file_size: int | None
    file_size_limit: int | None
    allowed_mimes: list[str] | None
    allowed_mime_types: list[str] | None
    transforms: Literal["any", "presets", "signed"]
    transform_presets: dict[str, dict[str, int | bool | str]]
    storage_id: str | None
    object_count: int
    total_size_bytes: int
    created_at: str
    updated_at: str


class Stored(TypedDict):
    """An object that was just stored. `checksum` is the SHA-256 in hex; `pending`: a job reads the bytes for it."""

    id: str
    name: str
    size: int
    content_type: str
    checksum: str | None
    checksum_state: Literal["known", "pending"]
    version: str


class Object(TypedDict):
    """An object. `size` bytes; `checksum` SHA-256 in hex, null while a job reads the bytes for it; times in UTC."""

    id: str
    name: str
    bucket: str
    version: str
    size: int
    content_type: str
    checksum: str | None
    checksum_state: Literal["known", "pending"]
    owner_id: str | None
    user_metadata: dict[str, Any] | None
    created_at: str
    updated_at: str


class JobStarted(TypedDict):
    """Work that goes on: see `GET /jobs/{job_id}`."""

    job_id: str


class Problem(TypedDict):
    """Why one of several could not be done."""

    code: str
    message: str


class Deleted(TypedDict):
    """The outcome for one path; `error` null: it is gone."""

    path: str
    error: Problem | None


class Policy(TypedDict):
    """A policy."""

    id: str
    bucket: str
    name: str
    operation: Literal["SELECT", "INSERT", "UPDATE", "DELETE"]
    definition: str
    created_at: str


class NamedPolicy(TypedDict):
    """Which policy."""

    id: str
    name: str


class Expression(TypedDict):
    """A part of a definition as it is written, its type, and its value as text (null: NULL) or the error it raises."""

    expression: str
    type: str
    value: str | None
    error: str | None


class Verdict(TypedDict):
    """What a policy came to: `true`, `false`, `null` or `error`; and each of its expressions, from the outside in."""

    id: str
    name: str
    value: str
    expressions: list[Expression]


class Explanation(TypedDict):
    """Whether it is allowed, why, and by which policy."""

    allowed: bool
    reason: Literal["public", "policy", "no_policy", "no_policy_holds"]
    decided_by: NamedPolicy | None
    policies: list[Verdict]


class Signed(TypedDict):
    """A signed URL: its path, and absolute."""

    signed_url: str
    url: str
    expires_at: str


class SignedPath(TypedDict):
    """The outcome for one path: a signed URL, or why there is none."""

    path: str
    signed_url: str | None
    url: str | None
    error: Problem | None


class UploadBegun(TypedDict):
    """An upload in chunks of at most `chunk_max` bytes."""

    upload_id: str
    bytes_uploaded: int
    total_size: int | None
    expires_at: str
    chunk_max: int


class UploadProgress(TypedDict):
    """How far an upload in chunks is, in bytes."""

    bytes_uploaded: int
    total_size: int | None


class SignedPart(TypedDict):
    """Where a part of exactly `size` bytes goes, by PUT."""

    number: int
    size: int
    url: str


class DirectBegun(TypedDict):
    """A direct upload: one PUT of the bytes to `url` with exactly `headers`; or parts, of which at most 1,000 are named."""

    upload_id: str
    method: NotRequired[Literal["PUT"]]
    url: NotRequired[str]
    headers: NotRequired[dict[str, str]]
    part_size: NotRequired[int]
    parts: NotRequired[list[SignedPart]]
    expires_at: str


class Nothing(TypedDict):
    """An empty object."""


Buckets = list[Bucket]
Rows = list[Row]
Outcomes = list[Deleted]
Policies = list[Policy]
SignedPaths = list[SignedPath]
