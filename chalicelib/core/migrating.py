"""Moving a key to another storage with all its deltas: what the seed leaves to the user's own copying.

The job copies each delta to where it has to lie in the new storage and proves it there by MD5 and size; then it has the key point there,
in one write which holds only if nothing was confirmed or deleted since it has begun to look: else it copies what came, and tries
again. Until that write everything is served from the old storage, and after it from the new one. What the old storage holds stays; in the
internal storage, which nobody else can reach, for a week, and the key says that it left it until that is filed.

Deltas are looked at one by one from where the checkpoint stands, and one that is proven in place is not copied again: so the job may be
killed at any step. One that fails leaves the key where it was, and what was copied for the next attempt.
"""

import base64
import hashlib
from itertools import islice

from chalicelib import seam
from chalicelib.access.principals import Principal
from chalicelib.core import deltas, jobs, keeping, keys, layout
from chalicelib.core.deltas import CONTENT_TYPE
from chalicelib.core.jobs import JobFailed, Step
from chalicelib.core.layout import Place
from chalicelib.errors import BytesMissing, StorageRemoved, Unavailable, UploadSettled
from chalicelib.tables.deltas import STORED, Delta
from chalicelib.tables.jobs import Job
from chalicelib.tables.keys import ACTIVE, INTERNAL, VaultKey
from chalicelib.tables.table import Transaction, TransactionFailed, tries

JOB = "key.migrate"
BATCH = 25
# Seconds. What is filed as garbage stays for a day more.
A_STEP = 20
SKEW = 60
KEPT = 6 * 24 * 3600
MAX_PASSES = 50


def begin(principal: Principal, key_uuid: str, storage_id: str) -> Job:
    """Start moving a key to a storage of the tenant's; gives the job, also one that is at it already.

    To where a key points already, the job brings what was left behind when it was pointed there by hand. Raises KeyNotFound, KeyBusy,
    StorageNotFound, ProbeFailed, CannotPresign, and UploadSettled when there is nothing to be moved.
    """
    from chalicelib.core import storages  # with all that probes them, which the job does not need

    for _ in tries(f"key {key_uuid} is being used; try again shortly"):
        key = keys.get(principal, key_uuid)
        if key.job_id is not None and (at_it := Job.read(key.job_id)) is not None:
            if at_it.task.get("to") == storage_id:
                return at_it
            keys.require_idle(key)
        is_back = storage_id == key.storage_id
        if is_back and key.moved_from is None:
            raise UploadSettled("the key lies there already, and was not pointed there from elsewhere: there is nothing to move")
        revision = storages.require_usable(principal, storage_id)
        layout.place_in(key, storage_id).require_fit()
        source = key.moved_from if is_back else key.storage_id or INTERNAL
        leaves_internal = INTERNAL in (source, key.moved_from)
        task = {"key_uuid": key_uuid, "from": source, "to": storage_id, "leaves_internal": leaves_internal}
        job = jobs.new(JOB, keys.owner_of(key, principal), task)
        changes = {"job_id": job.job_id, "target_id": storage_id}
        try:
            with Transaction() as transaction:
                transaction.change(VaultKey(key.tenant_id, key_uuid), VaultKey.setting(changes), keys.is_unchanged(key))
                transaction.put(job)
                keeping.refer(transaction, key.tenant_id, storage_id, "keys", 0 if is_back else 1, revision)
        except TransactionFailed:
            continue
        jobs.wake(job.job_id)
        return job
    raise AssertionError("tries() ends by raising")


# ---- the job ---------------------------------------------------------------------------------------------
def step(job: Job) -> Step:
    """Begin a pass, copy some deltas, have the key point to the new storage, or put away what the internal one holds."""
    key = VaultKey.read(job.tenant_id, job.task["key_uuid"])
    if key is None or key.status != ACTIVE or key.job_id != job.job_id:
        raise JobFailed("the key was deleted meanwhile")
    point, done = job.checkpoint, int(job.done)
    if key.target_id is None:
        return _put_away(job, key)
    target = layout.place_in(key, job.task["to"])
    if "revision" not in point:
        if point.get("passes", 0) >= MAX_PASSES:
            raise JobFailed("the key was changed again and again meanwhile; move it while nobody uses it")
        begun = {"revision": int(key.revision), "target": target.revision, "began": seam.iso(seam.now()), "after": ""}
        return Step({"since": "", **point, **begun}, done, int(key.deltas))
    ends, after = seam.timestamp() + A_STEP, point["after"]
    batch = list(islice(keys.stored_deltas(key, after), BATCH))
    if not batch:
        return _flip(job, key)
    for delta in batch:
        if delta.confirmed_at >= point["since"]:
            _carry(job, key, target, delta)
            done += 1
        after = delta.delta_uuid
        if seam.timestamp() > ends:
            break
    return Step(point | {"after": after}, done, max(done, int(key.deltas)))


def _source(job: Job, key: VaultKey) -> Place:
    source = job.task["from"]
    try:
        return layout.place_in(key, None if source == INTERNAL else source)
    except StorageRemoved as error:
        raise JobFailed("the storage that the key was pointed to before was removed") from error


def _carry(job: Job, key: VaultKey, target: Place, delta: Delta) -> None:
    """Have a delta lie in `target`, whole; raises JobFailed for one that is another where it lies, Unavailable for one that is missing."""
    if _is_proven(target, delta):
        return
    source = _source(job, key)
    try:
        body = source.provider.read(source.at(delta.delta_uuid), 0, int(delta.size_bytes))
    except BytesMissing:
        if _is_gone(delta):
            return
        # It may be on its way out: the object goes before the row. Asked for again and again, it is missing.
        raise Unavailable(f"nothing whole lies at {source.whole(delta.delta_uuid)}; the key stays where it is") from None
    if base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() != delta.content_md5:
        raise JobFailed(f"what lies at {source.whole(delta.delta_uuid)} is not the delta that was confirmed; the key stays where it is")
    target.provider.put(target.at(delta.delta_uuid), body, CONTENT_TYPE)
    if not _is_proven(target, delta):
        raise Unavailable("the storage does not give back what was stored there")
    if _is_gone(delta):
        target.remove([delta.delta_uuid])


def _is_proven(target: Place, delta: Delta) -> bool:
    """Whether what lies in the new storage is this delta: of its size, and of its MD5 by what the storage tells, or by reading it."""
    found = target.describer.describe(target.at(delta.delta_uuid))
    if found is None:
        return False
    is_it = target.is_of(found, int(delta.size_bytes), delta.content_md5)
    return target.md5_of(delta.delta_uuid, found.size) == delta.content_md5 if is_it is None else is_it


def _is_gone(delta: Delta) -> bool:
    """Whether a delta was deleted since it was read, or is about to be with its key."""
    key, now = deltas.as_they_stand(delta.tenant_id, delta.key_uuid, delta.delta_uuid)
    return now is None or now.status != STORED or key is None or key.status != ACTIVE


def _flip(job: Job, key: VaultKey) -> Step:
    """Have the key point to the new storage, if nothing was confirmed or deleted since this pass began, and that storage is where it was.

    Else another pass follows: of what came since, or of all.
    """
    point, target, source = job.checkpoint, job.task["to"], key.storage_id
    moved_from = INTERNAL if job.task["leaves_internal"] else None
    after_it = {"storage_id": target, "target_id": None, "moved_from": moved_from, "revision": point["revision"] + 1}
    unchanged = (VaultKey.job_id == job.job_id) & (VaultKey.revision == point["revision"]) & keys.is_active()
    try:
        with Transaction() as transaction:
            transaction.change(VaultKey(key.tenant_id, key.key_uuid), VaultKey.setting(after_it), unchanged)
            keeping.refer(transaction, key.tenant_id, target, "keys", 0, point["target"])
            if source not in (None, target):
                keeping.refer(transaction, key.tenant_id, str(source), "keys", -1)
    except TransactionFailed as failed:
        # The first condition fails as well when an earlier answer was lost: the next step then finds the key where it is to be.
        since = "" if failed.rows[1] else seam.iso(seam.at(seam.moment(point["began"]).timestamp() - SKEW))
        return Step({"since": since, "passes": point.get("passes", 0) + 1}, int(job.done), int(key.deltas))
    return Step({"after": ""}, int(job.done), int(job.done))


def _put_away(job: Job, key: VaultKey) -> Step:
    """File what the internal storage still holds of a key that points elsewhere, then end the job."""
    after, done = job.checkpoint.get("put_away", ""), int(job.done)
    batch = list(islice(keys.rows_of(key.key_uuid, after), BATCH)) if job.task["leaves_internal"] else []
    if batch:
        layout.file_internal(key.key_uuid, [delta.delta_uuid for delta in batch], seam.timestamp() + KEPT)
        return Step({"put_away": batch[-1].delta_uuid}, done, done)
    _let_go(job, ends=True)
    return Step({"put_away": after}, done, done, finished=True)


def give_up(job: Job) -> None:
    """Let go of the key, which stays where it is; what was copied stays for the next attempt."""
    _let_go(job, ends=False)


def _let_go(job: Job, ends: bool) -> None:
    """Have the key be free for other jobs, and a storage that it does not point to not count it; end the job along with it if it `ends`."""
    for _ in tries("the key is being used; try again shortly"):
        key = VaultKey.read(job.tenant_id, job.task["key_uuid"])
        if key is None or key.job_id != job.job_id or key.status != ACTIVE:
            return  # another has it by now, or its end counts it out
        free = {"job_id": None, "target_id": None} | ({"moved_from": None} if ends else {})
        ours = (VaultKey.job_id == job.job_id) & keys.goes_to(key.target_id)
        try:
            with Transaction() as transaction:
                transaction.change(VaultKey(key.tenant_id, key.key_uuid), VaultKey.setting(free), ours)
                if key.target_id not in (None, key.storage_id):
                    keeping.refer(transaction, key.tenant_id, str(key.target_id), "keys", -1)
                if ends:
                    jobs.finish_with(transaction, job)
            return
        except TransactionFailed:
            continue  # what has changed is met by looking anew
    raise AssertionError("tries() ends by raising")
