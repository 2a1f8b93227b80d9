"""Objects and callers that policies are asked about. A row is as the API keeps it: ids and times are text."""

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

Row = dict[str, Any]

ADA = "6f1c9a52-7d0e-4b6a-9c3f-0a1b2c3d4e5f"
BOB = "0b6e4c1d-2a3f-4e5d-8c7b-6a5948372615"
NIL = "00000000-0000-0000-0000-000000000000"


class Caller(NamedTuple):
    """Who asks, and when."""

    uid: str | None
    role: str
    email: str | None
    now: datetime


NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
# Rows and expressions mostly differ by row, so the first two callers see all expressions; the rest those about callers.
CALLERS = [
    Caller(ADA, "authenticated", "Ada@Example.com", NOON),
    Caller(None, "anon", None, datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC)),
    Caller(BOB, "authenticated", "bob@example.com", datetime(2026, 11, 20, 10, 34, 5, 123456, tzinfo=UTC)),
    Caller(ADA.upper(), "authenticated", "ada@example.com", NOON),
    Caller("{" + BOB + "}", "editor", "b_b%@example.com", NOON),
    Caller("someone", "authenticated", "", NOON),
    Caller("", "", "ünï@example.com", NOON),
    Caller(NIL, "service_role", None, datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
]

_places = iter(range(1, 1000))


def row(**columns: Any) -> Row:
    """An object; metadata may be given as what the JSON says."""
    place = next(_places)
    made = {
        "id": f"018f3c2e-0000-7000-8000-{place:012x}",
        "name": f"folder/photo {place}.png",
        "bucket_id": "b-documents",
        "size": 1000,
        "content_type": "image/png",
        "checksum": "9e107d9d372bb6826bd81d3542a419d6",
        "owner_id": ADA,
        "user_metadata": None,
        "created_at": "2026-11-20T10:34:05.123456Z",
        "updated_at": "2026-11-20T11:34:05.123456Z",
    } | columns
    if made["user_metadata"] is not None and not isinstance(made["user_metadata"], str):
        made["user_metadata"] = json.dumps(made["user_metadata"], ensure_ascii=False)
    return made


ROWS = [
    row(),
    row(checksum=None, owner_id=None, user_metadata=None),
    row(owner_id=BOB, user_metadata={}),
    row(owner_id=NIL, name="a", size=0),
    row(name="100%_sure", size=1),
    row(name="back\\slash"),
    row(name="it's \"quoted\"", size=2),
    row(name="ÄÖÜ/größe/日本語/🙂.TXT", content_type="text/plain; charset=utf-8"),
    row(name="éa", size=5, checksum=""),
    row(name=" ", content_type=""),
    row(name="l" * 900 + "/" + "o" * 99, size=2**31 - 1),
    row(name="ADMIN/Report.PDF", bucket_id="B-Documents", content_type="application/pdf", size=2**31),
    row(name="admin/report.pdf", bucket_id="5", size=2**53 + 1),
    row(name="5", size=5, user_metadata={"n": 5, "size": 5}),
    row(name="true", size=2**62, user_metadata={"flag": True, "public": "true"}),
    row(name="2026-11-20", size=10, checksum="2026-11-20T10:34:05Z", user_metadata={"until": "2026-12-31T23:59:59+02:00"}),
    row(name=ADA, size=-0, checksum=ADA.upper(), user_metadata={"owner": ADA, "owners": [ADA, BOB]}),
    row(name="a/b/c/d", size=1024, user_metadata={"a": {"b": {"c": "d"}}}),
    row(name="a//b", user_metadata={"a": {"b": [1, 2, {"c": [True, None]}]}}),
    row(name="a%b", user_metadata={"a": None}),
    row(name="a_b", user_metadata={"a": "text", "b": ""}),
    row(name="aXb", user_metadata={"a": 1, "b": -1, "n": 0}),
    row(name="x", user_metadata='{"a": 1.50, "n": 1.5, "b": 1.5000, "c": -0.0, "d": -0}'),
    row(name="x", user_metadata='{"a": 1e3, "n": 1E-3, "b": 1.5e+2, "c": 12345678901234567890.123456789}'),
    row(name="x", user_metadata='{"n": 2147483648, "a": 9223372036854775808, "b": 2.5, "c": -2.5}'),
    row(name="y", user_metadata={"n": "5", "a": " 42 ", "b": "+7", "c": "-0", "d": "4.50", "e": "1e2"}),
    row(name="y", user_metadata={"n": "five", "a": "1_000", "b": "0x1F", "c": "٣", "d": "1.5.2", "e": "--1"}),
    row(name="y", user_metadata={"flag": "yes", "a": "TRUE", "b": " off ", "c": "o", "d": "maybe", "public": "1"}),
    row(name="z", user_metadata={"flag": False, "public": "f", "a": True, "b": False, "n": True}),
    row(name="z", user_metadata={"flag": 1, "public": None, "n": None}),
    row(name="z", user_metadata={"owner": BOB.upper(), "until": "2026-11-20 12:00:00", "n": "2026"}),
    row(name="z", user_metadata={"owner": "{" + ADA.replace("-", "") + "}", "until": "2026-11-20T12:00:00.1234567Z"}),
    row(name="z", user_metadata={"owner": "not a uuid", "until": "2026-02-30", "n": ""}),
    row(name="t", user_metadata={"tags": ["a", "b", "ä"], "a": [], "b": {}, "n": [1, 2.0, "3", None, True, [4], {"k": 5}]}),
    row(name="t", user_metadata={"tags": "a", "a": [[]], "b": {"tags": []}}),
    row(name="t", user_metadata={"tags": {"a": 1, "b": None}, "a": {"k": "v", "longer": [1]}, "b": {"k": "v", "longer": [2]}}),
    row(name="j", user_metadata=["a", 1, None, {"a": "in"}, ["b"]]),
    row(name="j", user_metadata=[]),
    row(name="j", user_metadata="null"),
    row(name="j", user_metadata='"a"'),
    row(name="j", user_metadata="12.30"),
    row(name="j", user_metadata="true"),
    row(
        name="k",
        user_metadata={'q"uote': 'say "hi"', "back\\slash": "a\\b", "line\nfeed": "\t\n\r\b\f\u0001\u007f", "ü": "日本🙂", "/": "</a>"},
    ),
    row(name="k", user_metadata='{"zz": 1, "a": 1, "bbb": 2, "b": 3, "aa": 4, "A": 5, "": 6, "a": 7}'),
    row(created_at="2024-02-29T23:59:59.999999Z", updated_at="2026-11-20T10:34:05Z", size=7),
    row(created_at="2026-11-19T12:00:00.000000Z", updated_at="2026-11-20T12:00:00.000000Z"),
    row(created_at="2026-11-20T12:00:00.500000Z", updated_at="2026-11-20T12:00:00.000000Z", size=3),
    row(created_at="1970-01-01T00:00:00.000001Z", updated_at="2026-03-31T10:00:00Z", owner_id=None, size=4),
]  # fmt: skip
