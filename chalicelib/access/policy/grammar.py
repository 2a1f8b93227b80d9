"""PostgreSQL's expression grammar, the part of it that policies may use: text in, syntax tree out.

Tokens follow scan.l and precedence gram.y of PostgreSQL 15. What the language leaves out (subqueries, regular
expressions, arrays, parameters) is refused where it stands, with its position.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from chalicelib.errors import InvalidPolicy

MAX_BYTES = 4096
MAX_DEPTH = 64


class Syntax(NamedTuple):
    """A node: its `kind`, where it stands in the source, a `value` (name, operator, text), and its parts."""

    kind: str
    start: int
    end: int
    value: str = ""
    parts: "tuple[Syntax, ...]" = ()


class _Token(NamedTuple):
    kind: str  # word, name (quoted), string, number, operator, end
    value: str
    start: int
    end: int


# ---- tokens --------------------------------------------------------------------------------------------
# A letter is said by what it is not: every character beyond ASCII is one.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"
_TOKEN = re.compile(
    r"(?P<space>(?:[ \t\n\r\f]|--[^\n\r]*)+)"
    r"|(?P<comment>/\*)"
    r"|(?P<unsupported>[eEbBxXnN]'|[uU]&['\"]|\$[A-Za-z0-9_]*\$|\$[0-9])"
    rf"|(?P<word>{_LETTER}(?:{_LETTER}|[0-9$])*)"
    r'|(?P<name>"(?:[^"]|"")+")'
    r"|(?P<string>'(?:[^']|'')*'(?:(?:[ \t\f]|--[^\n\r]*)*+[\n\r](?:[ \t\n\r\f]|--[^\n\r]*)*+'(?:[^']|'')*')*)"
    r"|(?P<number>(?:[0-9]+(?:\.(?!\.)[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<operator>[+\-*/<>=~!@#%^&|`?]+)"
    r"|(?P<self>::|[(),\[\].;:])"
)
_STRING_PART = re.compile(r"'((?:[^']|'')*)'|--[^\n\r]*")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_COMMENT_START = re.compile(r"--|/\*")
_UPPER_LETTERS = re.compile("[A-Z]+")
_TAIL_OF_NUMBER = re.compile(rf"{_LETTER}|\.")
_NO_CHARACTER = re.compile("[\0\ud800-\udfff]")
_OPERATOR_CHARACTERS = frozenset("+-*/<>=~!@#%^&|`?")
_MAY_END_IN_SIGN = frozenset("~!@#%^&|`?")


def _tokens(source: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            what = "this string is not closed" if source[position] in "'\"" else f"{source[position]!r} is not expected here"
            raise InvalidPolicy(what, position)
        kind = match.lastgroup
        if kind == "space":
            position = match.end()
        elif kind == "comment":
            position = _end_of_comment(source, position)
        else:
            found.append(_READERS[str(kind)](match))
            position = found[-1].end
    return [*found, _Token("end", "", len(source), len(source))]


def _end_of_comment(source: str, position: int) -> int:
    depth = 0
    for match in _COMMENT_EDGE.finditer(source, position):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    raise InvalidPolicy("this comment is not closed", position)


def _unsupported(match: re.Match[str]) -> _Token:
    raise InvalidPolicy("only plain '…' strings are supported", match.start())


def _word(match: re.Match[str]) -> _Token:
    lower = _UPPER_LETTERS.sub(lambda letters: letters[0].lower(), match[0])  # ASCII alone, as in a UTF-8 database
    return _Token("word", lower, *match.span())


def _name(match: re.Match[str]) -> _Token:
    return _Token("name", match[0][1:-1].replace('""', '"'), *match.span())


def _string(match: re.Match[str]) -> _Token:
    text = "".join(part[1].replace("''", "'") for part in _STRING_PART.finditer(match[0]) if part[1] is not None)
    return _Token("string", text, *match.span())


def _number(match: re.Match[str]) -> _Token:
    if _TAIL_OF_NUMBER.match(match.string, match.end()):
        raise InvalidPolicy("a number is followed by something that is not part of it", match.end())
    return _Token("number", match[0], *match.span())


def _operator(match: re.Match[str]) -> _Token:
    text = _COMMENT_START.split(match[0])[0]
    if not _MAY_END_IN_SIGN.intersection(text):
        text = text[0] + text[1:].rstrip("+-")
    return _Token("operator", "<>" if text == "!=" else text, match.start(), match.start() + len(text))


def _self(match: re.Match[str]) -> _Token:
    return _Token("operator", match[0], *match.span())


_READERS: dict[str, Callable[[re.Match[str]], _Token]] = {
    "unsupported": _unsupported,
    "word": _word,
    "name": _name,
    "string": _string,
    "number": _number,
    "operator": _operator,
    "self": _self,
}

# ---- precedence, lowest first (gram.y) -----------------------------------------------------------------
_OR, _AND, _NOT, _IS, _COMPARISON, _LIKE, _OTHER, _SUM, _PRODUCT, _SIGN, _CAST = range(1, 12)
_COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">="})
_OTHERS = frozenset({"||", "->", "->>", "#>>", "?"})
_BINARY = dict.fromkeys(_COMPARISONS, _COMPARISON) | dict.fromkeys(_OTHERS, _OTHER) | {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT}
_WORDS = {"or": _OR, "and": _AND, "is": _IS, "in": _LIKE, "like": _LIKE, "ilike": _LIKE, "between": _LIKE}
# Words that cannot name a column or function unless quoted (kwlist.h: reserved, as far as they could stand here).
_RESERVED = (
    "all and any array as between case cast check collate distinct else end false for from group having ilike in into is isnull like"
    " limit not notnull null or order select similar some then to true union unique user using when where with"
)
_RESERVED_WORDS = frozenset(_RESERVED.split())
_TYPES = {
    "text": "text",
    "int": "int4",
    "integer": "int4",
    "int4": "int4",
    "bigint": "int8",
    "int8": "int8",
    "numeric": "numeric",
    "decimal": "numeric",
    "dec": "numeric",
    "boolean": "bool",
    "bool": "bool",
    "uuid": "uuid",
    "timestamptz": "timestamptz",
    "timestamp": "timestamptz",
    "interval": "interval",
}


def parse(source: str) -> Syntax:
    """The syntax tree of an expression; raises InvalidPolicy."""
    if len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidPolicy(f"a definition has at most {MAX_BYTES} bytes", 0)
    if wrong := _NO_CHARACTER.search(source):
        raise InvalidPolicy("this is not a character that text can hold", wrong.start())
    parser = _Parser(_tokens(source))
    expression = parser.expression(0)
    parser.expect_end()
    return expression


class _Parser:
    """Precedence climbing over the tokens."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    # ---- walking ---------------------------------------------------------------------------------------
    @property
    def _here(self) -> _Token:
        return self._tokens[self._position]

    def _advance(self) -> _Token:
        token = self._here
        self._position += 1
        return token

    def _is(self, *values: str) -> bool:
        return self._here.kind in ("word", "operator") and self._here.value in values

    def _take(self, *values: str) -> bool:
        """Step over these tokens if they come next, one after the other."""
        coming = self._tokens[self._position : self._position + len(values)]
        if [token.value for token in coming if token.kind in ("word", "operator")] != list(values):
            return False
        self._position += len(values)
        return True

    def _expect(self, value: str) -> _Token:
        if not self._is(value):
            raise self._unexpected(f"{value.upper()} is expected here")
        return self._advance()

    def expect_end(self) -> None:
        if self._here.kind != "end":
            raise self._unexpected("the expression should end here")

    def _unexpected(self, wanted: str) -> InvalidPolicy:
        token = self._here
        return InvalidPolicy(wanted if token.kind == "end" else f"{wanted}, not {token.value!r}", token.start)

    # ---- operators -------------------------------------------------------------------------------------
    def expression(self, least: int) -> Syntax:
        """An expression of operators that bind at least as tightly as `least`."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidPolicy(f"an expression is nested at most {MAX_DEPTH} deep", self._here.start)
        left, closed = self._prefix(), 0
        while True:
            strength = self._strength()
            if strength < max(least, 1):
                break
            if strength == closed:
                raise InvalidPolicy("these operators do not chain; add parentheses", self._here.start)
            left, closed = self._after(left, strength)
        self._depth -= 1
        return left

    def _strength(self) -> int:
        token = self._here
        if token.kind == "operator":
            if token.value == "::":
                return _CAST
            if token.value in _BINARY:
                return _BINARY[token.value]
            if token.value[0] in _OPERATOR_CHARACTERS:
                raise InvalidPolicy(f"the operator {token.value} is not supported", token.start)
            return 0
        if token.kind != "word":
            return 0
        if token.value == "not":
            following = self._tokens[self._position + 1]
            return _LIKE if following.kind == "word" and _WORDS.get(following.value) == _LIKE else 0
        return _WORDS.get(token.value, 0)

    def _after(self, left: Syntax, strength: int) -> tuple[Syntax, int]:
        """What an operator makes of `left`, and the strength that may not follow at once (gram.y: nonassoc)."""
        if strength == _CAST:
            self._advance()
            return self._cast_to(left, left.start), 0
        if strength in (_OR, _AND):
            return self._chain(left, strength), 0
        if strength == _IS:
            return self._is_what(left)
        if strength == _LIKE:
            return self._like(left)
        operator = self._advance()
        right = self.expression(strength + 1)
        return Syntax("binary", left.start, right.end, operator.value, (left, right)), _COMPARISON if strength == _COMPARISON else 0

    def _chain(self, left: Syntax, strength: int) -> Syntax:
        word, parts = self._here.value, [left]
        while self._is(word):
            self._advance()
            parts.append(self.expression(strength + 1))
        return Syntax(word, left.start, parts[-1].end, parts=tuple(parts))

    def _is_what(self, left: Syntax) -> tuple[Syntax, int]:
        self._advance()
        negated = "not " if self._take("not") else ""
        if self._take("distinct", "from"):
            right = self.expression(_IS + 1)
            return Syntax("distinct", left.start, right.end, negated.strip(), (left, right)), _IS
        if not self._is("null", "true", "false", "unknown"):
            raise self._unexpected("NULL, TRUE, FALSE or DISTINCT FROM is expected here")
        token = self._advance()
        return Syntax("is", left.start, token.end, negated + token.value, (left,)), 0

    def _like(self, left: Syntax) -> tuple[Syntax, int]:
        negated = "not " if self._take("not") else ""
        word = self._advance().value
        if word == "in":
            return self._members(left, negated), 0
        if word == "between":
            symmetric = "symmetric " if self._take("symmetric") else ""
            self._take("asymmetric")
            low = self._without_not()
            self._expect("and")
            high = self.expression(_LIKE + 1)
            return Syntax("between", left.start, high.end, negated + symmetric, (left, low, high)), _LIKE
        parts = [left, self.expression(_LIKE + 1)]
        if self._take("escape"):
            parts.append(self.expression(_LIKE + 1))
        return Syntax("like", left.start, parts[-1].end, negated + word, tuple(parts)), _LIKE

    def _without_not(self) -> Syntax:
        """The lower bound of BETWEEN, in which gram.y (b_expr) allows no NOT outside parentheses."""
        start, nesting = self._position, 0
        low = self.expression(_OTHER)
        for token in self._tokens[start : self._position]:
            if token.kind in ("word", "operator"):
                nesting += (token.value in ("(", "case")) - (token.value in (")", "end"))
                if token.value == "not" and not nesting:
                    raise InvalidPolicy("NOT is not expected here; add parentheses", token.start)
        return low

    def _members(self, left: Syntax, negated: str) -> Syntax:
        self._expect("(")
        members = self._list()
        return Syntax("in", left.start, self._tokens[self._position - 1].end, negated.strip(), (left, *members))

    def _list(self) -> tuple[Syntax, ...]:
        """Expressions between commas, up to and with the closing parenthesis."""
        members = [self.expression(0)]
        while self._take(","):
            members.append(self.expression(0))
        self._expect(")")
        return tuple(members)

    # ---- operands --------------------------------------------------------------------------------------
    def _prefix(self) -> Syntax:
        if self._is("not"):
            start = self._advance().start
            part = self.expression(_NOT)
            return Syntax("not", start, part.end, parts=(part,))
        if self._is("-", "+"):
            sign = self._advance()
            part = self.expression(_SIGN)
            if sign.value == "-" and part.kind == "number":  # a negative literal, as doNegate makes it
                return Syntax("number", sign.start, part.end, part.value[1:] if part.value.startswith("-") else "-" + part.value)
            return Syntax("sign", sign.start, part.end, sign.value, (part,))
        return self._operand()

    def _operand(self) -> Syntax:
        token = self._here
        if token.kind == "end":
            raise self._unexpected("an expression is expected here")
        if token.kind in ("string", "number"):
            self._advance()
            return Syntax(token.kind, token.start, token.end, token.value)
        if self._take("("):
            if self._is("select", "with", "values", "table"):
                raise InvalidPolicy("subqueries are not supported", self._here.start)
            inner = self.expression(0)
            if self._is(","):
                raise InvalidPolicy("rows are not supported", self._here.start)
            return inner._replace(start=token.start, end=self._expect(")").end)
        if token.kind == "word" and token.value in _SPECIAL:
            return _SPECIAL[token.value](self)
        if token.kind == "name" or (token.kind == "word" and token.value not in _RESERVED_WORDS):
            return self._named()
        raise self._unexpected("an expression is expected here")

    def _constant(self) -> Syntax:
        token = self._advance()
        return Syntax("constant", token.start, token.end, token.value)

    def _named(self) -> Syntax:
        token = self._advance()
        if self._take("("):
            return self._call(token)
        if self._is("."):
            raise InvalidPolicy("columns are named without a table", token.start)
        if token.kind == "word" and token.value in _TYPES and (self._here.kind == "string" or token.value == "timestamp"):
            return self._typed_literal(token)
        return Syntax("column", token.start, token.end, token.value)

    def _typed_literal(self, token: _Token) -> Syntax:
        self._position -= 1
        target = self._type()
        literal = self._here
        if literal.kind != "string":
            raise self._unexpected("a string is expected here")
        self._advance()
        part = Syntax("string", literal.start, literal.end, literal.value)
        return Syntax("cast", token.start, literal.end, target, (part,))

    def _call(self, token: _Token) -> Syntax:
        parts = () if self._take(")") else self._list()
        return Syntax("call", token.start, self._tokens[self._position - 1].end, token.value, parts)

    def _case(self) -> Syntax:
        start = self._advance().start
        subject = () if self._is("when") else (self.expression(0),)
        parts: list[Syntax] = []
        while self._take("when"):
            parts.append(self.expression(0))
            self._expect("then")
            parts.append(self.expression(0))
        if not parts:
            raise self._unexpected("WHEN is expected here")
        if self._take("else"):
            parts.append(self.expression(0))
        return Syntax("case", start, self._expect("end").end, "simple" if subject else "", (*subject, *parts))

    def _cast(self) -> Syntax:
        start = self._advance().start
        self._expect("(")
        operand = self.expression(0)
        self._expect("as")
        cast = self._cast_to(operand, start)
        return cast._replace(end=self._expect(")").end)

    def _cast_to(self, operand: Syntax, start: int) -> Syntax:
        target = self._type()
        return Syntax("cast", start, self._tokens[self._position - 1].end, target, (operand,))

    def _type(self) -> str:
        token = self._here
        known = _TYPES if token.kind == "word" else _TYPES.values() if token.kind == "name" else ()
        if token.value not in known:
            raise self._unexpected("a type is expected here (text, int, bigint, numeric, boolean, uuid, timestamptz or interval)")
        self._advance()
        if token.value == "timestamp" and not self._take("with", "time", "zone"):
            raise InvalidPolicy("use timestamptz: timestamps without a time zone are not supported", token.start)
        if self._is("(", "["):
            raise InvalidPolicy("types with a length, and arrays, are not supported", self._here.start)
        return _TYPES[token.value]


_SPECIAL: dict[str, Callable[[_Parser], Syntax]] = {
    "true": _Parser._constant,
    "false": _Parser._constant,
    "null": _Parser._constant,
    "case": _Parser._case,
    "cast": _Parser._cast,
}
