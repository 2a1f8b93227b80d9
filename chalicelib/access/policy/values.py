"""PostgreSQL 15's types as Python values: what its input functions read and its output functions write.

bool: bool · int4, int8: int · numeric: Decimal, whose exponent is the display scale · text, uuid: str ·
timestamptz: microseconds since 1970 as int, or an infinite float · interval: (months, days, microseconds) ·
jsonb: what `json` gives, with Decimals for numbers. NULL is None everywhere and never gets here. The server is
in UTC with `COLLATE "C"`. Dates are read in their ISO 8601 forms; other forms are errors.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any

MAX_DIGITS = 1000
MAX_TEXT = 65_536
DAY = 86_400_000_000
MONTH_DAYS = 30
INT4 = range(-(2**31), 2**31)
INT8 = range(-(2**63), 2**63)
# 4713-11-24 BC to 294276 AD (PostgreSQL's datatype/timestamp.h), in microseconds since 1970.
TIMESTAMPS = range(-210_866_803_200_000_000, 9_224_318_016_000_000_000)
_SPACES = " \t\n\v\f\r"
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_CYCLE_DAYS = 146_097  # 400 years

Interval = tuple[int, int, int]


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


class EvaluationError(Exception):
    """PostgreSQL would raise here, so the row is denied. The message is for `explain`."""


def lower_ascii(text: str) -> str:
    """ASCII letters alone change: `COLLATE "C"`."""
    return text.translate(_LOWER)


# ---- boolean -------------------------------------------------------------------------------------------
def bool_in(text: str) -> bool:
    """`t`, `true`, `yes`, `on`, `1` and what else begins one of them unambiguously, and their opposites."""
    word = lower_ascii(text.strip(_SPACES))
    if word in ("1", "0"):
        return word == "1"
    for whole, shortest, value in _BOOLEANS:
        if len(word) >= shortest and whole.startswith(word):
            return value
    raise EvaluationError(f"{_quoted(text)} is not a boolean")


_BOOLEANS = (("true", 1, True), ("false", 1, False), ("yes", 1, True), ("no", 1, False), ("on", 2, True), ("off", 2, False))


def bool_out(value: bool) -> str:
    return "true" if value else "false"


# ---- numbers -------------------------------------------------------------------------------------------
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")
_NUMERIC = re.compile(r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:[eE]([+-]?[0-9]{1,6}))?")
_SPECIAL = re.compile(r"(?:nan|[+-]?inf(?:inity)?)", re.IGNORECASE | re.ASCII)
_EXACT = Context(prec=4 * MAX_DIGITS, Emax=10**6, Emin=-(10**6))


def int4_in(text: str) -> int:
    return int4(_integer(text, "integer"))


def int8_in(text: str) -> int:
    return int8(_integer(text, "bigint"))


def _integer(text: str, kind: str) -> int:
    match = _INTEGER.fullmatch(text)
    if match is None or len(text) > MAX_DIGITS:
        raise EvaluationError(f"{_quoted(text)} is not of type {kind}")
    return int(match[1])


def int4(value: int) -> int:
    """The value; raises EvaluationError where it does not fit."""
    if value not in INT4:
        raise EvaluationError("integer out of range")
    return value


def int8(value: int) -> int:
    """The value; raises EvaluationError where it does not fit."""
    if value not in INT8:
        raise EvaluationError("bigint out of range")
    return value


def numeric_in(text: str) -> Decimal:
    word = text.strip(_SPACES)
    if _SPECIAL.fullmatch(word):
        return Decimal(word)
    match = _NUMERIC.fullmatch(word)
    if match is None:
        raise EvaluationError(f"{_quoted(text)} is not of type numeric")
    whole, fraction, exponent = match[2] or "", match[3] or match[4] or "", int(match[5] or 0)
    if max(len(whole.lstrip("0")) + exponent, 0) + max(len(fraction) - exponent, 0) > MAX_DIGITS or len(word) > 2 * MAX_DIGITS:
        raise EvaluationError(f"a number has at most {MAX_DIGITS} digits")
    return numeric(Decimal(word))


def numeric(value: Decimal) -> Decimal:
    """The value with a scale that PostgreSQL shows: no positive exponent, no negative zero, at most 1,000 digits."""
    if not value.is_finite():
        return value
    exponent = value.as_tuple().exponent
    if max(value.adjusted() + 1, 0) + max(-int(exponent), 0) > MAX_DIGITS:  # as numeric_in counts, which reads constants back
        raise EvaluationError(f"a number has at most {MAX_DIGITS} digits")
    if int(exponent) > 0:
        value = value.quantize(Decimal(1), context=_EXACT)
    return value if value else value.copy_abs()


def numeric_out(value: Decimal) -> str:
    if value.is_finite():
        return f"{value:f}"
    return "NaN" if value.is_nan() else "Infinity" if value > 0 else "-Infinity"


def numeric_to_int(value: Decimal) -> int:
    """Rounded half away from zero; raises EvaluationError for NaN and infinities."""
    if not value.is_finite():
        raise EvaluationError("NaN and infinities are no integers")
    return int(value.quantize(Decimal(1), rounding=ROUND_HALF_UP, context=_EXACT))


def numeric_order(value: Decimal) -> tuple[bool, Decimal]:
    """A key by which numerics sort: NaN is equal to itself and above everything."""
    return (True, Decimal(0)) if value.is_nan() else (False, value)


def add(left: Decimal, right: Decimal) -> Decimal:
    return _special(Context.add, left, right) or numeric(_EXACT.add(left, right))


def subtract(left: Decimal, right: Decimal) -> Decimal:
    return _special(Context.subtract, left, right) or numeric(_EXACT.subtract(left, right))


def multiply(left: Decimal, right: Decimal) -> Decimal:
    return _special(Context.multiply, left, right) or numeric(_EXACT.multiply(left, right))


def _special(operation: Callable[[Context, Decimal, Decimal], Decimal], left: Decimal, right: Decimal) -> Decimal | None:
    if left.is_finite() and right.is_finite():
        return None
    try:
        return operation(_EXACT, left, right)
    except InvalidOperation:  # infinity less infinity, infinity times zero
        return Decimal("NaN")


def divide(left: Decimal, right: Decimal) -> Decimal:
    """The quotient at the scale that numeric_div chooses: at least 16 significant digits (select_div_scale)."""
    if left.is_nan() or right.is_nan() or (left.is_infinite() and right.is_infinite()):
        return Decimal("NaN")
    if not right:
        raise EvaluationError("division by zero")
    if right.is_infinite():
        return Decimal(0)
    if left.is_infinite():
        return left if right > 0 else -left
    scale = _quotient_scale(left, right)
    (numerator, left_scale), (denominator, right_scale) = _unscaled(left), _unscaled(right)
    shift = scale + right_scale - left_scale
    numerator, denominator = (numerator * 10**shift, denominator) if shift >= 0 else (numerator, denominator * 10**-shift)
    quotient = (2 * abs(numerator) + abs(denominator)) // (2 * abs(denominator))
    sign = -1 if (numerator < 0) != (denominator < 0) else 1
    return numeric(Decimal(sign * quotient).scaleb(-scale, context=_EXACT))


def _quotient_scale(left: Decimal, right: Decimal) -> int:
    (left_weight, left_first), (right_weight, right_first) = _leading(left), _leading(right)
    weight = left_weight - right_weight - (left_first <= right_first)
    return min(max(16 - weight * 4, _scale(left), _scale(right), 0), MAX_DIGITS)


def _leading(value: Decimal) -> tuple[int, int]:
    """The power of 10,000 of the first digit in base 10,000, and that digit: PostgreSQL counts in these."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    return weight, int(value.copy_abs().scaleb(-4 * weight, context=_EXACT))


def _scale(value: Decimal) -> int:
    return -int(value.as_tuple().exponent)


def _unscaled(value: Decimal) -> tuple[int, int]:
    scale = _scale(value)
    return int(value.scaleb(scale, context=_EXACT)), scale


# ---- uuid ----------------------------------------------------------------------------------------------
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID = re.compile(r"(\{)?((?:[0-9a-f]{4}-?){7}[0-9a-f]{4})(?(1)\})", re.IGNORECASE | re.ASCII)


def uuid_in(text: str) -> str:
    if _CANONICAL_UUID.fullmatch(text):
        return text
    match = _UUID.fullmatch(text)
    if match is None:
        raise EvaluationError(f"{_quoted(text)} is not a uuid")
    digits = match[2].replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


# ---- timestamptz ---------------------------------------------------------------------------------------
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:(?:T| +)([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]{0,12})?)? *(?:(Z|UTC|GMT)|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?",
    re.IGNORECASE | re.ASCII,
)


def timestamptz_in(text: str) -> int | float:
    word = text.strip(_SPACES)
    special = {"infinity": math.inf, "-infinity": -math.inf, "epoch": 0}.get(lower_ascii(word))
    if special is not None:
        return special
    match = _TIMESTAMP.fullmatch(word)
    if match is None:
        raise EvaluationError(f"{_quoted(text)} is not a timestamp in a form of ISO 8601, such as 2026-11-20 10:34:05+00")
    try:
        days = date(int(match[1]), int(match[2]), int(match[3])).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise EvaluationError(f"{_quoted(text)}: {error}") from None
    hour, minute, second = (int(part or 0) for part in match.group(4, 5, 6))
    micros = round(float(match[7] or 0) * 1e6) if match[7] not in (None, ".") else 0
    if minute > 59 or second > 60 or (second == 60 and micros) or hour > 24 or (hour == 24 and (minute or second or micros)):
        raise EvaluationError(f"{_quoted(text)} has a time out of range")
    offset = 60 * int(match[10] or 0) + int(match[11] or 0)
    if offset >= 16 * 60 or int(match[11] or 0) > 59:
        raise EvaluationError(f"{_quoted(text)} has a time zone out of range")
    minutes = hour * 60 + minute + (offset if match[9] == "-" else -offset)
    return days * DAY + minutes * 60_000_000 + second * 1_000_000 + micros


def moment_micros(moment: datetime) -> int:
    """A moment as timestamptz."""
    return (moment - _EPOCH) // _MICROSECOND


def timestamptz_out(value: int | float) -> str:
    if isinstance(value, float):
        return "infinity" if value > 0 else "-infinity"
    days, micros = divmod(value, DAY)
    year, month, day = _civil(days)
    era = "" if year > 0 else " BC"
    shown = year if year > 0 else 1 - year
    return f"{shown:04}-{month:02}-{day:02} {_clock(micros)}+00{era}"


def _clock(micros: int) -> str:
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return text + f".{fraction:06}".rstrip("0") if fraction else text


def _civil(days: int) -> tuple[int, int, int]:
    """Year (0 is 1 BC), month and day of a day since 1970, in any year: the calendar repeats every 400."""
    cycles, ordinal = divmod(days + _EPOCH_DAY - 1, _CYCLE_DAYS)
    found = date.fromordinal(ordinal + 1)
    return found.year + 400 * cycles, found.month, found.day


def _days(year: int, month: int, day: int) -> int:
    cycles, within = divmod(year - 1, 400)
    return date(within + 1, month, day).toordinal() - _EPOCH_DAY + cycles * _CYCLE_DAYS


def _timestamp(micros: int) -> int:
    if micros not in TIMESTAMPS:
        raise EvaluationError("timestamp out of range")
    return micros


def add_interval(moment: int | float, interval: Interval) -> int | float:
    """Months first, to the last day of a shorter one; then days; then time."""
    if isinstance(moment, float):
        return moment
    months, days, micros = interval
    if months:  # the calendar is asked for these alone
        since, time = divmod(moment, DAY)
        year, month, day = _civil(since)
        year, month = divmod(year * 12 + month - 1 + months, 12)
        last = (_days(*_next_month(year, month + 1)) - _days(year, month + 1, 1)) if day > 28 else 28
        moment = _timestamp(_days(year, month + 1, min(day, last)) * DAY + time)
    if days:
        moment = _timestamp(moment + days * DAY)
    return _timestamp(moment + micros) if micros else moment


def _next_month(year: int, month: int) -> tuple[int, int, int]:
    """The first day of the month after this one."""
    return (year + 1, 1, 1) if month == 12 else (year, month + 1, 1)


def difference(left: int | float, right: int | float) -> Interval:
    if isinstance(left, float) or isinstance(right, float):
        raise EvaluationError("infinite timestamps cannot be subtracted")
    micros = left - right
    days = abs(micros) // DAY * (1 if micros >= 0 else -1)
    return 0, days, micros - days * DAY


# ---- interval ------------------------------------------------------------------------------------------
_UNITS = {
    name: unit
    for unit, names in {
        (12, 0, 0): "y yr yrs year years",
        (1, 0, 0): "mon mons month months",
        (0, 7, 0): "w week weeks",
        (0, 1, 0): "d day days",
        (0, 0, 3_600_000_000): "h hr hrs hour hours",
        (0, 0, 60_000_000): "m min mins minute minutes",
        (0, 0, 1_000_000): "s sec secs second seconds",
    }.items()
    for name in names.split()
}
_HOUR, _MINUTE, _SECOND = _UNITS["h"], _UNITS["m"], _UNITS["s"]
_BETWEEN_WORDS = re.compile(f"[{_SPACES}]+")
_INTERVAL_CLOCK = re.compile(r"([+-]?)([0-9]{1,9}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?")
_INTERVAL_NUMBER = re.compile(r"([+-]?)([0-9]{1,18})(?:\.([0-9]{1,6}))?([a-z]*)")


def interval_in(text: str) -> Interval:
    """`1 day`, `2 hours 30 minutes`, `-3 days`, `1 mon 01:30:00`, `3 days ago`, `90`; other forms are errors."""
    refused = EvaluationError(f"{_quoted(text)} is not an interval such as '1 day' or '2 hours 30 minutes'")
    words = [word for word in _BETWEEN_WORDS.split(lower_ascii(text)) if word]
    ago = len(words) > 1 and words[-1] == "ago"
    total, seen, words = [0, 0, 0], set[Any](), words[:-1] if ago else words
    while words:
        clock = _INTERVAL_CLOCK.fullmatch(words[0])
        number = None if clock else _INTERVAL_NUMBER.fullmatch(words[0])
        words = words[1:]
        if clock:
            units, part = {_HOUR, _MINUTE, _SECOND}, _clock_part(clock)
        elif number:
            named = number[4] or (words.pop(0) if words else "")
            # A number alone, at the end, is seconds.
            unit = _UNITS.get(named) if named else None if ago else _SECOND
            if unit is None or (number[3] and not unit[2]):
                raise refused
            units, part = {unit}, _unit_part(number, unit)
        else:
            raise refused
        if seen & units:
            raise refused
        seen |= units
        total = [whole + more for whole, more in zip(total, part, strict=True)]
    if not seen:
        raise refused
    months, days, micros = (-each for each in total) if ago else total
    return int4(months), int4(days), int8(micros)


def _clock_part(match: re.Match[str]) -> Interval:
    hours, minutes, seconds = (int(part or 0) for part in match.group(2, 3, 4))
    if minutes > 59 or seconds > 59:
        raise EvaluationError("an interval has a time out of range")
    micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((match[5] or "").ljust(6, "0"))
    return 0, 0, -micros if match[1] == "-" else micros


def _unit_part(match: re.Match[str], unit: Interval) -> Interval:
    sign = -1 if match[1] == "-" else 1
    fraction = int((match[3] or "").ljust(6, "0")) * unit[2] // 1_000_000
    months, days, micros = (sign * int(match[2]) * each for each in unit)
    return months, days, micros + sign * fraction


def interval_out(value: Interval) -> str:
    months, days, micros = value
    years = abs(months) // 12 * (1 if months >= 0 else -1)
    shown, before = "", False
    for number, unit in ((years, "year"), (months - 12 * years, "mon"), (days, "day")):
        if number:
            shown += f"{' ' if shown else ''}{'+' if before and number > 0 else ''}{number} {unit}{'' if number == 1 else 's'}"
            before = number < 0
    if micros or not shown:
        sign = "-" if micros < 0 else "+" if before else ""
        shown += f"{' ' if shown else ''}{sign}{_clock(abs(micros))}"
    return shown


def interval_order(value: Interval) -> int:
    """Microseconds, a month having 30 days: how intervals compare."""
    months, days, micros = value
    return (months * MONTH_DAYS + days) * DAY + micros


def combine(left: Interval, right: Interval, sign: int) -> Interval:
    """`left + sign * right`, part by part."""
    months, days, micros = (one + sign * other for one, other in zip(left, right, strict=True))
    return int4(months), int4(days), int8(micros)


# ---- jsonb ---------------------------------------------------------------------------------------------
def jsonb_in(text: str) -> Any:
    try:
        value = json.loads(text, parse_int=numeric_in, parse_float=numeric_in, parse_constant=_no_constant)
        if "\\u" in text:  # only an escape can make a lone surrogate, or the character that no text holds
            json.dumps(value, ensure_ascii=False, default=str).encode()
        if not _NUL.search(text):
            return value
    except (ValueError, RecursionError):
        pass
    raise EvaluationError(f"{_quoted(text)} is not JSON")


# No text of PostgreSQL holds this character.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def jsonb_out(value: Any) -> str:
    """Keys by length, then by bytes; a space after each comma and colon."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json_text(key)}: {jsonb_out(value[key])}" for key in sorted(value, key=_key_order)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(jsonb_out, value)) + "]"
    if isinstance(value, Decimal):
        return numeric_out(value)
    return _json_text(value)


def _json_text(value: str | bool | None) -> str:
    return json.dumps(value, ensure_ascii=False)


def _key_order(key: str) -> tuple[int, bytes]:
    raw = key.encode()
    return len(raw), raw


_JSON_RANKS: dict[type, int] = {type(None): 0, str: 1, Decimal: 2, bool: 3, list: 4, dict: 5}


def jsonb_compare(left: Any, right: Any) -> int:
    """Below, at or above zero, as compareJsonbContainers decides: by kind, then size, then member by member.

    A scalar counts as an array of one, which is why an empty array lies below every scalar.
    """
    if isinstance(left, list | dict) != isinstance(right, list | dict):
        return _scalar_against_container(left, right)
    return _compare(left, right)


def _scalar_against_container(left: Any, right: Any) -> int:
    left_is_scalar = not isinstance(left, list | dict)
    container = right if left_is_scalar else left
    below = -1 if isinstance(container, dict) or len(container) >= 1 else 1
    return below if left_is_scalar else -below


def _compare(left: Any, right: Any) -> int:
    ranks = _JSON_RANKS[type(left)], _JSON_RANKS[type(right)]
    if ranks[0] != ranks[1]:
        return _sign(*ranks)
    if isinstance(left, list):
        return _sign(len(left), len(right)) or next(
            (found for one, other in zip(left, right, strict=True) if (found := _compare(one, other))), 0
        )
    if isinstance(left, dict):
        return _sign(len(left), len(right)) or _compare_objects(left, right)
    if isinstance(left, str):
        return _sign(left, right)
    return 0 if left is None else _sign(left, right)


def _compare_objects(left: dict[str, Any], right: dict[str, Any]) -> int:
    for one, other in zip(sorted(left, key=_key_order), sorted(right, key=_key_order), strict=True):
        found = _sign(one, other) or _compare(left[one], right[other])
        if found:
            return found
    return 0


def _sign(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


def jsonb_field(value: Any, key: str | int) -> Any:
    """What `->` finds: (found,) or () where there is nothing, so that JSON's null differs from NULL."""
    if isinstance(key, str):
        return (value[key],) if isinstance(value, dict) and key in value else ()
    members = members_of(value)
    return (members[key],) if -len(members) <= key < len(members) else ()


def members_of(value: Any) -> list[Any]:
    """An array's members; a scalar is an array of one, an object has none."""
    return value if isinstance(value, list) else [] if isinstance(value, dict) else [value]


def jsonb_text(value: Any) -> str | None:
    """What `->>` shows: a text without quotes, NULL for JSON's null."""
    return value if isinstance(value, str) or value is None else jsonb_out(value)


def jsonb_scalar(value: Any, kind: type, name: str) -> Any:
    """The scalar that a cast takes from jsonb; raises EvaluationError for any other kind of value."""
    if type(value) is not kind:
        raise EvaluationError(f"cannot cast this JSON value to type {name}")
    return value


_ARRAY_ELEMENT = re.compile(
    r'\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^\s"{},\\]|\\.)(?:(?:[^"{},\\]|\\.)*(?:[^\s"{},\\]|\\.))?))\s*([,}])', re.DOTALL
)


def text_array_in(text: str) -> list[str | None]:
    """A one-dimensional `{a,"b c",NULL}`."""
    word = text.strip(_SPACES)
    if re.fullmatch(r"\{\s*\}", word):
        return []
    elements: list[str | None] = []
    position, end = 1, "," if word.startswith("{") else ""
    while end == ",":
        match = _ARRAY_ELEMENT.match(word, position)
        if match is None:
            break
        raw = match[1] if match[1] is not None else match[2]
        is_null = match[1] is None and raw.upper() == "NULL"
        elements.append(None if is_null else re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL))
        position, end = match.end(), match[3]
    if end != "}" or position != len(word):
        raise EvaluationError(f"{_quoted(text)} is not a path such as '{{a,b}}'")
    return elements


def _quoted(text: str) -> str:
    return f"'{text[:40]}{'…' if len(text) > 40 else ''}'"
