"""Moving a key to another storage with all its deltas: what the seed leaves to the user's own copying.

The job copies each delta to where it has to lie in the new storage and proves it there by MD5 and size; then it has the key point there,
in one write which holds only if nothing was confirmed or deleted since it has begun to look: else it copies what came, and tries
again. Until that write everything is served from the old storage, and after it from the new one. What the old storage holds stays; in the
internal storage, which nobody else can reach, for a week.

Deltas are looked at one by one from where the checkpoint stands, and one that is proven in place is not copied again: so the job may be
killed at any step. One that fails leaves the key where it was, and what was copied for the next attempt.
"""

import base64
import hashlib
from itertools import islice

from chalicelib import seam
from chalicelib.access.principals import Principal
from chalicelib.core import attempts, jobs, keeping, keys, layout
from chalicelib.core.deltas import CONTENT_TYPE
from chalicelib.core.jobs import JobFailed, Step
from chalicelib.core.layout import Place
from chalicelib.errors import BytesMissing, StorageRemoved, Unavailable, UploadSettled
from chalicelib.providers import Promise
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
    from chalicelib.core import storages

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
        job = jobs.new(JOB, principal, {"key_uuid": key_uuid, "from": source, "to": storage_id, "leaves_internal": leaves_internal})
        changes = {"job_id": job.job_id, "target_id": None if is_back else storage_id}
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
    """Begin a pass, copy some deltas, have the key point to the new storage, or put away what the old one holds."""
    key = VaultKey.read(job.tenant_id, job.task["key_uuid"])
    if key is None or key.status != ACTIVE or key.job_id != job.job_id:
        raise JobFailed("the key was deleted meanwhile")
    point, done = job.checkpoint, int(job.done)
    if point.get("flipped"):
        return _put_away(job, key)
    if "revision" not in point:
        if point.get("passes", 0) >= MAX_PASSES:
            raise JobFailed("the key was changed again and again meanwhile; move it while nobody uses it")
        begun = {"revision": int(key.revision), "began": seam.iso(seam.now()), "after": "", "since": point.get("since", "")}
        return Step(point | begun, done, int(key.deltas))
    ends, after = seam.timestamp() + A_STEP, point["after"]
    batch = list(islice(keys.stored_deltas(key, after), BATCH))
    if not batch:
        return _flip(job, key)
    for delta in batch:
        if delta.confirmed_at >= point["since"]:
            _carry(_source(job, key), layout.place_in(key, job.task["to"]), delta)
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


def _carry(source: Place, target: Place, delta: Delta) -> None:
    """Have a delta lie in `target`, whole; raises JobFailed for one that is not there, or is another."""
    if _is_there(target, delta):
        return
    size = int(delta.size_bytes)
    try:
        body = source.provider.read(source.at(delta.delta_uuid), 0, size)
    except BytesMissing:
        if _is_gone(delta):
            return
        raise JobFailed(f"nothing whole lies at {source.whole(delta.delta_uuid)}; the key stays where it is") from None
    if _md5_of(body) != delta.content_md5:
        raise JobFailed(f"what lies at {source.whole(delta.delta_uuid)} is not the delta that was confirmed; the key stays where it is")
    target.provider.put(target.at(delta.delta_uuid), body, CONTENT_TYPE)
    if not _is_there(target, delta):
        raise Unavailable("the storage does not give back what was stored there")
    if _is_gone(delta):
        target.remove([delta.delta_uuid])


def _is_there(place: Place, delta: Delta) -> bool:
    """Whether what lies in `place` is this delta: of its size, and of its MD5 by what the storage tells, or by reading it."""
    found = place.describer.describe(place.at(delta.delta_uuid))
    if found is None or found.size != delta.size_bytes:
        return False
    if found.md5 is not None and Promise.MD5 in place.presigner.holds:
        return found.md5 == delta.content_md5
    return _md5_of(place.provider.read(place.at(delta.delta_uuid), 0, found.size)) == delta.content_md5


def _md5_of(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _is_gone(delta: Delta) -> bool:
    """Whether a delta was deleted since it was read."""
    now = Delta.read(delta.key_uuid, delta.delta_uuid)
    return now is None or now.status != STORED


def _flip(job: Job, key: VaultKey) -> Step:
    """Have the key point to the new storage, unless something was confirmed or deleted since this pass began: then another one follows."""
    point, target, source = job.checkpoint, job.task["to"], key.storage_id
    after_it = {"storage_id": target, "target_id": None, "moved_from": None, "revision": point["revision"] + 1}
    unchanged = (VaultKey.job_id == job.job_id) & (VaultKey.revision == point["revision"]) & keys.is_active()
    try:
        with Transaction() as transaction:
            transaction.change(VaultKey(key.tenant_id, key.key_uuid), VaultKey.setting(after_it), unchanged)
            if source not in (None, target):
                keeping.refer(transaction, key.tenant_id, str(source), "keys", -1)
    except TransactionFailed as failed:
        met = failed.rows[0].row if failed.rows[0] else None
        if met is None or met.job_id != job.job_id or met.storage_id != target or met.target_id is not None or met.moved_from is not None:
            began = seam.moment(point["began"]).timestamp() - SKEW
            return Step({"since": seam.iso(seam.at(began)), "passes": point.get("passes", 0) + 1}, int(job.done), int(key.deltas))
    return Step({"flipped": True, "after": ""}, int(job.done), int(job.done))


def _put_away(job: Job, key: VaultKey) -> Step:
    """File what the internal storage holds no longer for a key, then end the job."""
    after, done = job.checkpoint["after"], int(job.done)
    batch = list(islice(keys.rows_of(key.key_uuid, after), BATCH)) if job.task["leaves_internal"] else []
    if batch:
        for delta in batch:
            attempts.file_internal(key.key_uuid, delta.delta_uuid, seam.timestamp() + KEPT)
        return Step({"flipped": True, "after": batch[-1].delta_uuid}, done, done)
    _let_go(job, None, ends=True)
    return Step({"flipped": True, "after": after}, done, done, finished=True)


def give_up(job: Job) -> None:
    """Let go of the key, which stays where it is; what was copied stays for the next attempt."""
    key = VaultKey.read(job.tenant_id, job.task["key_uuid"])
    if key is not None and key.job_id == job.job_id and key.status == ACTIVE:
        _let_go(job, key.target_id, ends=False)


def _let_go(job: Job, counted_by: str | None, ends: bool) -> None:
    """Have the key be free for other jobs, and the storage `counted_by` not count it; end the job in the same transaction if it `ends`."""
    key = VaultKey(job.tenant_id, job.task["key_uuid"])
    free = VaultKey.setting({"job_id": None, "target_id": None})
    for _ in tries(f"key {key.key_uuid} is being used; try again shortly"):
        try:
            with Transaction() as transaction:
                transaction.change(key, free, VaultKey.job_id == job.job_id)
                if counted_by is not None:
                    keeping.refer(transaction, key.tenant_id, counted_by, "keys", -1)
                if ends:
                    jobs.finish_with(transaction, job)
            return
        except TransactionFailed as failed:
            if not failed.conflict:
                return  # another has it by now
    raise AssertionError("tries() ends by raising")
