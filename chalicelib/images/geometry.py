"""Which part of a picture is shown, how large, and where it lies in a file that stores it turned."""

from dataclasses import dataclass

from chalicelib.images.options import MAX_SIDE, Options

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge, in pixels from the upper left corner."""
Size = tuple[int, int]

UPRIGHT = 1
# How stored pixels lie, by EXIF orientation (CIPA DC-008 §4.6.5): columns and rows swapped, x reversed, y reversed.
_STORED = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of the source to show, and the size to show it in."""

    box: Box
    size: Size


def plan(source: Size, options: Options) -> Plan:
    """The plan for an upright source of `source` pixels. No side of it is larger than asked for, nor than `source` unless it may."""
    if options.fit == "cover" and options.width and options.height:
        return _cover(source, (options.width, options.height), options)
    return Plan((0, 0, *source), _contain(source, options))


def _contain(source: Size, options: Options) -> Size:
    width, height = source
    # What may grow has bounds on both sides all the same: a line of one pixel would grow beyond measure.
    most = MAX_SIDE if options.enlarge else 0
    bounds = (options.width or max(most, width), options.height or max(most, height))
    scale = min(bounds[0] / width, bounds[1] / height)
    if not options.enlarge or not (options.width or options.height):
        scale = min(scale, 1.0)
    return _rounded(width * scale, bounds[0]), _rounded(height * scale, bounds[1])


def _cover(source: Size, target: Size, options: Options) -> Plan:
    scale = max(target[0] / source[0], target[1] / source[1])
    # A source that is too small gives the same part of it, as large as it is.
    grown = 1.0 if options.enlarge else max(scale, 1.0)
    size = (_rounded(target[0] / grown, target[0]), _rounded(target[1] / grown, target[1]))
    left, right = _span(source[0], target[0] / scale, options.focal[0])
    upper, lower = _span(source[1], target[1] / scale, options.focal[1])
    return Plan((left, upper, right, lower), size)


def _rounded(length: float, most: int) -> int:
    return min(max(1, round(length)), most)


def _span(whole: int, shown: float, focal: float) -> tuple[float, float]:
    """Where `shown` pixels of `whole` begin and end, as near to being centred on `focal` percent as the edges allow."""
    shown = min(shown, float(whole))
    start = min(max(0.0, whole * focal / 100 - shown / 2), whole - shown)
    return start, min(start + shown, float(whole))


def upright_size(stored: Size, orientation: int) -> Size:
    """The size of a picture whose file has `stored` columns and rows."""
    return stored[::-1] if _STORED[orientation][0] else stored


def stored_size(upright: Size, orientation: int) -> Size:
    """The inverse of `upright_size`."""
    return upright_size(upright, orientation)  # swapping twice is not swapping


def stored_box(box: Box, stored: Size, orientation: int) -> Box:
    """Where the part `box` of the upright picture lies in its file of `stored` columns and rows."""
    swapped, reversed_x, reversed_y = _STORED[orientation]
    left, upper, right, lower = (box[1], box[0], box[3], box[2]) if swapped else box
    if reversed_x:
        left, right = stored[0] - right, stored[0] - left
    if reversed_y:
        upper, lower = stored[1] - lower, stored[1] - upper
    return left, upper, right, lower
