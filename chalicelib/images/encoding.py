"""From pixels to a file: how each format is written, and how hard its encoder tries.

Settings are the fastest that lose no bytes worth having (`python -m benchmarks images` measures both). Nothing of the source but
its pixels gets in: an encoder would write comments, text and profiles that it finds with the image.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from chalicelib.errors import UnprocessableImage
from chalicelib.images import colours
from chalicelib.images.options import DEFAULT_QUALITY

MEDIA_TYPES = {"webp": "image/webp", "jpeg": "image/jpeg", "png": "image/png", "avif": "image/avif", "gif": "image/gif"}
ANIMATED = ("gif", "webp", "avif")
# Pixels a side: the formats' own 14 bits of WebP and 16 of GIF, and what libjpeg and libavif make.
MAX_SIDES = {"webp": 16_383, "jpeg": 65_500, "png": 65_535, "avif": 16_384, "gif": 65_535}
# Pixels a side of what is small.
FEW = 400
# Pixels beyond which encoders try less hard, so as to be done in time.
MANY = 4_000_000
# Pixels that an AVIF encoder has memory for.
MAX_AVIF_PIXELS = 25_000_000
# Milliseconds: what one frame can say.
MAX_GIF_DURATION = 655_350


@dataclass(frozen=True, slots=True)
class Frames:
    """The pictures of an animation, of one size and mode, how long each is shown (ms), and how often all are (0: without end)."""

    images: Sequence[Image.Image]
    durations: Sequence[int]
    times: int


def still(image: Image.Image, form: str, quality: int | None) -> bytes:
    """`image`, in one of colours.PLAIN, as a file of the format `form`; raises UnprocessableImage when it has no room for it."""
    _check_room(image, form)
    if form == "jpeg":
        image = colours.opaque(image)
    if form == "gif" and image.mode == "RGBA":
        return _saved(colours.indexed(image), form, {"transparency": colours.CLEAR})
    return _saved(image, form, _how(image, form, quality))


def animation(frames: Frames, form: str, quality: int | None) -> bytes:
    """`frames` as a file of the format `form`, one of ANIMATED; raises as `still` does."""
    images = list(frames.images)
    _check_room(images[0], form)
    how = _how(images[0], form, quality) | {"save_all": True, "duration": list(frames.durations)}
    if form == "gif":
        images, how = _gif(images, frames, how)
    elif form == "webp":
        how["loop"] = frames.times
    return _saved(images[0], form, how | {"append_images": images[1:]})


def _gif(images: list[Image.Image], frames: Frames, how: dict[str, Any]) -> tuple[list[Image.Image], dict[str, Any]]:
    if images[0].mode == "RGBA":
        images = [colours.indexed(image) for image in images]
        how |= {"transparency": colours.CLEAR, "disposal": 2}  # or what can be seen through would stay beneath the next
    if frames.times != 1:  # GIF says "once" by saying nothing, and else how often it is repeated
        how["loop"] = max(0, frames.times - 1)
    if sum(frames.durations) > MAX_GIF_DURATION:  # Pillow makes one frame of those that look alike
        how["duration"] = [min(duration, MAX_GIF_DURATION // len(images)) for duration in frames.durations]
    return images, how


def _how(image: Image.Image, form: str, quality: int | None) -> dict[str, Any]:
    quality, pixels = quality or DEFAULT_QUALITY, image.width * image.height
    match form:
        case "jpeg":
            return {"quality": quality, "optimize": True}
        case "webp":
            return {"quality": quality, "method": 4 if pixels <= MANY else 2}
        case "avif":
            # A quality of libavif's is a little more than others mean by the same number, in bytes as well; it is only with few
            # pixels that a step less could be seen.
            less = 0 if max(image.size) <= FEW and image.mode in ("L", "RGB") else 2
            return {"quality": max(1, quality - less), "speed": 6 if pixels <= MANY else 8, "subsampling": "4:4:4"}
        case "png":
            # Once Pillow has filtered the rows, looking for runs alone is as good as looking for repetitions.
            return {"compress_level": 1, "compress_type": zlib.Z_RLE}
    return {}


def _saved(image: Image.Image, form: str, how: dict[str, Any]) -> bytes:
    image.info.clear()
    written = BytesIO()
    try:
        image.save(written, form, **how)
    except (MemoryError, RuntimeError, OSError) as error:  # encoders have no better word for what they find no memory for
        if how.get("optimize"):  # for which Pillow gives libjpeg a byte a pixel, and noise takes more
            return _saved(image, form, how | {"optimize": False})
        raise UnprocessableImage("the result takes more memory to encode than there is; ask for a smaller width or height") from error
    return written.getvalue()


def _check_room(image: Image.Image, form: str) -> None:
    if max(image.size) > MAX_SIDES[form]:
        raise UnprocessableImage(f"{form} holds at most {MAX_SIDES[form]} pixels a side; ask for a smaller width or height")
    if form == "avif" and image.width * image.height > MAX_AVIF_PIXELS:
        most = MAX_AVIF_PIXELS // 1_000_000
        raise UnprocessableImage(f"an AVIF is made of at most {most} megapixels; ask for a smaller width or height, or for format=webp")
