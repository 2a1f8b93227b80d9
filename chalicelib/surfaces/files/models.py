"""What the files surface takes (Pydantic models) and gives (TypedDicts); OpenAPI is made from both."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from chalicelib.core import content, file_tokens, names
from chalicelib.core.folders import SEPARATOR
from chalicelib.outbound import MAX_URL_CHARACTERS
from chalicelib.tables.objects import ROOT

Acl = Literal["public", "private"]
Key = Annotated[str, Field(min_length=1, max_length=names.MAX_NAME_BYTES)]
FolderId = Annotated[str, Field(min_length=1, max_length=64)]
FolderName = Annotated[
    str, Field(min_length=1, max_length=names.MAX_NAME_BYTES, description=f"Unique among its parent's children; may hold `{SEPARATOR}`.")
]


# What is null in a change where null means something: it goes.
_NULLABLE = {"folderId": "folder_id", "parentId": "parent_id", "metadata": "metadata"}


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", defer_build=True)

    def changes(self) -> dict[str, Any]:
        """What was given, as the core names it."""
        given = self.model_dump(exclude_unset=True).items()
        return {_NULLABLE.get(name, name): value for name, value in given if value is not None or name in _NULLABLE}


class ChangeFile(_Body):
    """What is to change of a file; what is not given stays."""

    acl: Acl | None = Field(None, description="null: as it is.")
    folderId: FolderId | None = Field(None, description=f"null or `{ROOT}`: in none.")
    metadata: dict[str, JsonValue] | None = Field(
        None, description=f"Merged: a key that is null goes; null wipes it all. At most {content.MAX_METADATA_BYTES} bytes of JSON in all."
    )


class SignFile(_Body):
    """For how long a URL is to open a file."""

    ttlSeconds: int = Field(file_tokens.DEFAULT_LIFETIME, ge=file_tokens.MIN_LIFETIME, le=file_tokens.MAX_LIFETIME, description="Seconds.")


class ImportFile(_Body):
    """A URL whose bytes are to be stored as a file."""

    url: Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)]
    key: Key | None = Field(None, description="Default: the last part of the URL's path.")
    contentType: Annotated[str, Field(max_length=content.MAX_TYPE_CHARACTERS)] | None = Field(
        None, description="Default: what the URL's server says."
    )
    folderId: FolderId | None = Field(None, description=f"`{ROOT}`: in none. Default: the folder that the key names.")
    acl: Acl | None = None
    upsert: bool = Field(True, description="false: an existing file is kept, and the answer is 409.")


class CreateFolder(_Body):
    """A new folder."""

    name: FolderName
    parentId: FolderId | None = Field(None, description="null: at the top.")


class ChangeFolder(_Body):
    """What is to change of a folder; what is not given stays."""

    name: FolderName | None = Field(None, description="null: as it is.")
    parentId: FolderId | None = Field(None, description="null: to the top.")


class File(TypedDict):
    """A file. `sourceUrl` of one that was just fetched from there."""

    id: str
    key: str
    size: int
    contentType: str
    checksum: str | None
    version: str
    acl: Acl
    folderId: str | None
    ownerId: str | None
    metadata: dict[str, Any] | None
    uploadedAt: str
    updatedAt: str
    sourceUrl: NotRequired[str]


class StoredFile(TypedDict):
    """A file."""

    data: File


class ChangedFile(TypedDict):
    """A file as it is now."""

    ok: Literal[True]
    data: File


class ListMeta(TypedDict):
    """`total` is null where no counter knows it; `nextCursor` null on the last page."""

    total: int | None
    limit: int
    offset: int
    nextCursor: str | None


class FileList(TypedDict):
    """A page of files, newest first."""

    data: list[File]
    meta: ListMeta


class FolderCounts(TypedDict):
    """Files by folder, in none (`root`) and in all; not `complete` where they were too many to be counted."""

    root: int
    byFolderId: dict[str, int]
    total: int
    complete: bool


class SignedFile(TypedDict):
    """A URL that opens a file: absolute, and as a path of this API."""

    url: str
    path: str
    expiresAt: str


class ImportStarted(TypedDict):
    """The job that fetches a file, and where it tells how far it is."""

    jobId: str
    url: str


class FileOk(TypedDict):
    """It is done."""

    ok: Literal[True]


class Folder(TypedDict):
    """A folder; `parentId` null: at the top."""

    id: str
    name: str
    parentId: str | None
    ownerId: str | None
    createdAt: str
    updatedAt: str


class OneFolder(TypedDict):
    """A folder."""

    data: Folder


class ChangedFolder(TypedDict):
    """A folder as it is now."""

    ok: Literal[True]
    data: Folder


class FolderListMeta(TypedDict):
    """`nextCursor` null: these are all."""

    nextCursor: str | None


class FolderList(TypedDict):
    """Folders, 2,000 a page, each page by name."""

    data: list[Folder]
    meta: FolderListMeta


class FileUpload(TypedDict):
    """An upload of a file: `offset` of `size` bytes are there."""

    id: str
    key: str
    size: int | None
    offset: int
    status: Literal["uploading", "completed", "expired", "aborted"]
    contentType: str
    folderId: str | None
    createdAt: str
    expiresAt: str


class FileUploads(TypedDict):
    """Uploads, newest first."""

    uploads: list[FileUpload]
