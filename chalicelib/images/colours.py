"""Every way to store a pixel, brought to the four that are scaled and encoded: L, LA, RGB and RGBA of eight bits, in sRGB."""

from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from typing import Any

from PIL import Image

from chalicelib.errors import UnprocessableImage

PLAIN = frozenset({"L", "LA", "RGB", "RGBA"})
# Scaled as they are: what CMYK means in sRGB is worked out on the few pixels that are left.
SCALED = PLAIN | {"CMYK"}
PREMULTIPLIED = {"LA": "La", "RGBA": "RGBa"}
WHITE = 255
CLEAR = 255
# What a profile of this colour space can describe.
_DESCRIBED = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L", "LA"), "CMYK": ("CMYK",)}
# As HP and Microsoft's profile and that of Little CMS call themselves. Others whose names begin so may be linear.
_SRGB = ("sRGB IEC61966-2.1", "sRGB built-in")
# A kilobyte holds a matrix profile; the large ones are tables for printers. Beyond this it is none that a file needs.
MAX_PROFILE_BYTES = 4 << 20


def scalable(image: Image.Image) -> Image.Image:
    """`image` in a mode whose pixels may be averaged; raises UnprocessableImage for samples without a known scale."""
    if image.mode in SCALED:
        if image.mode in ("RGB", "L") and image.has_transparency_data:  # one colour of it is transparent
            return image.convert("RGBA")
        return image
    if image.mode.startswith("I;16"):
        # 257 takes 65535 to 255; `convert` alone would clip.
        return image.convert("I").point(lambda sample: sample * (1 / 257)).convert("L")
    if image.mode in ("I", "F"):
        raise UnprocessableImage("samples of 32 bits have no scale that is known; store the image with 8 or 16 bits a sample")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """`image`, whose colours an ICC profile may describe, in sRGB and one of the PLAIN modes.

    A profile that is broken, or describes another kind of pixel, is as good as none.
    """
    if profile and len(profile) <= MAX_PROFILE_BYTES:
        from PIL import ImageCms

        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):  # what it raises of what it does not understand
            image = _converted(image, profile)
    return image if image.mode in PLAIN else image.convert("RGB")


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    described = source.profile
    if image.mode not in _DESCRIBED.get(described.xcolor_space, ()) or _is_srgb(described):
        return image
    colour, alpha = image, None
    if image.mode in ("LA", "RGBA"):
        alpha = image.getchannel("A")
        colour = image.convert(image.mode[:-1])
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    conversion = ImageCms.buildTransform(source, _srgb(), colour.mode, "RGB", intent, flags)
    made = conversion.apply(colour)
    if colour.mode == "L":
        made = made.convert("L")
    if alpha is not None:
        made.putalpha(alpha)
    return made


def _is_srgb(described: Any) -> bool:
    """Whether converting could change nothing: most files with a profile say that they are what they would be without."""
    return described.profile_description in _SRGB


@lru_cache(maxsize=1)
def _srgb() -> Any:
    from PIL import ImageCms

    return ImageCms.createProfile("sRGB")


def premultiplied(image: Image.Image) -> Image.Image:
    """An image with alpha, its colours weighted by their alpha, so that what cannot be seen does not bleed into what can."""
    return image.convert(PREMULTIPLIED[image.mode])


def plain(image: Image.Image) -> Image.Image:
    """The inverse of `premultiplied`; what is not premultiplied as it is."""
    return image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))


def opaque(image: Image.Image) -> Image.Image:
    """`image` on white, for a format that knows no alpha."""
    if image.mode not in ("LA", "RGBA"):
        return image
    mode = image.mode[:-1]
    ground = Image.new(mode, image.size, "white")
    ground.paste(image.convert(mode), mask=image.getchannel("A"))
    return ground


def without_idle_alpha(image: Image.Image) -> Image.Image:
    """`image` without an alpha channel that hides nothing: it costs a quarter of the time and some of the bytes."""
    if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema() == (WHITE, WHITE):
        return image.convert(image.mode[:-1])
    return image


def indexed(image: Image.Image) -> Image.Image:
    """An RGBA image with at most 255 colours, and what is more clear than not as the colour CLEAR: GIF knows no half."""
    clear = image.getchannel("A").point(lambda alpha: 0 if alpha > WHITE // 2 else WHITE)
    made = image.convert("RGB").quantize(CLEAR)
    made.paste(CLEAR, mask=clear)
    return made
