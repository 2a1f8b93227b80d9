"""The surfaces that this installation serves: what `app.py` mounts and OpenAPI describes."""

from chalicelib.surfaces.backups.routes import SURFACE as BACKUPS
from chalicelib.surfaces.files.routes import SURFACE as FILES
from chalicelib.surfaces.files.tus_routes import TUS_SURFACE as FILES_TUS
from chalicelib.surfaces.platform.routes import JOBS_SURFACE as JOBS
from chalicelib.surfaces.platform.routes import SURFACE as PLATFORM
from chalicelib.surfaces.routes import Surface
from chalicelib.surfaces.storage.routes import SURFACE as STORAGE
from chalicelib.surfaces.storage.upload_routes import TUS_SURFACE
from chalicelib.surfaces.vault.routes import SURFACE as VAULT

SURFACES: tuple[Surface, ...] = (STORAGE, TUS_SURFACE, VAULT, BACKUPS, FILES, FILES_TUS, JOBS, PLATFORM)
