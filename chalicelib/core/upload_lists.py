"""Uploads of files, newest first: one's own, or for the service key all of the tenant's, for a week after they ended."""

from chalicelib.access.permissions import require_user
from chalicelib.access.principals import Principal
from chalicelib.core import names, sessions
from chalicelib.errors import InvalidRequest, UploadNotFound
from chalicelib.tables.buckets import FILES
from chalicelib.tables.table import BATCH_READ_LIMIT, read_together
from chalicelib.tables.uploads import UploadSession

MAX_LIMIT = 200
DEFAULT_LIMIT = 100
# Uploads that are looked at for those of one status.
MAX_READ = 500


def newest(principal: Principal, status: str | None = None, limit: int = DEFAULT_LIMIT) -> list[UploadSession]:
    """At most `limit` uploads, of a `status` if one is given, among the newest 500; raises InvalidRequest, Forbidden, Unauthorized.

    Not for keys that many people have: what one has begun would be the other's.
    """
    require_user(principal, "listing uploads")
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit lies between 1 and {MAX_LIMIT}")
    found: list[UploadSession] = []
    read = 0
    for page in UploadSession.pages(**_query(principal), ScanIndexForward=False, Limit=BATCH_READ_LIMIT):
        ids = [item["upload_id"]["S"] for item in page]
        rows = read_together(*((UploadSession, upload_id, UploadSession.SESSION) for upload_id in ids))
        found += [row for row in rows if row is not None and status in (None, status_of(row))]
        read += len(ids)
        if len(found) >= limit or read >= MAX_READ:
            break
    return found[:limit]


def find(principal: Principal, upload_id: str) -> UploadSession:
    """An upload of a file, for who began it or the service key; raises UploadNotFound, UploadExpired, Unauthorized."""
    stored = sessions.stored(upload_id) if names.is_version(upload_id) else None
    session = sessions.visible(principal, upload_id, stored, is_history=True)
    if session.bucket != FILES:
        raise UploadNotFound(f"there is no upload {upload_id}")
    return session


def status_of(session: UploadSession) -> str:
    """The same whether or not the cleanup has been there."""
    return sessions.EXPIRED if session.status == sessions.OPEN and sessions.has_expired(session) else str(session.status)


def _query(principal: Principal) -> dict[str, object]:
    index, attribute, value = "newest", "files_key", principal.tenant_id
    if not principal.is_service:
        index, attribute, value = "newest-of-creator", "files_of_creator_key", sessions.creators_key(principal)
    return {
        "IndexName": index,
        "KeyConditionExpression": "#k = :k",
        "ExpressionAttributeNames": {"#k": attribute},
        "ExpressionAttributeValues": {":k": {"S": value}},
    }
