"""Random policies, rows and callers.

An expression is written for a type that is wanted, from parts of the types that it takes, with as few parentheses
as its operators' precedence allows, or more. Now and then a part has another type, is NULL or a literal without a
type, or lacks parentheses that it needs: PostgreSQL says what that means, too.
"""

import json
import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .rows import ADA, BOB, NIL, Caller, Row

T = TypeVar("T")
LONGEST = 4096  # bytes, CONTRACT "Policy language"
# Precedence, of PostgreSQL's gram.y: what binds tighter is greater.
OR, AND, NOT, IS, COMPARISON, LIKE, OPERATOR, SUM, PRODUCT, SIGN, CAST, ATOM = range(12)
BOOLEAN, TEXT, INT, BIGINT, NUMERIC, UUID, TIME, INTERVAL, JSON = TYPES = (
    "boolean", "text", "int", "bigint", "numeric", "uuid", "timestamptz", "interval", "jsonb",
)  # fmt: skip
NUMBERS = (INT, BIGINT, NUMERIC)
COMPARABLE = (*TYPES, TEXT, BIGINT, NUMERIC, UUID, TIME, JSON)
# Types that || takes beside text, with `size || size` among what it does not.
PRINTABLE = (TEXT, TEXT, TEXT, INT, BIGINT, NUMERIC, BOOLEAN, UUID, TIME)

COLUMNS = {
    TEXT: ["name", "bucket_id", "content_type", "checksum"],
    BIGINT: ["size"],
    UUID: ["id", "owner_id"],
    TIME: ["created_at", "updated_at"],
    JSON: ["user_metadata"],
}
COMPARISONS = ["=", "=", "<>", "!=", "<", "<=", ">", ">="]
KEYS = ["a", "b", "c", "n", "flag", "owner", "tags", "until", ""]
PATHS = ["{a}", "{a,b}", "{tags,0}", "{n,-1}", "{a,b,c}", "{}", "{b,1,a}", "{flag}"]
UNITS = ["year", "years", "month", "mon", "mons", "week", "weeks", "day", "days", "hour", "hours", "minute", "minutes", "second", "seconds"]
# Without '\', which the end of a pattern must not be, except at times.
WORDS = [
    "",
    "a",
    "A",
    "b",
    "ab",
    "a/b",
    "a//b/c",
    "%",
    "_",
    "a%",
    "%b",
    "_b%",
    "%a_",
    "é",
    "É🙂",
    "ß",
    "it''s",
    " ",
    "5",
    "true",
    "a!b",
    "a\\_b",
    "\\",
    "image/png",
]
NUMERALS = ["0", "1", "2", "-1", "5", "7", "1000", "2147483647", "-2147483648", "2147483648", "9223372036854775807", "9223372036854775808"]
DECIMALS = ["0.0", "1.0", "1.50", "2.5", "-0.5", ".5", "5.", "1e3", "1.5e-3", "0.001", "3.3333", "12345678901234567890.5", "100000.00001"]
IDS = [ADA, BOB, NIL, ADA.upper(), "{" + BOB + "}", ADA.replace("-", "")]
TIMES = [
    "2026-11-20", "2026-11-20 10:34:05.123456", "2026-11-20T10:34:05.123456Z", "2026-11-20 10:34:05.5+02", "2024-02-29T23:59:59-05:30",
    "2026-01-31", "1970-01-01T00:00:00Z", "2026-11-20 12:00+00", "1999-12-31 23:59:59.999999+00:00",
]  # fmt: skip
INTERVALS = [
    "1 day",
    "24:00:00",
    "1 mon",
    "30 days",
    "2 hours 30 minutes",
    "-3 days",
    "01:30:00",
    "-00:00:01",
    "1 year 2 months",
    "1 week -1 day",
    "0 days",
]
LITERALS = {
    BOOLEAN: ["true", "false", "t", "f", "yes", "of", "1", " TRUE "],
    TEXT: WORDS,
    INT: NUMERALS[:9],
    BIGINT: NUMERALS,
    NUMERIC: NUMERALS + DECIMALS,
    UUID: IDS,
    TIME: TIMES,
    INTERVAL: INTERVALS,
    JSON: [
        "null",
        "true",
        "1",
        "1.0",
        "-2.50",
        '"a"',
        '""',
        "[]",
        "{}",
        '["a", 1]',
        '{"a": 1}',
        '{"b": {"c": null}, "a": [1]}',
        "[[]]",
        '["b"]',
    ],
}


class Part(NamedTuple):
    """An expression's text and how tightly its outermost operator binds."""

    text: str
    binds: int


class Writer:
    """Writes expressions, at most `depth` parts inside one another."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._forms: dict[str, list[Callable[[int], Part]]] = {
            BOOLEAN: [
                self._comparison, self._comparison, self._comparison, self._logic, self._logic, self._negation, self._test, self._distinct,
                self._between, self._membership, self._like, self._starts_with, self._has_key,
            ],
            TEXT: [self._concatenation, self._changed_case, self._split_part, self._text_of_metadata, self._text_of_metadata],
            INT: [self._arithmetic(INT), self._length, self._strpos, self._signed(INT)],
            BIGINT: [self._arithmetic(BIGINT), self._signed(BIGINT)],
            NUMERIC: [self._arithmetic(NUMERIC), self._arithmetic(NUMERIC), self._signed(NUMERIC)],
            UUID: [],
            TIME: [self._moved_time, self._moved_time],
            INTERVAL: [self._elapsed, self._elapsed, self._sum_of_intervals],
            JSON: [self._in_metadata, self._in_metadata, self._in_metadata],
        }  # fmt: skip
        for kind, forms in self._forms.items():
            forms += [self._case(kind), self._coalesce(kind), self._nullif(kind)]
            if kind not in (INTERVAL, JSON):
                forms.append(self._cast(kind))

    def _pick(self, *choices: T) -> T:
        return self._random.choice(choices)

    def _chance(self, of: int) -> bool:
        """True once in `of` times."""
        return self._random.randrange(of) == 0

    # ---- any type ------------------------------------------------------------------------------------
    def write(self, kind: str, depth: int) -> Part:
        """An expression of type `kind`, mostly."""
        if self._chance(100):
            return self._pick(self._column, self._typed_literal)(self._pick(*COLUMNS))
        if self._chance(30):
            return Part("NULL", ATOM)
        if depth <= 0 or self._chance(5):
            return self._leaf(kind)
        return self._pick(*self._forms[kind])(depth - 1)

    def _leaf(self, kind: str) -> Part:
        leaves = [self._literal, self._typed_literal]
        if kind in COLUMNS:
            leaves += [self._column] * 4
        if kind in (TEXT, TIME):
            leaves.append(self._of_caller)
        return self._pick(*leaves)(kind)

    def _column(self, kind: str) -> Part:
        column = self._pick(*COLUMNS[kind])
        return Part(f'"{column}"' if self._chance(20) else column, ATOM)

    def _of_caller(self, kind: str) -> Part:
        return Part("now()" if kind == TIME else self._pick("auth_uid()", "auth_role()", "auth_email()"), ATOM)

    def _literal(self, kind: str) -> Part:
        """A literal whose type what surrounds it decides, or one that a number's or boolean's own form decides."""
        value = self._pick(*LITERALS[kind])
        if kind in NUMBERS and not self._chance(4):
            return Part(value, SIGN if value.startswith("-") else ATOM)
        if kind == BOOLEAN and not self._chance(4):
            return Part(self._pick("true", "false", "TRUE"), ATOM)
        if kind == INTERVAL:
            return self._interval()
        return Part(f"'{value}'", ATOM)

    def _typed_literal(self, kind: str) -> Part:
        if kind == INTERVAL:
            return self._interval()
        if kind == JSON:
            return Part("user_metadata", ATOM) if self._chance(2) else self._literal(kind)
        return Part(f"'{self._pick(*LITERALS[kind])}'::{kind}", CAST)

    def _interval(self) -> Part:
        if self._chance(3):
            return Part(f"interval '{self._pick(*INTERVALS)}'", ATOM)
        parts = [f"{self._random.randint(-40, 40)} {self._pick(*UNITS)}" for _ in range(1 if self._chance(2) else 2)]
        return Part(f"interval '{' '.join(parts)}'", ATOM)

    def _within(self, binds: int, kind: str, depth: int) -> str:
        """An operand that must bind at least as tightly as `binds`."""
        part = self.write(kind, depth)
        needed = part.binds < binds
        # Only around booleans: elsewhere it would make operators that policies do not have, like jsonb || jsonb.
        if needed and part.binds <= COMPARISON and binds <= LIKE and self._chance(30):
            needed = False
        return f"({part.text})" if needed or self._chance(12) else part.text

    def _left(self, operator: str, binds: int, left: str, right: str, depth: int) -> Part:
        """Of an operator that groups to the left."""
        return Part(f"{self._within(binds, left, depth)} {operator} {self._within(binds + 1, right, depth)}", binds)

    def _between_equals(self, operator: str, binds: int, kind: str, depth: int) -> Part:
        """Of an operator that does not repeat: neither side may be of its kind."""
        return Part(f"{self._within(binds + 1, kind, depth)} {operator} {self._within(binds + 1, self._like_kind(kind), depth)}", binds)

    def _like_kind(self, kind: str) -> str:
        return self._pick(*NUMBERS) if kind in NUMBERS else kind

    def _any(self, kind: str, depth: int) -> str:
        return self.write(kind, depth).text

    def _call(self, function: str, depth: int, *kinds: str) -> Part:
        return Part(f"{function}({', '.join(self._any(kind, depth) for kind in kinds)})", ATOM)

    def _case(self, kind: str) -> Callable[[int], Part]:
        def write(depth: int) -> Part:
            tested = None if self._chance(2) else self._pick(*COMPARABLE)
            branches = []
            for _ in range(1 if self._chance(2) else 2):
                condition = self._any(BOOLEAN if tested is None else self._like_kind(tested), depth)
                branches.append(f"WHEN {condition} THEN {self._any(self._like_kind(kind), depth)}")
            subject = "" if tested is None else f"{self._any(tested, depth)} "
            default = "" if self._chance(3) else f" ELSE {self._any(self._like_kind(kind), depth)}"
            return Part(f"CASE {subject}{' '.join(branches)}{default} END", ATOM)

        return write

    def _coalesce(self, kind: str) -> Callable[[int], Part]:
        return lambda depth: self._call("COALESCE", depth, kind, *([self._like_kind(kind)] * self._random.randint(0, 2)))

    def _nullif(self, kind: str) -> Callable[[int], Part]:
        return lambda depth: self._call("NULLIF", depth, kind, self._like_kind(kind))

    def _cast(self, kind: str) -> Callable[[int], Part]:
        sources = {
            BOOLEAN: (TEXT, INT, JSON, BOOLEAN),
            TEXT: TYPES,
            INT: (TEXT, BIGINT, NUMERIC, BOOLEAN, JSON),
            BIGINT: (TEXT, INT, NUMERIC, JSON),
            NUMERIC: (TEXT, INT, BIGINT, JSON),
            UUID: (TEXT, UUID),
            TIME: (TEXT, TIME),
        }[kind]

        def write(depth: int) -> Part:
            source = self._pick(*sources)
            if self._chance(6):
                return Part(f"CAST({self._any(source, depth)} AS {kind})", ATOM)
            return Part(f"{self._within(CAST, source, depth)}::{kind}", CAST)

        return write

    # ---- booleans ------------------------------------------------------------------------------------
    def _comparison(self, depth: int) -> Part:
        return self._between_equals(self._pick(*COMPARISONS), COMPARISON, self._pick(*COMPARABLE), depth)

    def _logic(self, depth: int) -> Part:
        operator, binds = self._pick(("AND", AND), ("OR", OR))
        return self._left(operator, binds, BOOLEAN, BOOLEAN, depth)

    def _negation(self, depth: int) -> Part:
        return Part(f"NOT {self._within(NOT, BOOLEAN, depth)}", NOT)

    def _test(self, depth: int) -> Part:
        negation = self._pick("", "NOT ")
        if self._chance(2):
            return Part(f"{self._within(COMPARISON, self._pick(*TYPES), depth)} IS {negation}NULL", IS)
        return Part(f"{self._within(COMPARISON, BOOLEAN, depth)} IS {negation}{self._pick('TRUE', 'FALSE', 'UNKNOWN')}", IS)

    def _distinct(self, depth: int) -> Part:
        return self._between_equals(self._pick("IS DISTINCT FROM", "IS NOT DISTINCT FROM"), IS, self._pick(*COMPARABLE), depth)

    def _between(self, depth: int) -> Part:
        kind = self._pick(*COMPARABLE)
        low, high = (self._within(OPERATOR, self._like_kind(kind), depth) for _ in range(2))
        return Part(f"{self._within(OPERATOR, kind, depth)} {self._pick('', 'NOT ')}BETWEEN {low} AND {high}", LIKE)

    def _membership(self, depth: int) -> Part:
        kind = self._pick(*COMPARABLE)
        among = [self._any(self._like_kind(kind), depth if self._chance(4) else 0) for _ in range(self._random.randint(1, 3))]
        return Part(f"{self._within(OPERATOR, kind, depth)} {self._pick('', 'NOT ')}IN ({', '.join(among)})", LIKE)

    def _like(self, depth: int) -> Part:
        operator = self._pick("LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE")
        escape = f" ESCAPE {self._pick(*(repr(letter) for letter in ('!', '', 'a', '%', '_', '!!')))}" if self._chance(4) else ""
        pattern = self._pick(f"'{self._pick(*WORDS)}'", self._within(OPERATOR, TEXT, depth))
        return Part(f"{self._within(OPERATOR, TEXT, depth)} {operator} {pattern}{escape}", LIKE)

    def _starts_with(self, depth: int) -> Part:
        return self._call("starts_with", depth, TEXT, TEXT)

    def _has_key(self, depth: int) -> Part:
        return Part(f"{self._metadata(depth)} ? {self._within(SUM, TEXT, depth)}", OPERATOR)

    # ---- text ----------------------------------------------------------------------------------------
    def _concatenation(self, depth: int) -> Part:
        left, right = self._pick((TEXT, self._pick(*PRINTABLE)), (self._pick(*PRINTABLE), TEXT))
        return self._left("||", OPERATOR, left, right, depth)

    def _changed_case(self, depth: int) -> Part:
        return self._call(self._pick("lower", "upper"), depth, TEXT)

    def _split_part(self, depth: int) -> Part:
        field = self._pick("1", "2", "-1", "-2", "0", self._any(INT, depth))
        return Part(f"split_part({self._any(TEXT, depth)}, {self._pick(repr('/'), repr(''), self._any(TEXT, depth))}, {field})", ATOM)

    def _text_of_metadata(self, depth: int) -> Part:
        if self._chance(4):
            return Part(f"{self._metadata(depth)} #>> '{self._pick(*PATHS)}'", OPERATOR)
        return Part(f"{self._metadata(depth)} ->> {self._key(depth)}", OPERATOR)

    # ---- numbers -------------------------------------------------------------------------------------
    def _arithmetic(self, kind: str) -> Callable[[int], Part]:
        def write(depth: int) -> Part:
            operator, binds = self._pick(("+", SUM), ("-", SUM), ("*", PRODUCT), ("/", PRODUCT))
            other = {INT: INT, BIGINT: self._pick(INT, BIGINT), NUMERIC: self._pick(*NUMBERS)}[kind]
            left, right = self._pick((kind, other), (other, kind))
            return self._left(operator, binds, left, right, depth)

        return write

    def _signed(self, kind: str) -> Callable[[int], Part]:
        def write(depth: int) -> Part:
            operand = self._within(SIGN, kind, depth)
            # What has no type yet, + makes a float8, which policies do not have.
            typed = not operand.lstrip("(").startswith(("'", "NULL", "+"))
            return Part(f"{'+' if typed and self._chance(3) else '-'} {operand}", SIGN)

        return write

    def _length(self, depth: int) -> Part:
        return self._call("length", depth, TEXT)

    def _strpos(self, depth: int) -> Part:
        return self._call("strpos", depth, TEXT, TEXT)

    # ---- time ----------------------------------------------------------------------------------------
    def _moved_time(self, depth: int) -> Part:
        return self._left(self._pick("+", "-"), SUM, TIME, INTERVAL, depth)

    def _elapsed(self, depth: int) -> Part:
        return self._left("-", SUM, TIME, TIME, depth)

    def _sum_of_intervals(self, depth: int) -> Part:
        return self._left(self._pick("+", "-"), SUM, INTERVAL, INTERVAL, depth)

    # ---- metadata ------------------------------------------------------------------------------------
    def _in_metadata(self, depth: int) -> Part:
        return Part(f"{self._metadata(depth)} -> {self._key(depth)}", OPERATOR)

    def _metadata(self, depth: int) -> str:
        """To the left of an operator, where a literal has no type."""
        return self._within(OPERATOR, JSON, depth) if self._chance(3) else "user_metadata"

    def _key(self, depth: int) -> str:
        if self._chance(8):
            return self._within(SUM, self._pick(TEXT, INT), depth)
        return self._pick(*(f"'{key}'" for key in KEYS), "0", "1", "-1")


def expressions() -> SearchStrategy[str]:
    """Policies, from one seed each: drawn choice by choice they would be fewer, shorter and much slower to make."""
    written = st.randoms(use_true_random=True).map(lambda random: Writer(random).write(BOOLEAN, random.randint(1, 4)).text)
    return written.filter(lambda text: len(text.encode()) <= LONGEST)


# ---- rows and callers ----------------------------------------------------------------------------------
# No digits at random: as text they might be one of the dates that PostgreSQL reads and policies do not (`991231`).
_names = st.one_of(
    st.sampled_from([word.replace("''", "'") for word in WORDS] + TIMES + IDS + NUMERALS),
    st.text(st.sampled_from("aAbB/%_\\'\"é🙂 .-"), max_size=12),
    st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=8),
)
_numbers = st.one_of(
    st.integers(-10, 10).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(-1000, 1000, places=3).map(str),
    st.sampled_from(["1e3", "1E-3", "-0", "-0.0", "1.50", "2.5", "-2.5", "0.5", "1.5e+2", "2147483648", "9223372036854775808"]),
)
_scalars = st.one_of(
    st.sampled_from(["null", "true", "false"]),
    _numbers,
    _names.map(lambda name: json.dumps(name, ensure_ascii=False)),
    st.sampled_from(TIMES + IDS + NUMERALS + DECIMALS + ["yes", "off", "garbage"]).map(json.dumps),
)


def _nested(inner: SearchStrategy[str]) -> SearchStrategy[str]:
    items = st.lists(inner, max_size=3).map(lambda texts: f"[{', '.join(texts)}]")
    return items | _object(inner)


def _object(inner: SearchStrategy[str]) -> SearchStrategy[str]:
    pairs = st.lists(st.tuples(st.sampled_from(KEYS), inner), max_size=4)
    return pairs.map(lambda found: "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in found) + "}")


def metadata() -> SearchStrategy[str]:
    """JSON text; mostly an object, with the keys that expressions name."""
    anything = st.recursive(_scalars, _nested, max_leaves=6)
    return st.one_of(_object(anything), _object(anything), _object(anything), anything)


def instants() -> SearchStrategy[datetime]:
    near = st.timedeltas(timedelta(days=-3), timedelta(days=3)).map(lambda moved: datetime(2026, 11, 20, 12, tzinfo=UTC) + moved)
    return near | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001


def rows() -> SearchStrategy[Row]:
    """Objects, as the API keeps them."""
    times = instants().map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    ids = st.sampled_from([ADA, BOB, NIL])
    return st.fixed_dictionaries(
        {
            "id": ids | st.uuids().map(str),
            "name": _names,
            "bucket_id": _names,
            "size": st.sampled_from([0, 1, 2, 5, 7, 1000, 2**31 - 1, 2**31, 2**53 + 1, 2**62])
            | st.integers(0, 999)
            | st.integers(10**16, 2**62),
            "content_type": st.sampled_from(["image/png", "text/plain", "application/octet-stream", ""]),
            "checksum": st.none() | st.text(string.hexdigits, max_size=6),
            "owner_id": st.none() | ids,
            "user_metadata": st.one_of(st.none(), metadata(), metadata(), metadata()),
            "created_at": times,
            "updated_at": times,
        }
    )


def callers() -> SearchStrategy[Caller]:
    return st.builds(
        Caller,
        uid=st.none() | st.sampled_from([ADA, BOB, NIL, ADA.upper(), "someone"]),
        role=st.sampled_from(["anon", "authenticated", "editor", ""]),
        email=st.none() | st.sampled_from(["Ada@Example.com", "bob@example.com", ""]),
        now=instants(),
    )


# ---- examples ------------------------------------------------------------------------------------------
def drawn(strategy: SearchStrategy[T], count: int) -> list[T]:
    """Examples of a strategy, the same in every run."""
    found: list[T] = []

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def collect(example: T) -> None:
        found.append(example)

    collect()
    return found
