"""What may be asked of an image: the options of a transform, checked, and in the one form that stands for all their spellings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from chalicelib.errors import InvalidRequest

MAX_SIDE = 4096
MAX_QUALITY = 100
DEFAULT_QUALITY = 80
CENTRE = (50.0, 50.0)
FITS = ("contain", "cover")
# What can be made. GIF only of a GIF: nobody asks for it otherwise.
FORMATS = ("webp", "jpeg", "png", "avif")
AUTO = "auto"
# What only the image function can tell, who sees the bytes: the source's own format; AVIF, or WebP for what moves or is very large.
SOURCE, SMALLEST = "source", "smallest"
_LOSSLESS = ("png",)
NAMES = ("width", "height", "fit", "focal", "enlarge", "format", "quality")
# A bucket's name for some of them.
PRESET = "preset"
PARAMETERS = frozenset({*NAMES, PRESET})
MAX_PRESETS = 50
MAX_PRESET_CHARACTERS = 40
# How each format begins: bytes, and from where.
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBP", "image/webp"),
    (1, b"PNG\r\n", "image/png"),
    (4, b"ftypavi", "image/avif"),
    (0, b"GIF8", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """One transform, in its canonical form: two that must give the same picture are equal.

    `width` and `height` in pixels, either of them None; `fit` and `focal` (percent from the left and from the top) say
    something only where both are given; `format` one of FORMATS, SOURCE or SMALLEST; `quality` 1 to 100, None where it says nothing.
    """

    width: int | None = None
    height: int | None = None
    fit: str = "contain"
    focal: tuple[float, float] = CENTRE
    enlarge: bool = False
    format: str = SOURCE
    quality: int | None = DEFAULT_QUALITY

    def __str__(self) -> str:
        """A name for it, of letters, digits, dots and hyphens: the last part of a cached result's key."""
        words = [f"w{self.width}" if self.width else "", f"h{self.height}" if self.height else ""]
        if self.fit == "cover":
            words.append("cover" if self.focal == CENTRE else "cover{:g}x{:g}".format(*self.focal))
        words += ["enlarge" if self.enlarge else "", f"q{self.quality}" if self.quality else "", self.format]
        return "-".join(filter(None, words))

    def to_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Options":
        """The inverse of `to_dict`."""
        given = {field.name: document[field.name] for field in fields(cls)}
        return cls(**given | {"focal": tuple(document["focal"])})


def parse(given: Mapping[str, str], accept: str = "") -> Options | None:
    """The options among `given` (query parameters), or None when there are none; raises InvalidRequest.

    `accept` is the request's Accept header, by which `format=auto` goes.
    """
    if not any(name in given for name in NAMES):
        return None
    width, height = (_number(given.get(name), name, MAX_SIDE) for name in ("width", "height"))
    fit, focal, enlarge = _one_of(given.get("fit"), "fit", FITS), _focal(given.get("focal")), _flag(given.get("enlarge"))
    wanted = _one_of(given.get("format"), "format", (*FORMATS, AUTO))
    quality = _number(given.get("quality"), "quality", MAX_QUALITY) or DEFAULT_QUALITY
    covers = fit == "cover" and width is not None and height is not None
    chosen = _automatic(accept) if wanted == AUTO else wanted or SOURCE
    return Options(
        width=width,
        height=height,
        fit="cover" if covers else "contain",
        focal=focal if covers else CENTRE,
        enlarge=enlarge and (width or height) is not None,
        format=chosen,
        quality=None if chosen in _LOSSLESS else quality,
    )


def check_presets(presets: Mapping[str, Mapping[str, str]]) -> None:
    """Raise InvalidRequest unless each of a bucket's presets has a name and options that could be asked for."""
    if len(presets) > MAX_PRESETS:
        raise InvalidRequest(f"a bucket has at most {MAX_PRESETS} presets")
    for name, given in presets.items():
        if not 0 < len(name) <= MAX_PRESET_CHARACTERS or not name.isprintable():
            raise InvalidRequest(f"a preset is named by 1 to {MAX_PRESET_CHARACTERS} characters")
        if parse(given) is None:
            raise InvalidRequest(f"the preset {name} says nothing; it has at least one of: {', '.join(NAMES)}")


def _automatic(accept: str) -> str:
    """The format for `format=auto`: the smallest that the Accept header names (`*/*` names none), else the source's own."""
    accepted = _accepted(accept)
    if "image/webp" not in accepted:
        return "avif" if "image/avif" in accepted else SOURCE
    return SMALLEST if "image/avif" in accepted else "webp"


def media_type(start: bytes) -> str:
    """What a result is, by its first bytes."""
    return next((kind for place, sign, kind in _SIGNATURES if start.startswith(sign, place)), "application/octet-stream")


def is_automatic(given: Mapping[str, str]) -> bool:
    """Whether the answer depends on the Accept header."""
    return given.get("format") == AUTO


def _accepted(accept: str) -> set[str]:
    """The media types that an Accept header names and does not refuse (RFC 9110 §12.5.1)."""
    accepted = set()
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        weights = [part[2:] for part in parameters if part.startswith("q=")]
        if not any(weight.strip("0") in ("", ".") for weight in weights):
            accepted.add(name)
    return accepted


def _number(text: str | None, name: str, most: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
        raise InvalidRequest(f"{name} is a whole number from 1 to {most}")
    return int(text)


def _one_of(text: str | None, name: str, choices: tuple[str, ...]) -> str | None:
    if text is not None and text not in choices:
        raise InvalidRequest(f"{name} is one of: {', '.join(choices)}")
    return text


def _focal(text: str | None) -> tuple[float, float]:
    """`x,y` in percent, to a hundredth: finer steps would make new pictures that nobody can tell apart."""
    if text is None:
        return CENTRE
    try:
        x, y = (round(float(part), 2) + 0.0 for part in text.split(","))
        if not set(text) <= set("0123456789.,") or not (0 <= x <= 100 and 0 <= y <= 100):
            raise ValueError
    except ValueError:
        raise InvalidRequest("focal is 'x,y': percent from the left and from the top, each from 0 to 100") from None
    return x, y


def _flag(text: str | None) -> bool:
    return _one_of(text, "enlarge", ("true", "false", "1", "0")) in ("true", "1")
