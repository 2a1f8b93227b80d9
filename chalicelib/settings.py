"""What an installation chooses, read from `STOWAGE_*` once.

The table in README is made from the fields and their comments; a field here is a row there.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

# API Gateway hands Lambda at most 6 MB, base64 included, each way: about 4.4 MB of bytes.
PAYLOAD_LIMIT = 4_400_000
# API Gateway's own, and so the local server's: all that a function on another platform than Lambda could be given.
GATEWAY_LIMIT = 10 << 20
TRANSFORM_LIMIT = 50_000_000
GIGABYTE = 1_000_000_000
STORAGE_PROVIDERS = ("filesystem", "s3", "azure")
# The kinds of storage that tenants may bring (providers/catalogue.py), and those that they may unless a setting says otherwise.
ALL_KINDS = (
    *("aws_s3", "cloudflare_r2", "backblaze_b2", "minio", "sftp", "ftp"),
    *("digitalocean_spaces", "wasabi", "s3_compatible", "azure_blob", "filesystem"),
)
USUAL_KINDS = ALL_KINDS[:6]
FLAGS = {"true": True, "1": True, "false": False, "0": False}
URLS = ("http://", "https://")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MIN_SECRET = 32


class SettingsError(Exception):
    """The environment does not describe a working installation; the message says which variable to change."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One installation. Sizes in bytes, times in seconds."""

    table_prefix: str = "stowage"
    """Every table is called `{prefix}-{noun}`."""
    storage_provider: str = "filesystem"
    """Where buckets without a `storage_id` keep their bytes: `filesystem`, `s3` or `azure`."""
    storage_root: str = ".data/files"
    """The folder of the `filesystem` provider."""
    s3_bucket: str = ""
    """The internal bucket of the `s3` provider."""
    s3_endpoint: str = ""
    """Set for anything that is not AWS, or leave empty."""
    s3_region: str = ""
    """Empty: the region of the function."""
    s3_access_key: str = ""
    """Empty: the credentials of the function."""
    s3_secret_key: str = ""
    """Belongs to `STOWAGE_S3_ACCESS_KEY`."""
    azure_connection_string: str = ""
    """Of the `azure` provider, as Azure shows it: account, key and endpoint."""
    azure_container: str = "stowage"
    """The internal container of the `azure` provider."""
    enabled_providers: str = ",".join(USUAL_KINDS)
    """Comma-separated kinds of storage that tenants may bring; `all` stands for every one."""
    allow_org_byos: bool = True
    """Whether tenants may bring storages of their own at all."""
    platform_storage: bool = False
    """Whether the internal storage takes backups of tenants that have chosen no other."""
    endpoint_overrides: str = ""
    """For local runs and tests: `host=http://127.0.0.1:9000` pairs, comma-separated; each host is stood in for by that server."""
    master_key: str = ""
    """32 bytes in base64, the root of every derived key; to replace it: `new,old`. Empty: read from `STOWAGE_MASTER_KEY_PARAMETER`."""
    master_key_parameter: str = ""
    """Name of the SSM SecureString that holds the master key, or `file:` and the path of a file that does."""
    default_tenant: str = ""
    """The tenant of requests that carry no credential. Empty: such requests are refused."""
    public_url: str = ""
    """Absolute base of the URLs in answers. Empty: taken from the request."""
    cors_origins: str = "*"
    """Comma-separated origins that browsers may call from; credentials are allowed only when they are named."""
    max_body: int = PAYLOAD_LIMIT
    """Largest request or answer body; elsewhere than on Lambda up to 10 MiB."""
    max_upload_size: int = 5 * GIGABYTE
    """Largest object."""
    image_function: str = ""
    """Name of the function that transforms images. Empty: transforms are refused."""
    max_transform_size: int = 10_000_000
    """Largest image that is transformed."""
    transform_ttl: int = 3600
    """Seconds after which a transformed image is made anew."""
    transforms_per_minute: int = 300
    """New transforms that a tenant may ask for in a minute, and at once; as many again of public files for anybody."""
    probes_per_minute: int = 30
    """Connectivity tests that a tenant may ask for in a minute, and at once."""
    imports_per_minute: int = 30
    """Files that a tenant may have fetched from URLs in a minute, and at once."""
    auth_secret: str = ""
    """What tokens in URLs of files are signed under; another one ends them all. Empty: a key derived from the master key."""
    public_base_url: str = ""
    """The origin that shows what lies below `public/` in the internal storage. Empty: nothing of files is public."""
    jobs_queue: str = ""
    """URL of the queue that wakes the job worker."""
    event_bus: str = ""
    """Name of the EventBridge bus for `object.*` events. Empty: none are published."""
    allow_private_endpoints: bool = False
    """Whether key sets and storages may lie at addresses that are not public, and be asked over plain HTTP."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING, ERROR or CRITICAL."""

    @property
    def enabled_kinds(self) -> tuple[str, ...]:
        """The kinds of storage that tenants may bring."""
        return ALL_KINDS if self.enabled_providers == "all" else tuple(kind.strip() for kind in self.enabled_providers.split(",") if kind)

    @property
    def overrides(self) -> dict[str, str]:
        """Servers that stand in for others, by host."""
        pairs = (pair.strip().partition("=") for pair in self.endpoint_overrides.split(",") if pair.strip())
        return {host: url for host, _, url in pairs}

    def __post_init__(self) -> None:
        if self.storage_provider not in STORAGE_PROVIDERS:
            raise SettingsError(f"STOWAGE_STORAGE_PROVIDER is {self.storage_provider!r}; use one of: {', '.join(STORAGE_PROVIDERS)}")
        if self.storage_provider == "s3" and not self.s3_bucket:
            raise SettingsError("STOWAGE_S3_BUCKET names the internal bucket and is required when STOWAGE_STORAGE_PROVIDER is s3")
        if self.storage_provider == "azure" and not self.azure_connection_string:
            raise SettingsError("STOWAGE_AZURE_CONNECTION_STRING is required when STOWAGE_STORAGE_PROVIDER is azure")
        unknown = [kind for kind in self.enabled_kinds if kind not in ALL_KINDS]
        if unknown:
            raise SettingsError(f"STOWAGE_ENABLED_PROVIDERS names {unknown[0]!r}; use all, or some of: {', '.join(ALL_KINDS)}")
        if self.public_base_url and not self.public_base_url.startswith(URLS):
            raise SettingsError("STOWAGE_PUBLIC_BASE_URL is an absolute URL, such as https://img.example.com")
        if self.auth_secret and len(self.auth_secret) < MIN_SECRET:
            raise SettingsError(f"STOWAGE_AUTH_SECRET has at least {MIN_SECRET} characters; `openssl rand -base64 32` makes one")
        if not all(host and url.startswith(URLS) for host, url in self.overrides.items()):
            raise SettingsError("STOWAGE_ENDPOINT_OVERRIDES holds pairs such as s3.us-east-1.amazonaws.com=http://127.0.0.1:9000")
        if self.log_level not in LOG_LEVELS:
            raise SettingsError(f"STOWAGE_LOG_LEVEL is {self.log_level!r}; use one of: {', '.join(LOG_LEVELS)}")
        if min(self.transforms_per_minute, self.probes_per_minute, self.imports_per_minute) < 1:
            raise SettingsError("STOWAGE_TRANSFORMS_PER_MINUTE, STOWAGE_PROBES_PER_MINUTE and STOWAGE_IMPORTS_PER_MINUTE are at least 1")
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.max_transform_size > TRANSFORM_LIMIT:
            raise SettingsError(f"STOWAGE_MAX_TRANSFORM_SIZE is at most {TRANSFORM_LIMIT}: the image function holds it beside its pixels")
        if not 0 < self.max_body <= GATEWAY_LIMIT:
            raise SettingsError(f"STOWAGE_MAX_BODY must lie between 1 and {GATEWAY_LIMIT}: API Gateway carries no more")


def read(environment: Mapping[str, str]) -> Settings:
    """Settings from `environment`; raises SettingsError naming the variable at fault."""
    chosen: dict[str, str | int | bool] = {}
    for name, kind in Settings.__annotations__.items():
        variable = f"STOWAGE_{name.upper()}"
        value = environment.get(variable, "").strip()
        if not value:
            continue
        if kind is int and not (value.isascii() and value.isdigit()):
            raise SettingsError(f"{variable} must be a whole number, not {value!r}")
        if kind is bool and value.lower() not in FLAGS:
            raise SettingsError(f"{variable} must be true or false, not {value!r}")
        chosen[name] = int(value) if kind is int else FLAGS[value.lower()] if kind is bool else value
    if "AWS_LAMBDA_FUNCTION_NAME" in environment and int(chosen.get("max_body", 0)) > PAYLOAD_LIMIT:
        raise SettingsError(f"STOWAGE_MAX_BODY must lie between 1 and {PAYLOAD_LIMIT}: Lambda carries no more")
    return Settings(**chosen)  # type: ignore[arg-type]  # each value has just been given its field's type


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process."""
    return read(os.environ)
