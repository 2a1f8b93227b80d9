"""Sections of deltas: each byte is taken by one at most (CONTRACT "Vault surface", FEATURES F3.13)."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chalicelib.core import claims
from chalicelib.tables.deltas import Delta
from tests.client import Answer, Client, together
from tests.conftest import Call, Clock, Tenant
from tests.vault.conftest import ADA, BOB, BODY, UNKNOWN, Begun, Vault, clean_up, delta_row, put, rows_of, told

SIZE = 100
SHOWN = {"claim_id", "delta_uuid", "start", "length", "user_uuid", "created_at"}
Section = tuple[int, int]


@pytest.fixture
def delta(internal: Vault) -> Begun:
    """A delta of a hundred bytes."""
    return internal.upload(internal.key(), bytes(SIZE))


def claim(client: Client, delta: Begun, start: Any, length: Any) -> Answer:
    return client("POST", "/deltas/claim", {"delta_uuid": delta["delta_uuid"], "start": start, "length": length})


def claimed(client: Client, delta: Begun, start: int, length: int) -> dict[str, Any]:
    answer = claim(client, delta, start, length)
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json()
    return made


def release(client: Client, delta: Begun, claim_id: str) -> Answer:
    return client("DELETE", "/deltas/claim", {"delta_uuid": delta["delta_uuid"], "claim_id": claim_id})


def claims_of(client: Client, delta: Begun) -> list[dict[str, Any]]:
    answer = client("GET", f"/deltas/claims?delta_uuid={delta['delta_uuid']}")
    assert answer.status == 200, answer.body
    rows: list[dict[str, Any]] = answer.json()
    return rows


def sections(client: Client, delta: Begun) -> list[Section]:
    return [(row["start"], row["length"]) for row in claims_of(client, delta)]


# ---- claiming --------------------------------------------------------------------------------------------------
def test_a_section_is_claimed_and_told_by_specific_names(vault: Vault) -> None:
    delta = vault.upload(vault.key())
    answer = claim(vault.client, delta, 3, 5)
    made = answer.json()
    assert (answer.status, made.keys()) == (201, SHOWN)
    assert (made["delta_uuid"], made["start"], made["length"], made["user_uuid"]) == (delta["delta_uuid"], 3, 5, None)
    assert claims_of(vault.client, delta) == [made]
    assert vault.bytes_of(delta) == BODY


def test_a_claim_shows_whose_it_is(internal: Vault, tenant: Tenant) -> None:
    ada = tenant.user(sub=ADA)
    mine = internal.using(ada)
    delta = mine.upload(mine.key())
    made = [claimed(ada, delta, 0, 1), claimed(tenant.service, delta, 1, 1)]
    assert [each["user_uuid"] for each in made] == [ADA, None]
    assert claims_of(ada, delta) == claims_of(tenant.service, delta) == made
    assert told(claim(ada, delta, 0, 2)) == told(claim(tenant.service, delta, 0, 2)) == (409, "SectionClaimed")


@pytest.mark.parametrize(
    ("start", "length"),
    [(40, 20), (45, 5), (40, 5), (55, 5), (39, 22), (40, 21), (39, 21), (0, 100), (0, 41), (59, 41), (30, 11), (59, 1), (40, 1), (50, 30)],
)  # fmt: skip
def test_a_section_that_shares_a_byte_with_a_claimed_one_is_409_naming_it(delta: Begun, tenant: Tenant, start: int, length: int) -> None:
    taken = claimed(tenant.service, delta, 40, 20)
    before = rows_of(tenant)
    refused = claim(tenant.service, delta, start, length)
    assert told(refused) == (409, "SectionClaimed")
    assert refused.json()["details"] == {"claim_id": taken["claim_id"], "start": 40, "length": 20, "claimed_by": None}
    assert rows_of(tenant) == before


@pytest.mark.parametrize("sections_", [[(0, 40), (60, 40)], [(39, 1), (60, 1)], [(0, 1), (99, 1)]])
def test_sections_beside_a_claimed_one_are_free(delta: Begun, tenant: Tenant, sections_: list[Section]) -> None:
    claimed(tenant.service, delta, 40, 20)
    for start, length in sections_:
        claimed(tenant.service, delta, start, length)
    assert sections(tenant.service, delta) == sorted([*sections_, (40, 20)])


def test_a_whole_delta_and_each_of_its_bytes_can_be_claimed(internal: Vault) -> None:
    key_uuid = internal.key()
    one, two = internal.upload(key_uuid, b"x"), internal.upload(key_uuid, bytes(8))
    claimed(internal.client, one, 0, 1)
    for byte in (5, 0, 7, 1, 6, 2, 4, 3):
        claimed(internal.client, two, byte, 1)
    assert sections(internal.client, two) == [(byte, 1) for byte in range(8)]
    assert told(claim(internal.client, two, 0, 8)) == (409, "SectionClaimed")


@pytest.mark.parametrize(
    ("start", "length"),
    [
        (SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (1, SIZE), (SIZE + 1, 1), (10_485_760, 1), (0, 10_485_760), (0, 10_485_761),
        (10_485_761, 1),        (0, 0), (5, 0), (SIZE, 0), (-1, 1), (-1, 2), (-SIZE, SIZE), (0, -1), (5, -5), (1 << 63, 1),
        (0, 1 << 63), (1 << 64, 1 << 64),
        (10**40, 1), (0, 10**40), (-(10**40), 10**40), (0.0, 1), (0, 1.5), ("0", 1), (0, "1"), (None, 1), (0, None), (True, 1), (0, True),
        ([0], 1), (0, {}),
    ],
)  # fmt: skip
def test_a_section_that_is_not_within_the_delta_is_400_and_nothing_is_claimed(
    delta: Begun, tenant: Tenant, start: Any, length: Any
) -> None:
    before = rows_of(tenant)
    assert told(claim(tenant.service, delta, start, length)) == (400, "InvalidRequest")
    assert rows_of(tenant) == before
    claimed(tenant.service, delta, 0, SIZE)


def test_a_delta_of_the_largest_size_is_claimed_to_its_last_byte(own: Vault) -> None:
    delta = own.upload(own.key(), bytes(10 << 20))
    claimed(own.client, delta, (10 << 20) - 1, 1)
    claimed(own.client, delta, 0, (10 << 20) - 1)
    assert told(claim(own.client, delta, 0, 10 << 20)) == (409, "SectionClaimed")


# ---- of which deltas -------------------------------------------------------------------------------------------
def each_route(client: Client, delta_uuid: str) -> list[Answer]:
    named = {"delta_uuid": delta_uuid}
    return [
        client("POST", "/deltas/claim", {**named, "start": 0, "length": 1}),
        client("GET", f"/deltas/claims?delta_uuid={delta_uuid}"),
        client("DELETE", "/deltas/claim", {**named, "claim_id": UNKNOWN}),
    ]


def test_what_is_not_stored_has_no_sections(vault: Vault, tenant: Tenant) -> None:
    begun = vault.begin(vault.key())
    before = rows_of(tenant)
    for _ in range(2):
        assert [told(answer) for answer in each_route(vault.client, begun["delta_uuid"])] == [(409, "NotUploaded")] * 3
        put(begun)  # which nobody has confirmed
    assert rows_of(tenant) == before
    vault.confirm(begun)
    claimed(vault.client, begun, 0, 1)


def test_what_was_given_up_has_no_sections(internal: Vault, clock: Clock) -> None:
    begun = internal.begin(internal.key())
    clock.advance(2 * 3600)
    clean_up()
    assert [told(answer) for answer in each_route(internal.client, begun["delta_uuid"])] == [(409, "NotUploaded")] * 3


def test_a_delta_that_is_not_there_has_no_sections(internal: Vault) -> None:
    assert [told(answer) for answer in each_route(internal.client, UNKNOWN)] == [(404, "DeltaNotFound")] * 3


def test_claims_go_with_their_delta(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    delta, other = vault.upload(key_uuid), vault.upload(key_uuid)
    claimed(vault.client, delta, 0, 5)
    kept = claimed(vault.client, other, 0, 5)
    assert vault.delete(delta).status == 200
    assert [told(answer) for answer in each_route(vault.client, delta["delta_uuid"])] == [(404, "DeltaNotFound")] * 3
    left = delta_row(delta)
    assert left is None or left.claims == []
    assert claims_of(vault.client, other) == [kept]
    assert vault.client("DELETE", "/keys/delete", {"key_uuid": key_uuid}).status == 200
    assert [told(answer) for answer in each_route(vault.client, other["delta_uuid"])] == [(404, "DeltaNotFound")] * 3


def test_claims_do_not_keep_a_delta_from_being_downloaded_confirmed_again_or_its_key_renamed(vault: Vault) -> None:
    key_uuid = vault.key()
    delta = vault.upload(key_uuid)
    made = claimed(vault.client, delta, 0, len(BODY))
    assert vault.bytes_of(delta) == BODY
    assert vault.confirm(delta).status == 200
    assert vault.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "name": "desk"}).status == 200
    assert claims_of(vault.client, delta) == [made]


# ---- listing and releasing -------------------------------------------------------------------------------------
def test_claims_are_listed_in_the_order_of_their_sections(delta: Begun, tenant: Tenant) -> None:
    assert claims_of(tenant.service, delta) == []
    made = [claimed(tenant.service, delta, start, 3) for start in (50, 0, 97, 20, 10)]
    assert claims_of(tenant.service, delta) == sorted(made, key=lambda each: each["start"])


@pytest.mark.parametrize("named", ["body", "query", "both", "one each"])
def test_a_section_is_given_back_and_can_be_claimed_again(delta: Begun, tenant: Tenant, named: str) -> None:
    made, other = claimed(tenant.service, delta, 0, 10), claimed(tenant.service, delta, 10, 10)
    ids = {"delta_uuid": delta["delta_uuid"], "claim_id": made["claim_id"]}
    query = {"body": "", "query": "?{}&{}", "both": "?{}&{}", "one each": "?{}"}[named]
    path = "/deltas/claim" + query.format(f"claim_id={ids['claim_id'].upper()}", f"delta_uuid={ids['delta_uuid'].upper()}")
    body = None if named == "query" else ids if named != "one each" else {"delta_uuid": ids["delta_uuid"]}
    answer = tenant.service("DELETE", path, body)
    assert (answer.status, answer.json()) == (200, {})
    assert claims_of(tenant.service, delta) == [other]
    again = claimed(tenant.service, delta, 5, 5)
    assert again["claim_id"] != made["claim_id"]
    assert told(claim(tenant.service, delta, 9, 1)) == (409, "SectionClaimed")


def test_a_claim_that_is_not_there_is_404(internal: Vault, delta: Begun, tenant: Tenant) -> None:
    other = internal.upload(delta["key_uuid"])
    gone, elsewhere = claimed(tenant.service, delta, 0, 1), claimed(tenant.service, other, 0, 1)
    assert release(tenant.service, delta, gone["claim_id"]).status == 200
    kept = claimed(tenant.service, delta, 0, 1)
    before = rows_of(tenant)
    for claim_id in (UNKNOWN, gone["claim_id"], elsewhere["claim_id"], delta["delta_uuid"]):
        assert told(release(tenant.service, delta, claim_id)) == (404, "ClaimNotFound")
    assert rows_of(tenant) == before
    assert claims_of(tenant.service, delta) == [kept]


def test_a_release_that_does_not_say_which_claim_is_400(delta: Begun, tenant: Tenant) -> None:
    made = claimed(tenant.service, delta, 0, 1)
    ids = {"delta_uuid": delta["delta_uuid"], "claim_id": made["claim_id"]}
    for path, body in (
        ("", None),
        ("", {}),
        ("", {"claim_id": made["claim_id"]}),
        ("", {"delta_uuid": delta["delta_uuid"]}),
        (f"?claim_id={UNKNOWN}", ids),
        (f"?delta_uuid={UNKNOWN}", ids),
        ("", ids | {"claim_id": made["claim_id"].replace("-", "")}),
    ):
        assert told(tenant.service("DELETE", f"/deltas/claim{path}", body)) == (400, "InvalidRequest"), (path, body)
    assert claims_of(tenant.service, delta) == [made]


def test_whoever_may_see_a_delta_may_give_its_sections_back(internal: Vault, tenant: Tenant) -> None:
    ada = tenant.user(sub=ADA)
    mine = internal.using(ada)
    delta = mine.upload(mine.key())
    by_ada, by_service = claimed(ada, delta, 0, 1), claimed(tenant.service, delta, 1, 1)
    assert told(release(tenant.user(sub=BOB), delta, by_ada["claim_id"])) == (404, "DeltaNotFound")
    assert release(ada, delta, by_service["claim_id"]).status == 200
    assert release(tenant.service, delta, by_ada["claim_id"]).status == 200
    assert claims_of(ada, delta) == []


# ---- how many --------------------------------------------------------------------------------------------------
def test_a_delta_has_so_many_claims_and_no_more(delta: Begun, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MAX_CLAIMS", 3)
    made = [claimed(tenant.service, delta, start, 1) for start in range(3)]
    before = rows_of(tenant)
    refused = claim(tenant.service, delta, 50, 1)
    assert told(refused) == (400, "InvalidRequest")
    assert "3 claims" in refused.json()["message"]
    assert told(claim(tenant.service, delta, 0, 1)) == (409, "SectionClaimed")
    assert rows_of(tenant) == before
    release(tenant.service, delta, made[1]["claim_id"])
    claimed(tenant.service, delta, 50, 1)


def test_a_thousand_claims_of_users_have_room_in_a_row(internal: Vault, tenant: Tenant) -> None:
    ada = tenant.user(sub=ADA)
    mine = internal.using(ada)
    delta = mine.upload(mine.key(), bytes(10 << 20))
    first = claimed(ada, delta, (10 << 20) - 1000, 1)
    row = delta_row(delta)
    assert row is not None
    like_it = {name: row.claims[0][name] for name in ("claim_id", "length", "claimed_by", "created_at")}
    others = [like_it | {"claim_id": UNKNOWN, "start": (10 << 20) - 999 + number} for number in range(998)]
    row.change([Delta.claims.set([*row.claims, *others]), Delta.revision.add(1)], Delta.revision == row.revision)
    claimed(ada, delta, (10 << 20) - 1, 1)
    assert told(claim(ada, delta, 0, 1)) == (400, "InvalidRequest")
    assert len(claims_of(ada, delta)) == claims.MAX_CLAIMS == 1000
    assert release(ada, delta, first["claim_id"]).status == 200
    claimed(ada, delta, 0, 1)


# ---- F3.13 -----------------------------------------------------------------------------------------------------
def test_f3_13_no_claim_asks_the_storage_for_anything(vault: Vault, calls: list[Call]) -> None:
    delta = vault.upload(vault.key())
    assert "s3" in {call.service for call in calls}  # so that none below means something
    calls.clear()
    made = claimed(vault.client, delta, 0, 5)
    assert told(claim(vault.client, delta, 0, 5)) == (409, "SectionClaimed")
    assert claims_of(vault.client, delta) == [made]
    assert release(vault.client, delta, made["claim_id"]).status == 200
    assert {call.service for call in calls} == {"dynamodb"}


# ---- however many, in whatever order ---------------------------------------------------------------------------
def bytes_of(made: list[dict[str, Any]]) -> list[int]:
    return [byte for each in made for byte in range(each["start"], each["start"] + each["length"])]


def claiming(client: Client, delta: Begun, start: int, length: int) -> Callable[[], Answer]:
    return lambda: claim(client, delta, start, length)


@pytest.mark.parametrize("sections_", [
    [(0, SIZE)] * 32,
    [(number % 8, 4) for number in range(32)],
    [(number * 3 % 60, 1 + number * 7 % 40) for number in range(32)],
    [(number, 2) for number in range(32)],
], ids=["all of it", "eight places", "anywhere", "neighbours"])  # fmt: skip
def test_however_many_claim_at_once_a_byte_is_never_claimed_twice(delta: Begun, tenant: Tenant, sections_: list[Section]) -> None:
    answers = together([claiming(tenant.service, delta, *section) for section in sections_])
    assert {answer.status for answer in answers} <= {201, 409}
    made = [answer.json() for answer in answers if answer.status == 201]
    taken = bytes_of(made)
    assert len(taken) == len(set(taken)) > 0
    assert claims_of(tenant.service, delta) == sorted(made, key=lambda each: each["start"])
    by_id = {each["claim_id"]: each for each in made}
    for answer, (start, length) in zip(answers, sections_, strict=True):
        if answer.status == 409:
            other = by_id[answer.json()["details"]["claim_id"]]
            assert other["start"] < start + length
            assert start < other["start"] + other["length"]


def test_however_many_claim_what_nobody_else_wants_each_gets_it(delta: Begun, tenant: Tenant) -> None:
    answers = together([claiming(tenant.service, delta, 3 * number, 3) for number in range(16)])
    assert [answer.status for answer in answers] == [201] * 16
    assert sections(tenant.service, delta) == [(3 * number, 3) for number in range(16)]


def test_however_many_give_one_section_back_at_once_it_is_free_and_no_other(delta: Begun, tenant: Tenant) -> None:
    made, kept = claimed(tenant.service, delta, 0, 10), claimed(tenant.service, delta, 10, 10)
    answers = together([lambda: release(tenant.service, delta, made["claim_id"])] * 8)
    found = {answer.status for answer in answers}
    assert found <= {200, 404}  # who asks for the same at the same moment may be told that it is done
    assert 200 in found
    assert claims_of(tenant.service, delta) == [kept]
    assert told(release(tenant.service, delta, made["claim_id"])) == (404, "ClaimNotFound")


def test_a_delta_that_is_deleted_while_it_is_claimed_is_gone(internal: Vault, delta: Begun, tenant: Tenant) -> None:
    answers = together([lambda: internal.delete(delta), *[claiming(tenant.service, delta, 10 * number, 10) for number in range(7)]])
    assert answers[0].status == 200
    assert {told(answer) if answer.status != 201 else (201, "") for answer in answers[1:]} <= {(201, ""), (404, "DeltaNotFound")}
    assert told(tenant.service("GET", f"/deltas/claims?delta_uuid={delta['delta_uuid']}")) == (404, "DeltaNotFound")
    assert internal.shown(delta["key_uuid"])["delta_count"] == 0
    assert internal.lies_there(delta["key_uuid"]) == []


CLAIMED = st.tuples(st.just("claim"), st.integers(-2, SIZE + 2), st.integers(-1, SIZE + 1))
NARROW = st.tuples(st.just("claim"), st.integers(0, SIZE - 1), st.integers(1, 12))
RELEASED = st.tuples(st.just("release"), st.integers(0, 40), st.just(0))


@given(acts=st.lists(NARROW | CLAIMED | RELEASED, max_size=30))
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_sequence_of_claims_and_releases_does_what_one_byte_after_another_would(
    internal: Vault, delta: Begun, tenant: Tenant, acts: list[tuple[str, int, int]]
) -> None:
    client, owners = tenant.service, dict.fromkeys(range(SIZE), "")
    ever: list[str] = [UNKNOWN]
    for act, number, length in acts:
        if act == "release":
            claim_id = ever[number % len(ever)]
            is_there = claim_id in owners.values()
            assert release(client, delta, claim_id).status == (200 if is_there else 404)
            owners = {byte: "" if owner == claim_id else owner for byte, owner in owners.items()}
            continue
        wanted = range(number, number + length)
        answer = claim(client, delta, number, length)
        if length < 1 or not all(byte in owners for byte in wanted):
            assert told(answer) == (400, "InvalidRequest")
        elif any(owners[byte] for byte in wanted):
            assert told(answer) == (409, "SectionClaimed")
            assert answer.json()["details"]["claim_id"] in {owners[byte] for byte in wanted}
        else:
            assert answer.status == 201
            ever.append(answer.json()["claim_id"])
            owners |= dict.fromkeys(wanted, ever[-1])
    shown = claims_of(client, delta)
    assert {byte: each["claim_id"] for each in shown for byte in bytes_of([each])} == {byte: each for byte, each in owners.items() if each}
    assert len(bytes_of(shown)) == len(set(bytes_of(shown)))
    for each in shown:
        assert release(client, delta, each["claim_id"]).status == 200
    assert claims_of(client, delta) == []
