"""What the platform's routes take and give."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12


class CreateTenant(BaseModel):
    """A new tenant."""

    model_config = ConfigDict(strict=True, extra="ignore", defer_build=True)

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


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
    created_at: str


Tenants = list[Tenant]


class Job(TypedDict):
    """Work that outlives a request. `done` of `total` in the unit of its kind; `error` tells why it failed."""

    id: str
    kind: str
    status: Literal["queued", "running", "done", "failed"]
    done: int
    total: int | None
    error: str | None


class Health(TypedDict):
    """The API answers."""

    status: Literal["ok"]
