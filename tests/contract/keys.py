"""Keys as the core makes them, from the names that it lets through."""

import uuid

from hypothesis import strategies as st

from chalicelib import seam
from chalicelib.core import names
from chalicelib.errors import InvalidName

NASTY_NAMES = [
    "with space",
    " leading and  double",
    "plus+plus",
    "slash%2Fslash",
    "percent%25percent",
    "100%",
    "%zz",
    "double//slash",
    "triple///slash",
    "folder/",
    "folder//",
    ".hidden",
    "..hidden",
    "...",
    "a/.b/..c",
    "ünïcödé/日本語/🙂",
    "e\u0301 is not \u00e9",
    "\u00e9 is not e\u0301",
    "quote\"'`",
    "amp&amp;<tag>",
    "semi;colon=equals,comma",
    "star*(bracket)[square]{curly}",
    "tilde~tilde^caret|pipe",
    "colon:at@bang!dollar$",
    "\u2028\u2029\u00a0\ufeff",
    "\U0010ffff",
    "s" * 200,
    "é" * 100,
    "/".join(["n" * 200] * 3),
]
_LETTERS = st.sampled_from("ab.%+~ /-_2F&\u00e9\u65e5\U0001f642\ue000\uffff'\"<") | st.characters(exclude_categories=["Cs", "Cc"])


def _passes(name: str) -> bool:
    try:
        return bool(names.check_object_name(name))
    except InvalidName:
        return False


object_names = st.text(_LETTERS, min_size=1, max_size=24).filter(_passes)
NASTY_NAMES = [name for name in NASTY_NAMES if _passes(name)]


def fresh_folder() -> str:
    return f"objects/{uuid.uuid4()}/"


def physical(folder: str, name: str) -> str:
    """`name` below `folder`, with the version that keeps an object from being another's folder."""
    return f"{folder}{name}~{seam.new_version()}"
