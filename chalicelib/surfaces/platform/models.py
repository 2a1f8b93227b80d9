"""What the platform's routes take and give."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from chalicelib.access import tokens
from chalicelib.access.principals import Permission, Role
from chalicelib.outbound import MAX_URL_CHARACTERS
from chalicelib.tables.tenants import DEFAULT_AUDIENCE

LONGEST_TTL = 7 * 24 * 3600
DEFAULT_TTL = 3600


def _not_service(role: str) -> str:
    if role == Role.SERVICE:
        raise ValueError("a token never becomes service; use the service key")
    return role


Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
KeySetUrl = Annotated[
    str, Field(min_length=1, max_length=MAX_URL_CHARACTERS, description="Where the tenant's identity provider has its keys.")
]
Audience = Annotated[str, Field(min_length=1, max_length=255, description="What `aud` of a token must be or hold.")]


class CreateTenant(BaseModel):
    """A new tenant."""

    model_config = ConfigDict(strict=True, extra="ignore", defer_build=True)

    name: Name
    jwks_url: KeySetUrl | None = None
    jwt_audience: Audience = DEFAULT_AUDIENCE


class ChangeTenant(BaseModel):
    """What is to change; null takes the key set away, gives the audience back its usual value, and leaves the name."""

    model_config = ConfigDict(strict=True, extra="ignore", defer_build=True)

    name: Name | None = None
    jwks_url: KeySetUrl | None = None
    jwt_audience: Audience | None = None

    def changes(self) -> dict[str, Any]:
        """What was given, null included."""
        given = self.model_dump(exclude_unset=True)
        return {field: value for field, value in given.items() if (field, value) != ("name", None)}


class CreateKey(BaseModel):
    """A further key. Only a custom key takes permissions."""

    model_config = ConfigDict(strict=True, extra="ignore", defer_build=True)

    role: Literal["service", "anon", "custom"]
    name: Name | None = None
    permissions: Annotated[list[Annotated[Permission, Field(strict=False)]], Field(max_length=100)] | None = None

    @model_validator(mode="after")
    def _only_custom_keys_have_permissions(self) -> "CreateKey":
        if self.permissions is not None and self.role != "custom":
            raise ValueError("only a custom key takes permissions")
        return self


class CreateToken(BaseModel):
    """A user token. What is not named here is neither signed nor read."""

    model_config = ConfigDict(strict=True, extra="ignore", defer_build=True)

    sub: Annotated[str, Field(min_length=1, max_length=tokens.MAX_SUBJECT_CHARACTERS)]
    role: Annotated[str, Field(min_length=1, max_length=tokens.MAX_ROLE_CHARACTERS), AfterValidator(_not_service)] | None = None
    email: Annotated[str, Field(max_length=tokens.MAX_EMAIL_CHARACTERS)] | None = None
    permissions: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=tokens.MAX_PERMISSIONS)] | None = None
    ttl_seconds: Annotated[int, Field(ge=1, le=LONGEST_TTL)] = DEFAULT_TTL


class CreatedToken(TypedDict):
    """A token and when it expires."""

    token: str
    expires_at: str


class CreatedTenant(TypedDict):
    """A tenant's credentials, shown this once."""

    tenant_id: str
    service_key: str
    anon_key: str
    jwt_secret: str


class Tenant(TypedDict):
    """A tenant."""

    tenant_id: str
    name: str
    jwks_url: str | None
    jwt_audience: str
    created_at: str


Tenants = list[Tenant]


class Key(TypedDict):
    """A key without its text. `permissions` of a custom key alone, else null."""

    id: str
    role: Literal["service", "anon", "custom"]
    name: str | None
    permissions: list[str] | None
    created_at: str


class CreatedKey(Key):
    """A new key; `key` is shown this once."""

    key: str


Keys = list[Key]


class Revoked(TypedDict):
    """Nothing."""


class TenantDeletion(TypedDict):
    """The job that deletes what the tenant had."""

    job_id: str


class Job(TypedDict):
    """Work that outlives a request. `done` of `total` in the unit of its kind; `error` tells why it failed."""

    id: str
    kind: str
    status: Literal["queued", "running", "done", "failed"]
    done: int
    total: int | None
    error: str | None


class SessionBegun(TypedDict):
    """When a session ends, if it is not ended before. The cookie is in `Set-Cookie`."""

    expires_at: str


class SessionEnded(TypedDict):
    """The session has ended."""


class Health(TypedDict):
    """The API answers."""

    status: Literal["ok"]
