"""The pure function: an image file and options in, an image file out.

Nothing of the file is believed. What it is, its first bytes say; how large, its header, before a pixel is decoded; whatever
goes wrong inside a decoder is the file's fault and told as such. Three things make it fast, and none shows: a JPEG or WebP is
decoded no larger than it need be; cropping and scaling are one; and turning and colour come after it, on the few pixels that
are left.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError, _imaging
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from chalicelib.errors import UnprocessableImage
from chalicelib.images import colours, encoding, webp
from chalicelib.images.geometry import UPRIGHT, Box, Size, plan, stored_box, stored_size, upright_size
from chalicelib.images.options import SMALLEST, SOURCE, Options
from chalicelib.images.scaling import scaled

MAX_PIXELS = 50_000_000
MAX_FRAMES = 200
# Of all frames of an animation together, as they are decoded; and as they are encoded, which takes longer by far.
MAX_ANIMATED_PIXELS = 100_000_000
MAX_ANIMATED_RESULT = {"webp": 50_000_000, "gif": 20_000_000, "avif": 10_000_000}
# Of a progressive JPEG, each of which goes over the whole picture; encoders make a dozen.
MAX_SCANS = 64

# How many times more pixels a side are decoded than wanted. Below SMALL it is cheap to have many, and shows.
SMALL = 400
GAP_SMALL, GAP = 2.0, 1.25
# Pixels a side below which a WebP is not scaled as it is decoded.
NARROW = 16

_ORIENTATION = 0x0112
_XMP = ("xmp", "XML:com.adobe.xmp")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow refuses what has more than twice this, as soon as it knows the size and before a decoder asks for memory.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
# Blocks of 16 MiB that it keeps for what it makes next, so that not every page of them is asked of the system again.
_imaging.set_blocks_max(2)


@dataclass(frozen=True, slots=True)
class Transformed:
    """An image file: `body` of the media type `content_type`, `size` in pixels."""

    body: bytes
    content_type: str
    size: Size


def transform(source: bytes, options: Options) -> Transformed:
    """The image file that `options` make of another; raises UnprocessableImage for what is none, is broken or is too large."""
    with _at_fault():
        image = _opened(source)
        form = _form(image, options)
        moving = form in encoding.ANIMATED and image.format in _MOVING and _is_animated(image)
        shown = _animation(image, form, options) if moving else _still(image, source, options)
    if isinstance(shown, encoding.Frames):
        return _transformed(encoding.animation(shown, form, options.quality), form, shown.images[0].size)
    return _transformed(encoding.still(shown, form, options.quality), form, shown.size)


def _transformed(body: bytes, form: str, size: Size) -> Transformed:
    return Transformed(body, encoding.MEDIA_TYPES[form], size)


# ---- opening -------------------------------------------------------------------------------------------
# Of the forty that Pillow knows: a decoder that is never asked cannot be attacked.
_FORMATS = tuple(plugin.format for plugin in (JpegImageFile, PngImageFile, WebPImageFile, GifImageFile, AvifImageFile, BmpImageFile))
_START_OF_SCAN = b"\xff\xda"  # nowhere in the data of a scan: there a zero follows 0xff
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOVING = frozenset({"GIF", "WEBP", "AVIF"})
_FORMS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "AVIF": "avif"}


@contextmanager
def _at_fault() -> Iterator[None]:
    """Whatever a decoder raises is told as the file's fault: they raise nearly everything, and have nothing else to go by."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnprocessableImage:
        raise
    except Image.DecompressionBombError:
        raise _too_many_pixels() from None
    except MemoryError:
        raise UnprocessableImage("the image takes more memory to decode than there is") from None
    except Exception as error:
        raise UnprocessableImage("the image cannot be decoded: it is damaged, or not whole") from error


def _opened(source: bytes) -> ImageFile.ImageFile:
    formats: tuple[str, ...] = _FORMATS
    if source.startswith(_TIFF):
        from PIL.TiffImagePlugin import TiffImageFile

        formats = (TiffImageFile.format,)
    try:
        image = Image.open(BytesIO(source), formats=formats)
    except UnidentifiedImageError:
        raise UnprocessableImage("the file is no image that can be transformed: JPEG, PNG, WebP, GIF, AVIF, BMP and TIFF can") from None
    if image.width * image.height > MAX_PIXELS:
        raise _too_many_pixels()
    if isinstance(image, JpegImageFile) and source.count(_START_OF_SCAN) > MAX_SCANS:
        raise UnprocessableImage(f"the JPEG is stored in more than {MAX_SCANS} scans; store it with fewer, or as a baseline JPEG")
    return image


def _too_many_pixels() -> UnprocessableImage:
    return UnprocessableImage(f"the image has more than {MAX_PIXELS // 1_000_000} megapixels", max_pixels=MAX_PIXELS)


def _form(image: ImageFile.ImageFile, options: Options) -> str:
    """The format to write: the one asked for, else the source's, else one that every browser shows."""
    if options.format == SMALLEST:
        width, height = plan(upright_size(image.size, _orientation(image)), options).size
        return "webp" if _is_animated(image) or width * height > encoding.MAX_AVIF_PIXELS else "avif"
    if options.format != SOURCE:
        return options.format
    return _FORMS.get(image.format or "") or ("png" if image.has_transparency_data else "jpeg")


def _is_animated(image: ImageFile.ImageFile) -> bool:
    return bool(getattr(image, "is_animated", False))


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns it when it loads it
        return UPRIGHT
    for name in _XMP:  # in which Pillow would look too, and browsers do not
        image.info.pop(name, None)
    try:
        orientation = image.getexif().get(_ORIENTATION, UPRIGHT)
    except Exception:  # EXIF is a TIFF file of its own, and as often broken: then it says nothing
        return UPRIGHT
    return orientation if orientation in _TURNS else UPRIGHT


# ---- showing -------------------------------------------------------------------------------------------
def _still(image: ImageFile.ImageFile, source: bytes, options: Options) -> Image.Image:
    """What is to be seen of the first frame, upright and in sRGB."""
    orientation, stored = _orientation(image), image.size
    wanted = plan(upright_size(stored, orientation), options)
    box, size = stored_box(wanted.box, stored, orientation), stored_size(wanted.size, orientation)
    profile = image.info.get("icc_profile")
    decoded, box = _decoded(image, source, box, size)
    return _finished(scaled(decoded, box, size), orientation, profile)


def _finished(image: Image.Image, orientation: int, profile: bytes | None) -> Image.Image:
    if orientation != UPRIGHT:
        image = image.transpose(_TURNS[orientation])
    return colours.without_idle_alpha(colours.in_srgb(image, profile))


def _decoded(image: ImageFile.ImageFile, source: bytes, box: Box, size: Size) -> tuple[Image.Image, Box]:
    """The picture, decoded no larger than it need be where its decoder can, and where the box lies in it then."""
    gap = GAP_SMALL if max(size) <= SMALL else GAP
    ratio = max(1.0, min((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]) / gap)
    whole = image.size
    if isinstance(image, WebPImageFile) and not image.is_animated:
        alpha = image.mode == "RGBA"
        # libwebp scales colours without regard to alpha, so that what cannot be seen would bleed into what can; and wrongly where
        # there are few.
        exact = alpha or min(whole) < NARROW
        smaller = whole if exact else (math.ceil(whole[0] / ratio), math.ceil(whole[1] / ratio))
        picture = webp.decoded(source, whole, smaller, alpha)
        return (picture, _scaled_box(box, whole, smaller)) if picture else (image, box)
    if image.format in ("JPEG", "MPO") and ratio >= 2:
        drafted = image.draft(None, (int(whole[0] / ratio), int(whole[1] / ratio)))
        # The last column and row may be of fewer source pixels than the others: Pillow says how far the source reaches.
        return image, _scaled_box(box, whole, drafted[1][2:] if drafted else whole)
    return image, box


def _scaled_box(box: Box, whole: Size, scaled: tuple[float, float]) -> Box:
    across, down = scaled[0] / whole[0], scaled[1] / whole[1]
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


# ---- animations ----------------------------------------------------------------------------------------
# Milliseconds: what browsers make of a frame that claims to be shown for no longer than INSTANT.
INSTANT, USUAL = 10, 100


def _animation(image: ImageFile.ImageFile, form: str, options: Options) -> encoding.Frames:
    """Every frame of an animation, scaled to be written as `form`."""
    orientation, canvas = _orientation(image), image.size
    wanted = plan(upright_size(canvas, orientation), options)
    box, size = stored_box(wanted.box, canvas, orientation), stored_size(wanted.size, orientation)
    times = _times(image)
    if image.format != "GIF":  # which does not say how many there are
        number = int(getattr(image, "n_frames", 1))
        _check_frames(number, number * canvas[0] * canvas[1], size, form)
    images: list[Image.Image] = []
    durations: list[int] = []
    pixels = 0
    for frame in _each_frame(image):
        pixels += frame.width * frame.height  # a frame of a GIF may reach beyond the canvas
        _check_frames(len(images) + 1, pixels, size, form)
        picture = _on_canvas(frame, canvas)
        profile, duration = picture.info.get("icc_profile"), round(picture.info.get("duration") or 0)
        images.append(_finished(scaled(picture, box, size), orientation, profile))
        durations.append(duration if duration > INSTANT else USUAL)
    mode = "RGBA" if any(each.mode in ("LA", "RGBA") for each in images) else "RGB"
    return encoding.Frames([each.convert(mode) for each in images], durations, times)


def _times(image: Image.Image) -> int:
    """How often an animation is shown, 0 without end: a GIF says how often it is repeated, if at all, and the others how often it plays."""
    loop = image.info.get("loop")
    if image.format != "GIF":
        return int(loop or 0)
    if loop is None:
        return 1
    return int(loop) + 1 if loop else 0


def _each_frame(image: ImageFile.ImageFile) -> Iterator[Image.Image]:
    """The frames one after the other, not yet decoded."""
    while True:
        yield image
        try:
            image.seek(image.tell() + 1)
        except EOFError:  # that was the last
            return


def _on_canvas(frame: Image.Image, canvas: Size) -> Image.Image:
    """A frame for itself, which the next does not replace; what reaches beyond the canvas is cut off."""
    return frame.copy() if frame.size == canvas else frame.crop((0, 0, *canvas))


def _check_frames(number: int, pixels: int, size: Size, form: str) -> None:
    """Refuse what has too many frames, or too many pixels in all of them, before scaling (`pixels`) or after (`size` each)."""
    hint = "ask for format=jpeg or png, which show its first frame"
    if number > MAX_FRAMES:
        raise UnprocessableImage(f"the animation has more than {MAX_FRAMES} frames; {hint}", max_frames=MAX_FRAMES)
    if pixels > MAX_ANIMATED_PIXELS:
        raise UnprocessableImage(f"the animation has more than {MAX_ANIMATED_PIXELS // 1_000_000} megapixels in all its frames; {hint}")
    if number * size[0] * size[1] > MAX_ANIMATED_RESULT[form]:
        most = MAX_ANIMATED_RESULT[form] // 1_000_000
        raise UnprocessableImage(f"an animated {form} has at most {most} megapixels in all its frames; ask for a smaller width, or {hint}")
