"""Percent-encoding (RFC 3986 §2.1), taken by its word."""

from urllib.parse import unquote


def percent_decoded(text: str) -> str | None:
    """`text` decoded once (`+` stays a plus, RFC 3986), or None when an escape is malformed or not UTF-8."""
    escapes = text.split("%")[1:]
    if any(len(escape) < 2 or not _is_hex(escape[:2]) for escape in escapes):
        return None
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return None


def _is_hex(pair: str) -> bool:
    return all(digit in "0123456789abcdefABCDEF" for digit in pair)
