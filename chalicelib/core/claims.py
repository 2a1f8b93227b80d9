"""Sections of a delta that somebody has taken: each byte at most once.

Who works through a delta with others claims a section first; what overlaps one that is taken is refused. Claims lie in the delta's
own row, each change conditional on what was read, so of any number that want one byte one gets it.
"""

from typing import Any

from chalicelib import seam
from chalicelib.access.principals import Principal
from chalicelib.core import deltas, names, quotas
from chalicelib.errors import ClaimNotFound, InvalidRequest, SectionClaimed
from chalicelib.tables.deltas import STORED, Delta
from chalicelib.tables.table import ConditionFailed, tries

# A row has 400 KB (AWS limit), and a claim about 200 bytes.
MAX_CLAIMS = 1000
WRITE_TRIES = 20

Claim = dict[str, Any]
"""`claim_id`, `start` and `length` in bytes, `claimed_by` (`auth_uid()`, None: the service key), `created_at`."""


def claim(principal: Principal, delta_uuid: str, start: int, length: int) -> Claim:
    """Take `length` bytes from `start` on; raises DeltaNotFound, NotUploaded, InvalidRequest, SectionClaimed."""
    for _ in tries(quotas.BUSY, WRITE_TRIES):
        _, delta = deltas.find_stored(principal, delta_uuid)
        size = int(delta.size_bytes)
        if start < 0 or length < 1 or start + length > size:
            raise InvalidRequest(f"a section lies within the delta's {size} bytes, and has at least one of them", size_bytes=size)
        taken = next((each for each in delta.claims if each["start"] < start + length and start < each["start"] + each["length"]), None)
        if taken is not None:
            told = {name: taken[name] for name in ("claim_id", "start", "length", "claimed_by")}
            raise SectionClaimed(f"{taken['length']} bytes from {taken['start']} on are claimed already", **told)
        if len(delta.claims) >= MAX_CLAIMS:
            raise InvalidRequest(f"a delta has at most {MAX_CLAIMS} claims; release some, or claim larger sections")
        made = {
            "claim_id": seam.new_uuid(),
            "start": start,
            "length": length,
            "claimed_by": principal.uid,
            "created_at": seam.iso(seam.now()),
        }
        if _replace(delta, sorted([*delta.claims, made], key=lambda each: each["start"])):
            return made
    raise AssertionError("tries() ends by raising")


def all_of(principal: Principal, delta_uuid: str) -> list[Claim]:
    """The claims of a delta, in the order of their sections; raises DeltaNotFound, NotUploaded."""
    _, delta = deltas.find_stored(principal, delta_uuid)
    claims: list[Claim] = delta.claims
    return claims


def release(principal: Principal, delta_uuid: str, claim_id: str) -> None:
    """Give a section back; raises DeltaNotFound, NotUploaded, ClaimNotFound."""
    for _ in tries(quotas.BUSY, WRITE_TRIES):
        _, delta = deltas.find_stored(principal, delta_uuid)
        others = [each for each in delta.claims if each["claim_id"] != claim_id]
        if len(others) == len(delta.claims) or not names.is_uuid(claim_id):
            raise ClaimNotFound(f"there is no claim {claim_id[:64]} of this delta")
        if _replace(delta, others):
            return


def _replace(delta: Delta, claims: list[Claim]) -> bool:
    """Write the claims if nothing has changed; an answer that was lost is told by the row that is met."""
    revision = int(delta.revision) + 1
    row = Delta(delta.key_uuid, delta.delta_uuid)
    try:
        row.change([Delta.claims.set(claims), Delta.revision.set(revision)], (Delta.revision == delta.revision) & (Delta.status == STORED))
    except ConditionFailed as failed:
        return failed.row is not None and failed.row.claims == claims and failed.row.revision == revision
    return True
