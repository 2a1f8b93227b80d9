"""Many at once, events that repeat, and processes that die: one delta, one count, and nothing that was acknowledged is lost."""

import random
from collections.abc import Callable

import pytest

from chalicelib.tables.deltas import STORED
from chalicelib.tables.table import Transaction
from tests.client import Answer, together
from tests.conftest import Call, Clock, Tenant
from tests.vault.conftest import (
    BODY,
    HOUR,
    Begun,
    Vault,
    clean_up,
    counters,
    deliver,
    delta_row,
    physical_key,
    put,
    told,
)

ONE = (1, 1, len(BODY), 1, 1)


class Death(BaseException):
    """The process is gone; nothing catches it."""


# ---- at once -------------------------------------------------------------------------------------------------
def test_32_confirms_events_and_replays_of_one_attempt_are_one_delta_and_one_count(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    assert put(begun) == 200

    def event() -> Answer:
        deliver(physical_key(begun))
        return Answer(200, {}, b"{}")

    acts: list[Callable[[], Answer]] = [lambda: internal.confirm(begun)] * 20 + [event] * 12
    random.Random(7).shuffle(acts)
    answers = together(acts)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers if answer.body != b"{}"}) == 1
    assert counters(tenant, key_uuid) == ONE
    assert [row["status"] for row in internal.listed(key_uuid)] == ["stored"]
    deliver(physical_key(begun))
    assert internal.confirm(begun).status == 200
    assert counters(tenant, key_uuid) == ONE


def test_32_confirms_on_a_storage_of_one_s_own_are_one_delta_and_one_count(byos: Vault, tenant: Tenant) -> None:
    key_uuid = byos.key()
    begun = byos.begin(key_uuid)
    assert put(begun) == 200
    answers = together([lambda: byos.confirm(begun)] * 32)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert counters(tenant, key_uuid)[:3] == ONE[:3]


def test_32_deltas_confirmed_at_once_are_32(own: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    begun = [own.begin(key_uuid) for _ in range(32)]
    assert {put(each) for each in begun} == {200}
    answers = together([lambda each=each: own.confirm(each) for each in begun])  # type: ignore[misc]
    assert {answer.status for answer in answers} == {200}
    assert counters(tenant, key_uuid)[:3] == (32, 32, 32 * len(BODY))


def test_of_puts_at_once_one_is_stored(vault: Vault) -> None:
    """The strict server's condition is not atomic: more than one may pass there, with the same bytes."""
    begun = vault.begin(vault.key())
    statuses = [answer.status for answer in together([lambda: Answer(put(begun), {}, b"")] * 8)]
    assert set(statuses) <= {200, 412}
    assert statuses.count(200) == 1 or (statuses.count(200) > 1 and vault.endpoint_is_strict)
    assert vault.confirm(begun).status == 200
    assert vault.bytes_of(begun) == BODY


def test_two_attempts_of_one_delta_race_and_one_is_stored(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    first = vault.begin(key_uuid, b"first")
    second = vault.begin(key_uuid, b"second", delta_uuid=first["delta_uuid"])
    assert first["delta_uuid"] == second["delta_uuid"]
    assert put(first, b"first") == 200
    assert put(second, b"second") == 412
    answers = together([lambda: vault.confirm(first), lambda: vault.confirm(second)] * 8)
    assert [answer.status for answer in answers] == [200, 409] * 8
    assert {answer.code for answer in answers[1::2]} == {"AttemptMismatch"}
    assert vault.bytes_of(first) == b"first"
    assert counters(tenant, key_uuid)[:3] == (1, 1, 5)


def test_of_more_than_ten_attempts_none_whose_url_works_is_forgotten(own: Vault, clock: Clock) -> None:
    key_uuid = own.key()
    first = own.begin(key_uuid)
    for _ in range(9):
        own.begin(key_uuid, delta_uuid=first["delta_uuid"])
    answer = own.ask(key_uuid, delta_uuid=first["delta_uuid"])
    assert told(answer) == (429, "Throttled")
    assert 0 < int(answer.headers["retry-after"]) <= HOUR
    assert put(first) == 200
    clock.advance(HOUR + 1)
    last = own.begin(key_uuid, delta_uuid=first["delta_uuid"])
    row = delta_row(last)
    assert row is not None
    assert len(row.attempts) == 10
    assert told(own.confirm(last)) == (409, "AttemptMismatch")
    own.owner.delete([own.at(first)])
    assert put(last) == 200
    assert own.confirm(last).status == 200


def test_confirm_and_delete_at_once_leave_the_delta_or_nothing(own: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    for _ in range(10):
        begun = own.begin(key_uuid)
        assert put(begun) == 200
        confirmed, deleted = together([lambda begun=begun: own.confirm(begun), lambda begun=begun: own.delete(begun)])  # type: ignore[misc]
        assert deleted.status == 200
        assert confirmed.status in (200, 404, 409)
        assert own.confirm(begun).status == 404
        assert counters(tenant, key_uuid)[:3] == (0, 0, 0)


def test_a_delta_is_counted_out_once_however_many_delete_it(vault: Vault, tenant: Tenant) -> None:
    key_uuid = vault.key()
    stays, goes = vault.upload(key_uuid), vault.upload(key_uuid)
    answers = together([lambda: vault.delete(goes)] * 16)
    assert {answer.status for answer in answers} <= {200, 404}
    assert counters(tenant, key_uuid)[:3] == ONE[:3]
    assert vault.bytes_of(stays) == BODY


def test_a_key_that_is_deleted_by_many_is_gone_and_counted_out_once(own: Vault, tenant: Tenant) -> None:
    key_uuid = own.key()
    own.upload(key_uuid)
    answers = together([lambda: own.client("POST", "/keys/delete", {"key_uuid": key_uuid})] * 8)
    assert {answer.status for answer in answers} <= {200, 202, 404}
    assert own.client("GET", f"/deltas/list?key_uuid={key_uuid}").status == 404
    (storage,) = own.client("GET", "/storages/list").json()
    assert storage["key_count"] == 0


def test_an_upload_into_a_key_that_is_deleted_at_that_moment_leaves_nothing_counted(own: Vault, tenant: Tenant) -> None:
    for _ in range(6):
        key_uuid = own.key()
        acts = [lambda key_uuid=key_uuid: own.ask(key_uuid)] * 4  # type: ignore[misc]
        answers = together([*acts, lambda key_uuid=key_uuid: own.client("POST", "/keys/delete", {"key_uuid": key_uuid})])  # type: ignore[misc]
        assert {answer.status for answer in answers[:4]} <= {201, 404}
        begun = [answer.json() for answer in answers[:4] if answer.status == 201]
        assert all(own.confirm(each).status == 404 for each in begun)


# ---- dying ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [0, 1])
def test_a_begin_that_dies_leaves_at_most_a_reservation_which_is_given_back(
    internal: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, clock: Clock, number: int
) -> None:
    key_uuid = internal.key()
    with monkeypatch.context() as context:
        context.setattr(Transaction, "_commit", _dying(number))
        with pytest.raises(Death):
            internal.ask(key_uuid)
    assert counters(tenant, key_uuid) == (number, 0, 0, number, number)
    clock.advance(2 * HOUR)
    clean_up()
    assert counters(tenant, key_uuid) == (0, 0, 0, number, number)


@pytest.mark.parametrize("number", [0, 1])
def test_a_confirm_that_dies_is_repeated_and_counts_once(
    vault: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    key_uuid = vault.key()
    begun = vault.begin(key_uuid)
    assert put(begun) == 200
    with monkeypatch.context() as context:
        context.setattr(Transaction, "_commit", _dying(number))
        with pytest.raises(Death):
            vault.confirm(begun)
    assert vault.confirm(begun).status == 200
    assert counters(tenant, key_uuid)[:3] == ONE[:3]
    assert vault.bytes_of(begun) == BODY


@pytest.mark.parametrize("number", [0, 1])
def test_a_delete_that_dies_is_repeated_and_counts_once(vault: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    key_uuid = vault.key()
    begun = vault.upload(key_uuid)
    with monkeypatch.context() as context:
        context.setattr(Transaction, "_commit", _dying(number))
        with pytest.raises(Death):
            vault.delete(begun)
    answer = vault.delete(begun)
    assert answer.status == (404 if number else 200)
    assert counters(tenant, key_uuid)[:3] == (0, 0, 0)
    assert vault.lies_there(key_uuid) == []


def _dying(number: int) -> Callable[[Transaction], None]:
    commit = Transaction._commit

    def dying(self: Transaction) -> None:
        if number:
            commit(self)
        raise Death

    return dying


# ---- what it costs -------------------------------------------------------------------------------------------
GET, TOGETHER, TRANSACTION = Call("dynamodb", "GetItem"), Call("dynamodb", "BatchGetItem"), Call("dynamodb", "TransactWriteItems")
HEAD, UPDATE, QUERY = Call("s3", "HeadObject"), Call("dynamodb", "UpdateItem"), Call("dynamodb", "Query")


def asked(calls: list[Call], act: Callable[[], Answer], status: int = 200) -> tuple[list[Call], Answer]:
    calls.clear()
    answer = act()
    assert answer.status == status, answer.body
    return list(calls), answer


def test_the_calls_of_a_delta_s_life_on_internal_storage_are_counted(internal: Vault, calls: list[Call]) -> None:
    key_uuid = internal.key()
    made, answer = asked(calls, lambda: internal.ask(key_uuid), 201)
    assert made == [GET, TRANSACTION]
    begun: Begun = answer.json()
    assert put(begun) == 200
    assert asked(calls, lambda: internal.confirm(begun))[0] == [GET, TOGETHER, HEAD, TRANSACTION]
    assert asked(calls, lambda: internal.confirm(begun))[0] == [GET, TOGETHER]
    assert asked(calls, lambda: internal.download(begun))[0] == [GET, TOGETHER, HEAD, TRANSACTION]
    assert asked(calls, lambda: internal.client("GET", f"/deltas/list?key_uuid={key_uuid}"))[0] == [GET, QUERY]
    section = {"delta_uuid": begun["delta_uuid"], "start": 0, "length": 5}
    assert asked(calls, lambda: internal.client("POST", "/deltas/claim", section), 201)[0] == [GET, TOGETHER, UPDATE]


def test_on_a_storage_of_one_s_own_its_row_is_read_too(own: Vault, calls: list[Call]) -> None:
    """So that a storage that was just pointed elsewhere is never asked at the old place."""
    key_uuid = own.key()
    made, answer = asked(calls, lambda: own.ask(key_uuid), 201)
    assert made == [GET, GET, TRANSACTION]
    begun: Begun = answer.json()
    assert put(begun) == 200
    assert asked(calls, lambda: own.confirm(begun))[0] == [GET, TOGETHER, GET, HEAD, TRANSACTION]
    assert asked(calls, lambda: own.download(begun))[0] == [GET, TOGETHER, GET, HEAD]


def test_a_list_of_a_page_costs_the_same_among_few_and_many(own: Vault, tenant: Tenant, calls: list[Call]) -> None:
    few, many = own.key(), own.key()
    for key_uuid, number in ((few, 3), (many, 12)):
        for _ in range(number):
            own.begin(key_uuid)
    costs = [asked(calls, lambda each=each: own.client("GET", f"/deltas/list?key_uuid={each}&limit=2"))[0] for each in (few, many)]  # type: ignore[misc]
    assert costs[0] == costs[1] == [GET, QUERY, GET]


# ---- events --------------------------------------------------------------------------------------------------
def test_the_bucket_s_event_confirms_an_upload_without_the_client(internal: Vault, tenant: Tenant) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    assert put(begun) == 200
    deliver(physical_key(begun))
    row = delta_row(begun)
    assert row is not None
    assert (row.status, row.attempt) == (STORED, begun["upload_attempt_uuid"])
    assert counters(tenant, key_uuid) == ONE
    assert internal.bytes_of(begun) == BODY


def test_an_event_of_what_was_put_by_other_means_changes_nothing(internal: Vault, tenant: Tenant) -> None:
    begun = internal.begin(internal.key())
    internal.overwrite(begun, b"who knows")
    before = delta_row(begun)
    deliver(physical_key(begun))
    assert str(delta_row(begun)) == str(before)
    assert internal.holds(begun)
    assert told(internal.confirm(begun)) == (409, "AttemptMismatch")


def test_an_event_about_a_key_that_was_moved_meanwhile_changes_nothing(internal: Vault, tenant: Tenant, own: Vault) -> None:
    key_uuid = internal.key()
    begun = internal.begin(key_uuid)
    assert internal.client("PATCH", "/keys/edit", {"key_uuid": key_uuid, "storage_uuid": own.storage_uuid}).status == 200
    assert put(begun) == 200
    deliver(physical_key(begun))
    row = delta_row(begun)
    assert row is not None
    assert row.status == "pending"
    assert told(internal.confirm(begun)) == (409, "AttemptMismatch")
