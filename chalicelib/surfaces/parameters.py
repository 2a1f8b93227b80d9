"""Parameters that several surfaces take alike."""

from chalicelib.images.options import AUTO, FITS, FORMATS, MAX_QUALITY, MAX_SIDE
from chalicelib.surfaces.routes import Parameter

NUMBER = {"type": "integer"}
FLAG = {"type": "string", "enum": ["true", "false", "1", "0"]}

_SIDE = NUMBER | {"minimum": 1, "maximum": MAX_SIDE}


# Of downloads.
READING = (
    Parameter("download", "query", "Ask browsers to save it, under this name if one is given."),
    Parameter("Range", "header", "A single range of bytes, as `bytes=0-99` or `bytes=-100`."),
    Parameter("If-Range", "header", "An ETag or a date: the range only if it is still that one."),
    Parameter("If-Match", "header", "ETags."),
    Parameter("If-None-Match", "header", "ETags."),
    Parameter("If-Modified-Since", "header", "An HTTP date."),
    Parameter("If-Unmodified-Since", "header", "An HTTP date."),
)


def transforming(takes_auto: bool) -> tuple[Parameter, ...]:
    """Of transforms; `takes_auto`: the Accept header may choose the format."""
    chosen, formats = ("`auto`: by the Accept header. ", [*FORMATS, AUTO]) if takes_auto else ("", list(FORMATS))
    return (
        Parameter("width", "query", "Of an image: at most so many pixels across.", _SIDE),
        Parameter("height", "query", "Of an image: at most so many pixels down.", _SIDE),
        Parameter(
            "fit", "query", "With both: `contain`, within them, or `cover`, all of them filled.", {"type": "string", "enum": list(FITS)}
        ),
        Parameter("focal", "query", "With `cover`: `x,y`, in percent, of what is to be seen."),
        Parameter("enlarge", "query", "`true`: it may become larger than it is.", FLAG),
        Parameter("format", "query", f"{chosen}Default: the source's.", {"type": "string", "enum": formats}),
        Parameter("quality", "query", "Default 80; PNG has none.", NUMBER | {"minimum": 1, "maximum": MAX_QUALITY}),
        Parameter("preset", "query", "One of the bucket's presets, in place of all these."),
    )
