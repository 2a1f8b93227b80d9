"""The policy language: what it refuses and where, what hostile policies may cost, and LIKE against a second implementation.

What policies mean is settled against PostgreSQL itself, in `tests/policies`.
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from chalicelib.access import policy as language
from chalicelib.access.policy import EvaluationError, Policy, Scope, compile_policy, patterns
from chalicelib.errors import InvalidPolicy

ADA = "6f1c9a52-7d0e-4b6a-9c3f-0a1b2c3d4e5f"
NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
ROW: dict[str, Any] = {
    "id": "018f3c2e-0000-7000-8000-000000000001",
    "name": "a/b.txt",
    "bucket_id": "b",
    "size": 5,
    "content_type": "text/plain",
    "checksum": None,
    "owner_id": ADA,
    "user_metadata": None,
    "created_at": "2026-11-20T10:34:05.123456Z",
    "updated_at": "2026-11-20T11:34:05.123456Z",
}


def scope(**columns: Any) -> Scope:
    return Scope(ADA, "authenticated", "ada@example.com", ROW | columns, NOON)


def outcome(policy: Policy, where: Scope) -> bool | str | None:
    """True, False, None, or `error`."""
    try:
        return policy.evaluate(where)
    except EvaluationError:
        return "error"


# ---- refusals ------------------------------------------------------------------------------------------
REFUSED = [
    ("", 0),
    ("   ", 3),
    ("-- nothing", 10),
    ("(", 1),
    ("()", 1),
    ("true)", 4),
    ("(true", 5),
    ("true true", 5),
    ("true AND", 8),
    ("AND true", 0),
    ("true AND OR false", 9),
    ("NOT", 3),
    ("size > ", 7),
    ("size = = 5", 7),
    ("size IN ()", 9),
    ("size IN (1, )", 12),
    ("size BETWEEN 1", 14),
    ("size BETWEEN 1 OR 2", 15),
    ("size IS 5", 8),
    ("CASE END", 5),
    ("CASE WHEN true END", 15),
    ("CASE true END", 10),
    ("name = 'open", 7),
    ('"open = 1', 0),
    ("true /* open", 5),
    ("true; DROP TABLE objects", 4),
    ("1 < 2 < 3", 6),
    ("size = 5 = true = false", 9),
    ("name LIKE 'a' LIKE 'b'", 14),
    ("size ~ 5", 5),
    ("name ~ 'a'", 5),
    ("$1 = 5", 0),
    ("E'a' = name", 0),
    ("name = $$a$$", 7),
    ("size = 0x10", 8),
    ("size = 5a", 8),
    ("size::date = 1", 6),
    ("size::varchar(5) = 'a'", 6),
    ("size::numeric(5) = 1", 13),
    ("a.b = 1", 0),
    ("EXISTS (SELECT 1)", 8),
    ("size = (SELECT 1)", 8),
    ("size IN (SELECT 1)", 9),
    ("(size, 1) = (1, 2)", 5),
    ("name SIMILAR TO 'a'", 5),
    ("no_column = 1", 0),
    ("true AND no_column = 1", 9),
    ("version() = 'a'", 0),
    ("true AND pg_sleep(5) IS NULL", 9),
    ("size = name", 0),
    ("true AND size", 9),
    ("NOT name", 4),
    ("size + name = 1", 0),
    ("auth_uid() = owner_id", 0),
    ("true AND owner_id = 'x'", 20),
    ("size = 'five'", 7),
    ("created_at > 'yesterday'", 13),
    ("user_metadata = '{'", 16),
    ("lower(size) = 'a'", 0),
    ("lower() = 'a'", 0),
    ("auth_uid(1) = 'a'", 0),
    ("coalesce(size, name) = 1", 15),
    ("CASE WHEN true THEN 1 ELSE name END = 1", 27),
    ("true AND 1/0 = 1", 9),
    ("2147483647 + 1 = size", 0),
    ("user_metadata #>> name = 'a'", 18),
    ("name = 'a\0'", 9),
    ("name = '\ud800'", 8),
    ("'日本🙂' = name AND x", 17),
]


@pytest.mark.parametrize(("source", "position"), REFUSED, ids=[ascii(source) for source, _ in REFUSED])
def test_what_is_refused_is_told_by_its_position(source: str, position: int) -> None:
    with pytest.raises(InvalidPolicy) as refused:
        compile_policy(source)
    assert refused.value.position == position
    assert refused.value.details == {"position": position}
    assert f"(at character {position + 1})" in refused.value.message


# ---- limits --------------------------------------------------------------------------------------------
def test_a_definition_has_at_most_4096_bytes() -> None:
    for letter, width in (("a", 1), ("ä", 2), ("日", 3)):
        fixed = len("name = ''")
        most = (4096 - fixed) // width
        padding = " " * (4096 - fixed - most * width)
        assert outcome(compile_policy(f"name = '{letter * most}'{padding}"), scope()) is False
        with pytest.raises(InvalidPolicy, match="4096 bytes") as refused:
            compile_policy(f"name = '{letter * most}'{padding} ")
        assert refused.value.position == 0


NESTED: dict[str, Callable[[int], str]] = {
    "parentheses": lambda depth: "(" * depth + "true" + ")" * depth,
    "NOT": lambda depth: "NOT " * depth + "true",
    "CASE condition": lambda depth: "CASE WHEN " * depth + "true" + " THEN true END" * depth,
    "CASE result": lambda depth: "CASE WHEN true THEN " * depth + "true" + " END" * depth,
    "COALESCE": lambda depth: "coalesce(" * depth + "true" + ")" * depth,
    "functions": lambda depth: "lower(" * depth + "name" + ")" * depth + " = 'a'",
    "signs": lambda depth: "- " * depth + "size = 5",
    "casts": lambda depth: "name" + "::text" * depth + " = 'a'",
    "sums": lambda depth: "size" + " + 1" * depth + " > 0",
    "products on the right": lambda depth: "1 = " + "(size * " * (depth // 2) + "1" + ")" * (depth // 2),
    "concatenations": lambda depth: "name" + " || name" * depth + " = 'a'",
    "paths": lambda depth: "user_metadata" + " -> 'a'" * depth + " = '1'",
    "IS": lambda depth: "size" + " IS NULL" * depth,
    "BETWEEN": lambda depth: "(" * depth + "true" + " BETWEEN false AND true)" * depth,
    "IN": lambda depth: "true IN (" * depth + "true" + ")" * depth,
}


@pytest.mark.parametrize("form", NESTED.values(), ids=NESTED)
def test_an_expression_is_nested_at_most_64_deep(form: Callable[[int], str]) -> None:
    assert outcome(compile_policy(form(60)), scope(user_metadata="{}")) in (True, False, None, "error")
    for depth in (65, 100, 150):
        with pytest.raises(InvalidPolicy, match="at most 64 deep") as refused:
            compile_policy(form(depth))
        assert 0 <= refused.value.position <= len(form(depth))


def test_nesting_that_fills_the_longest_definition_is_refused() -> None:
    for form in NESTED.values():
        depth = max(depth for depth in range(1, 4096) if len(form(depth)) <= 4096)
        with pytest.raises(InvalidPolicy, match="at most 64 deep"):
            compile_policy(form(depth))


def test_long_chains_of_and_and_or_are_not_deep() -> None:
    assert outcome(compile_policy(" AND ".join(["size = 5"] * 300)), scope()) is True
    assert outcome(compile_policy(" OR ".join(["size = 4"] * 300)), scope()) is False


@pytest.mark.parametrize(
    ("definition", "taken"),
    [
        ("size < " + "9" * 1000, True),
        ("size < " + "9" * 1001, False),
        ("size < 1e999", True),
        ("size < 1e1000", False),
        ("size > 1e-1000", True),
        ("size > 1e-1001", False),
        ("size > 0." + "0" * 999 + "1", True),
        ("size > 0." + "0" * 1000 + "1", False),
        ("size < 1e999999", False),
        ("size < 1e9999999999", False),
        ("size < '1e1000'::numeric", False),
        ("size < '" + "9" * 1001 + "'", False),
        ("1e600 * 1e600 > size", False),
        ("size < 1e500 + 1e-499", True),
        ("size < 1e500 + 1e-500", False),
    ],
)
def test_a_number_has_at_most_a_thousand_digits(definition: str, taken: bool) -> None:
    if taken:
        assert outcome(compile_policy(definition), scope()) is True
    else:
        with pytest.raises(InvalidPolicy):
            compile_policy(definition)


# 96 times the checksum, written with little depth.
TOO_LONG = "||".join(["(" + "||".join(["checksum"] * 24) + ")"] * 4)


@pytest.mark.parametrize(
    "definition",
    [
        "size * 1e999 > 0",
        "(name || '" + "0" * 1000 + "')::numeric > 0",
        "(name || 'e2000')::numeric > 0",
        "size::numeric * 1e-1000 * 0.1 > 0",
        "size * 1e990 + 1e-20 > 0",
        "length(" + TOO_LONG + ") > 0",
    ],
)
def test_what_grows_beyond_a_limit_on_a_row_is_an_error_there(definition: str) -> None:
    found = outcome(compile_policy(definition), scope(name="5", size=1000, checksum="x" * 700))
    assert found == "error"


# ---- LIKE ----------------------------------------------------------------------------------------------
TRUE, FALSE, ABORT = "true", "false", "abort"


class EndsWithEscape(Exception):
    pass


def match_text(text: str, pattern: str) -> str:
    """MatchText of PostgreSQL 15's like_match.c, line by line, for one-byte characters and `\\` as the escape."""
    if pattern == "%":
        return TRUE
    while text and pattern:
        if pattern[0] == "\\":
            pattern = pattern[1:]
            if not pattern:
                raise EndsWithEscape
            if pattern[0] != text[0]:
                return FALSE
        elif pattern[0] == "%":
            return _match_rest(text, pattern[1:])
        elif pattern[0] != "_" and pattern[0] != text[0]:
            return FALSE
        text, pattern = text[1:], pattern[1:]
    if text:
        return FALSE
    return ABORT if pattern.lstrip("%") else TRUE


def _match_rest(text: str, pattern: str) -> str:
    while pattern and pattern[0] in "%_":
        if pattern[0] == "_":
            if not text:
                return ABORT
            text = text[1:]
        pattern = pattern[1:]
    if not pattern:
        return TRUE
    if pattern[0] == "\\" and len(pattern) < 2:
        raise EndsWithEscape
    first = pattern[1] if pattern[0] == "\\" else pattern[0]
    while text:
        if text[0] == first:
            matched = match_text(text, pattern)
            if matched != FALSE:
                return matched
        text = text[1:]
    return ABORT


def expected_of(text: str, pattern: str) -> bool | str:
    try:
        return match_text(text, pattern) == TRUE
    except EndsWithEscape:
        return "error"


def words(letters: str, longest: int) -> list[str]:
    return ["".join(word) for length in range(longest + 1) for word in product(letters, repeat=length)]


TEXTS = words("ab", 4)


def test_like_is_that_of_postgresql_for_every_short_pattern() -> None:
    from_a_column = compile_policy("name LIKE checksum")
    tried = 0
    for pattern in words("ab%_\\", 5):
        from_a_literal = compile_policy(f"name LIKE '{pattern}'")
        for text in TEXTS:
            expected = expected_of(text, pattern)
            assert outcome(from_a_literal, scope(name=text)) == expected, (text, pattern)
            assert outcome(from_a_column, scope(name=text, checksum=pattern)) == expected, (text, pattern)
            tried += 1
    assert tried == 31 * 3906


def test_ilike_and_not_like_follow_like_for_every_shorter_pattern() -> None:
    for pattern in words("ab%_\\", 4):
        without_case, negated = compile_policy(f"name ILIKE '{pattern.upper()}'"), compile_policy(f"name NOT LIKE '{pattern}'")
        for text in TEXTS:
            expected = expected_of(text, pattern)
            assert outcome(without_case, scope(name=text)) == expected, (text, pattern)
            assert outcome(negated, scope(name=text)) == (expected if expected == "error" else not expected), (text, pattern)


def test_another_escape_does_what_the_backslash_does() -> None:
    for pattern in words("ab%_#", 4):
        policy = compile_policy(f"name LIKE '{pattern}' ESCAPE '#'")
        for text in TEXTS:
            assert outcome(policy, scope(name=text)) == expected_of(text, pattern.replace("#", "\\")), (text, pattern)


def test_without_an_escape_the_backslash_is_a_character() -> None:
    for pattern in words("a%_\\", 4):
        policy = compile_policy(f"name LIKE '{pattern}' ESCAPE ''")
        for text in words("a\\", 4):
            assert outcome(policy, scope(name=text)) == expected_of(text, pattern.replace("\\", "\\\\")), (text, pattern)


# ---- hostile policies ----------------------------------------------------------------------------------
LONG_ROW = {
    "name": "a" * 699 + "b",
    "size": 2**63 - 1,
    "checksum": "9" * 64,
    "content_type": "%_" * 100,
    "user_metadata": json.dumps({"a": {"a": {"a": ["a" * 90] * 40}}, "n": 10**30}),
}
SHORT_ROW = {"name": "a" * 64, "size": 3, "checksum": "3", "content_type": "%", "user_metadata": "[[[1, 2], [3]], 1e5]"}
TEXT_ATOMS = ["name", "checksum", "content_type", "user_metadata::text", "'%a%'", "'b'", "auth_uid()", "size::text"]
NUMBER_ATOMS = [
    "size",
    "size::numeric",
    "1e300",
    "1e-300",
    "length(name)",
    "3",
    "9999999999",
    "checksum::numeric",
    "'1.5'::numeric",
    "7e99",
]
BOOL_ATOMS = ["true", "NULL", "size > 3", "name LIKE '%a%b'", "checksum IS NULL", "user_metadata ? 'a'", "owner_id = auth_uid()::uuid"]


def _many(chance: random.Random, atoms: list[str], operator: str, most: int) -> str:
    return operator.join(chance.choice(atoms) for _ in range(chance.randint(1, most)))


def _nested(chance: random.Random) -> str:
    form = chance.choice(list(NESTED.values()))
    return form(chance.choice([1, 10, 30, 59, 62, 63, 64, 65, 66, 100, chance.randint(1, 400)]))


def _wide(chance: random.Random) -> str:
    members = chance.choice([["1", "2", "3e9", "NULL"], ["size", "1"], ["size::numeric", "1.5"], ["'a'", "name"], ["name || name", "'x'"]])
    operand = chance.choice(["size", "size + 1", "name", "name || checksum", "lower(name)"])
    return f"{operand} {chance.choice(['', 'NOT '])}IN ({_many(chance, members, ',', 600)})"


def _pattern(chance: random.Random) -> str:
    pattern = "".join(chance.choice(["%", "%a", "_", "a", "b", "\\%", "%a%", "a" * 30]) for _ in range(chance.randint(1, 400)))
    text = _many(chance, ["name", "name", "content_type", "user_metadata::text"], "||", 40)
    return f"({text}) {chance.choice(['LIKE', 'ILIKE', 'NOT LIKE'])} '{pattern}'{chance.choice(['', '', '::text', ' ESCAPE chr'])}"


def _patterns(chance: random.Random) -> str:
    return _many(chance, ["name LIKE '%a%a%b%c'", "name||name LIKE content_type||'%'", "name ILIKE '%aaaaaaac'"], " OR ", 100)


def _numbers(chance: random.Random) -> str:
    value = chance.choice(NUMBER_ATOMS)
    for _ in range(chance.randint(1, 60)):
        value = f"({value} {chance.choice('**/+-*')} {chance.choice(NUMBER_ATOMS)})" if chance.random() < 0.9 else f"({value} * {value})"
        if len(value) > 3000:
            break
    return f"{value} {chance.choice(['>', '=', '<>'])} {chance.choice(NUMBER_ATOMS)}"


def _texts(chance: random.Random) -> str:
    value = chance.choice(TEXT_ATOMS)
    for _ in range(chance.randint(1, 12)):
        value = chance.choice([f"({value} || {value})", f"lower({value})", f"split_part({value}, 'a', 3)", f"({value} || name)"])
        if len(value) > 1900:
            break
    return chance.choice(
        [f"{value} = name", f"length({value}) > 5", f"strpos({value}, {chance.choice(TEXT_ATOMS)}) > 0", f"{value} LIKE '%a%ab'"]
    )


def _doubled(chance: random.Random) -> str:
    value = chance.choice(BOOL_ATOMS)
    for _ in range(chance.randint(1, 60)):
        other, third = chance.choice(BOOL_ATOMS), chance.choice(BOOL_ATOMS)
        value = chance.choice(
            [
                f"(({value}) BETWEEN ({other}) AND ({third}))",
                f"(({other}) BETWEEN SYMMETRIC ({value}) AND ({third}))",
                f"(({other}) NOT BETWEEN ({third}) AND ({value}))",
                f"(({value}) IN ({other}, {third}, {other}))",
                f"(({other}) IN ({value}, {third}))",
                f"(CASE {value} WHEN {other} THEN {third} WHEN {third} THEN {other} END)",
                f"(CASE {other} WHEN {value} THEN {third} ELSE false END)",
                f"(NULLIF({value}, {other}))",
                f"(({value}) IS DISTINCT FROM ({other}))",
            ]
        )
        if len(value) > 3000:
            break
    return value


def _documents(chance: random.Random) -> str:
    steps = "".join(chance.choice([" -> 'a'", " -> 0", " -> -1", " -> 'n'"]) for _ in range(chance.randint(0, 70)))
    path = ",".join(chance.choice(["a", "0", "-1", '"x"', "NULL"]) for _ in range(chance.randint(0, 400)))
    return chance.choice(
        [
            f"user_metadata{steps} = user_metadata",
            f"(user_metadata{steps})::text LIKE '%a%'",
            f"user_metadata #>> '{{{path}}}' = 'a'",
            _many(chance, ["user_metadata > user_metadata", "user_metadata::text = name", "user_metadata -> 'a' < '[1]'"], " AND ", 100),
            f"user_metadata = '{'[' * chance.randint(1, 2000)}'",
        ]
    )


def _comments(chance: random.Random) -> str:
    parts = ["-" * 90, "/*" * 9, "*/" * 9, "--x", "\n", "'a'", " ", "'", "''", "name = ", "true", "/**/", "- ", " AND "]
    return _many(chance, parts, "", 60)


def _soup(chance: random.Random) -> str:
    parts = [
        *TEXT_ATOMS,
        *NUMBER_ATOMS,
        *BOOL_ATOMS,
        "(",
        ")",
        ",",
        "NOT",
        "AND",
        "OR",
        "IS",
        "IN",
        "BETWEEN",
        "LIKE",
        "ESCAPE",
        "CASE",
        "WHEN",
    ]
    parts += [
        "THEN",
        "ELSE",
        "END",
        "::",
        "int",
        "interval",
        "'1 day'",
        "->",
        "->>",
        "#>>",
        "?",
        "||",
        "+",
        "-",
        "*",
        "/",
        "=",
        "<>",
        "now()",
        '"',
    ]
    return _many(chance, parts, " ", 60)


HOSTILE = [_nested, _wide, _pattern, _patterns, _numbers, _texts, _doubled, _doubled, _documents, _comments, _soup]
# Every byte of a source names at most one operation, and an operation takes at most some lines for each character that
# it looks at. Texts are made of the row's, so that none looks at more than the source's length times the row's.
LINES_A_PAIR = 4


class Steps:
    """Lines of the policy language that were run."""

    number = 0


@contextmanager
def counted() -> Iterator[Steps]:
    steps, before = Steps(), sys.gettrace()
    folder = str(Path(language.__file__).parent)

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return count if frame.f_code.co_filename.startswith(folder) else None

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        steps.number += event == "line"
        return count

    sys.settrace(trace)
    try:
        yield steps
    finally:
        sys.settrace(before)


def bound(source: str, row: dict[str, Any]) -> int:
    """Most lines that one evaluation may run."""
    texts = [str(value) for value in row.values() if value is not None]
    return LINES_A_PAIR * max(len(source), 64) * max(sum(map(len, texts)), 64)


def compiled(source: str) -> Policy | None:
    try:
        return compile_policy(source)
    except InvalidPolicy as error:
        refused = error
    assert 0 <= refused.position <= len(source)
    return None


@pytest.mark.parametrize("seed", range(4))
def test_a_hostile_policy_is_refused_or_answers_in_bounded_time_and_space(seed: int) -> None:
    chance = random.Random(seed)
    taken = 0
    for number in range(2500):
        source = HOSTILE[number % len(HOSTILE)](chance)
        policy = compiled(source)
        if policy is None:
            continue
        taken += 1
        text = policy.compiled
        assert len(text) <= 64 * len(source.encode()) + 256, source
        again = Policy.from_compiled(text)
        assert again.compiled == text, source
        for row in (ROW | LONG_ROW, ROW | SHORT_ROW):
            found = outcome(policy, scope(**row))
            assert found in (True, False, None, "error"), source
            assert outcome(again, scope(**row)) == found, source
            if number % 20 == 0:
                with counted() as steps:
                    outcome(policy, scope(**row))
                assert steps.number <= bound(source, row), source
    assert taken > 1000


LONG_MATCH = "(" + "||".join(["(" + "||".join(["name"] * 22) + ")"] * 4) + ") LIKE '%" + "a" * 400 + "_c%'"
DEAREST = [
    "(" + "||".join(["name"] * 16) + ") LIKE '%" + "a" * 95 + "_c%'",
    LONG_MATCH,
    " OR ".join(["name||name||name LIKE '%" + "a" * 60 + "_c%'"] * 44),
    " OR ".join(["name LIKE '%a%a%a%a%a%a%c'"] * 130),
    " AND ".join(["user_metadata::text <> 'a'"] * 130),
    " AND ".join(["user_metadata <= user_metadata"] * 110),
    "size IN (" + ",".join(["size + 1"] * 400) + ")",
]


@pytest.mark.parametrize("source", DEAREST, ids=[source[:30] for source in DEAREST])
@pytest.mark.parametrize("columns", [LONG_ROW, SHORT_ROW, dict.fromkeys(ROW) | {"name": "a" * 64}], ids=["long", "short", "name alone"])
def test_the_dearest_policies_stay_within_their_bound(source: str, columns: dict[str, Any]) -> None:
    policy, row = compile_policy(source), ROW | columns
    with counted() as steps:
        outcome(policy, scope(**row))
    assert 0 < steps.number <= bound(source, row)


def test_a_long_text_is_not_compared_with_a_long_pattern_at_each_of_its_places() -> None:
    assert 700 * 88 * 402 > patterns.MAX_COMPARED > 700 * 1000
    assert outcome(compile_policy(LONG_MATCH), scope(name="a" * 700)) == "error"
    assert outcome(compile_policy("name LIKE '%" + "a" * 402 + "_b%'"), scope(name="a" * 700)) is False


SHARING: dict[str, Callable[[int], str]] = {
    "BETWEEN": lambda depth: "(" * depth + "(size > 3)" + " BETWEEN true AND (size > 4))" * depth,
    "BETWEEN SYMMETRIC": lambda depth: "(" * depth + "(size > 3)" + " BETWEEN SYMMETRIC true AND (size > 4))" * depth,
    "BETWEEN SYMMETRIC on the right": lambda depth: "(size > 5) BETWEEN SYMMETRIC false AND (" * depth + "size > 3" + ")" * depth,
    "IN": lambda depth: "(" * depth + "(size > 3)" + " IN (size > 1, size > 2, NULL))" * depth,
    "CASE": lambda depth: "CASE " * depth + "size > 3" + " WHEN true THEN size > 1 WHEN false THEN size > 2 END" * depth,
    "NULLIF": lambda depth: "NULLIF(" * depth + "size > 3" + ", size > 9)" * depth,
}


@pytest.mark.parametrize("form", SHARING.values(), ids=SHARING)
def test_what_shares_an_operand_neither_writes_it_twice_nor_works_it_out_twice(form: Callable[[int], str]) -> None:
    lengths, lines = [], []
    for depth in (15, 30):
        policy = compile_policy(form(depth))
        with counted() as steps:
            policy.evaluate(scope())
        lengths.append(len(policy.compiled))
        lines.append(steps.number)
    assert lengths[1] <= 2.5 * lengths[0]
    assert lines[1] <= 2.5 * lines[0]


@pytest.mark.parametrize("form", [*SHARING.values(), *NESTED.values()], ids=[*SHARING, *NESTED])
def test_compiling_is_bounded_too(form: Callable[[int], str]) -> None:
    depth = max(depth for depth in range(1, 30) if len(form(depth)) <= 4096)
    with counted() as steps:
        assert compiled(form(depth)) is not None
    assert steps.number <= 64 * 64 * len(form(depth))


@pytest.mark.parametrize(
    "source",
    [
        "name = 'a' " + "-" * 4000,
        "name = 'a'\n" + "-" * 4000,
        "name = 'a'" + "\n--" * 1300,
        "name = 'a'" + "\n" * 4000,
        "name = 'a' " + " " * 4000 + "'b'",
        "name = " + "'" * 4000,
        "true " + "/*" * 2000,
        "true " + "/*" * 1000 + "*/" * 1000,
        "true --" + "'" * 4000,
        "size = " + "9" * 4000,
        "size = ." + "9" * 4000 + "e",
        "user_metadata #>> '{" + " " * 4000 + "' = 'a'",
        "user_metadata #>> '{" + "a " * 2000 + "' = 'a'",
        "user_metadata #>> '{" + '"a",' * 1000 + "' = 'a'",
        "created_at > '" + " " * 4000 + "'",
        "created_at - updated_at < '" + "1 " * 1900 + "x'",
        "name = " + "+" * 4000,
    ],
    ids=lambda source: ascii(source[:30]),
)
def test_no_text_makes_the_lexer_go_back_and_forth(source: str) -> None:
    compiled(source)  # in time: what backtracks exponentially never comes back


def test_quotes_in_a_comment_are_no_string() -> None:
    assert outcome(compile_policy("name = 'a'\n-- 'b' AND false"), scope(name="a")) is True
    assert outcome(compile_policy("name = 'a' -- it's\n 'b'"), scope(name="ab")) is True
    assert outcome(compile_policy("name = 'a'\n--'\n"), scope(name="a")) is True


@pytest.mark.parametrize("depth", [65, 350, 900, 1900])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"":', "}")])
def test_a_document_that_is_nested_deeply_is_refused_or_taken_and_never_a_defect(opening: str, closing: str, depth: int) -> None:
    source = "user_metadata = '" + opening * depth + "1" + closing * depth + "'"
    policy = compiled(source)
    if policy is not None:
        assert outcome(Policy.from_compiled(policy.compiled), scope(user_metadata="[1]")) is False


def test_numbers_are_kept_as_they_are_written() -> None:
    source = "size IN (" + ", ".join(["1e999"] * 580) + ")"
    policy = compile_policy(source)
    assert len(policy.compiled) < 32 * len(source)
    assert outcome(Policy.from_compiled(policy.compiled), scope(size=5)) is False


def test_what_nobody_expected_denies() -> None:
    def broken(_: Scope) -> bool:
        raise ZeroDivisionError("a defect")

    policy = compile_policy("true")
    assert policy.holds(scope())
    policy.evaluate = broken
    assert not policy.holds(scope())


@pytest.mark.parametrize("cast", ["numeric", "boolean", "int", "timestamptz", "interval", "uuid"])
@pytest.mark.parametrize(
    "text",
    [
        "\u0131nf",
        "\u0130nf",
        "\u0131nfinity",
        "tru\u212a",
        "ye\u017f",
        "\u0661",
        "1\u00a0",
        "1 wee\u212a",
        "1 day\u017f",
        "epo\u212ah",
        "2026-11-20 10:34 gmt\u0131",
    ],
)
def test_letters_and_digits_beyond_ascii_are_none_to_casts(cast: str, text: str) -> None:
    assert outcome(compile_policy(f"(content_type)::{cast} IS NOT NULL"), scope(content_type=text)) == "error"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1day 2hours", "1 day 02:00:00"),
        ("1 day ago", "-1 days"),
        ("1day2hours", None),
        ("1 day-00:00:01", None),
        ("1 ago", None),
        ("ago", None),
        ("1 ms", None),
        ("5 us", None),
        ("1 1 day", None),
        ("", None),
    ],
)
def test_an_interval_has_its_parts_between_spaces(text: str, shown: str | None) -> None:
    found = outcome(compile_policy(f"content_type::interval::text = '{shown}'"), scope(content_type=text))
    assert found == ("error" if shown is None else True)


def test_a_leap_second_has_no_fraction() -> None:
    policy = compile_policy("content_type::timestamptz = '2026-11-21'")
    assert outcome(policy, scope(content_type="2026-11-20 23:59:60")) is True
    assert outcome(policy, scope(content_type="2026-11-20 23:59:60.999")) == "error"


# ---- compiled ------------------------------------------------------------------------------------------
def test_a_compiled_policy_is_json_and_means_the_same(rows: list[dict[str, Any]]) -> None:
    sources = [
        "owner_id = auth_uid()::uuid OR user_metadata ->> 'public' = 'true'",
        "CASE content_type WHEN 'text/plain' THEN size < 10 ELSE name LIKE 'a/%' END",
        "size * 2 BETWEEN SYMMETRIC 20 AND size - 5 AND created_at > now() - interval '1 day 02:03:04'",
        "name IN ('a', 'ü\"\\', NULL, checksum) OR user_metadata #>> '{a,\"b c\",NULL}' = '日本'",
        "coalesce(checksum, 'x') || size = 'x5' AND 1e-20 < size::numeric AND '{\"k\": [1.50]}' <> user_metadata",
        "NULLIF(size, 5) IS NULL IS TRUE AND auth_role() <> 'anon' AND auth_email() ILIKE '%@EXAMPLE.com'",
        "created_at < 'infinity' AND updated_at >= '2026-11-20T11:34:05.123456+00'",
        "true",
        "NULL",
    ]
    for source in sources:
        policy = compile_policy(source)
        again = Policy.from_compiled(policy.compiled)
        assert json.loads(policy.compiled)
        assert (again.root, again.compiled, again.is_own_only) == (policy.root, policy.compiled, policy.is_own_only)
        assert [outcome(again, scope(**row)) for row in rows] == [outcome(policy, scope(**row)) for row in rows]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [
        {},
        LONG_ROW,
        SHORT_ROW,
        {"checksum": "ü", "user_metadata": '{"public": "true", "a": null}'},
        {"owner_id": None, "name": 'ü"\\', "size": 0},
    ]


@pytest.mark.parametrize(
    ("source", "own_only"),
    [
        ("owner_id = auth_uid()::uuid", True),
        ("auth_uid()::uuid = owner_id", True),
        ("auth_uid() = owner_id::text", True),
        ("owner_id = auth_uid()::uuid AND size > 5", True),
        ("size > 5 AND (name = 'a' AND auth_uid()::uuid = owner_id)", True),
        ("(owner_id = auth_uid()::uuid AND size > 5) OR (auth_uid() = owner_id::text AND size < 3)", True),
        ("owner_id = auth_uid()::uuid OR size > 5", False),
        ("NOT owner_id = auth_uid()::uuid", False),
        ("owner_id <> auth_uid()::uuid", False),
        ("owner_id IS NOT DISTINCT FROM auth_uid()::uuid", False),
        ("id = auth_uid()::uuid", False),
        ("owner_id = auth_email()::uuid", False),
        ("owner_id = owner_id", False),
        ("auth_uid()::uuid = auth_uid()::uuid", False),
        ("owner_id::text || 'x' = auth_uid()", False),
        ("owner_id::text = lower(auth_uid())", False),
        ("(owner_id = auth_uid()::uuid) IS NOT TRUE", False),
        ("(owner_id = auth_uid()::uuid) = false", False),
        ("coalesce(owner_id = auth_uid()::uuid, true)", False),
        ("CASE WHEN owner_id = auth_uid()::uuid THEN false ELSE true END", False),
        ("true", False),
        ("size > 5", False),
    ],
)
def test_what_can_hold_for_ones_own_alone_is_known(source: str, own_only: bool) -> None:
    policy = compile_policy(source)
    assert policy.is_own_only is own_only
    if own_only:
        others = [None, ADA.replace("6", "7"), "00000000-0000-0000-0000-000000000000"]
        assert [outcome(policy, scope(owner_id=owner, size=size)) is True for owner in others for size in (1, 9)] == [False] * 6
