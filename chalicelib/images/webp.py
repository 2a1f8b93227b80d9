"""Decoding a WebP no larger than it need be, which libwebp can and Pillow does not ask of it.

libwebp scales row by row as it decodes, so that neither the time for 12 megapixels of RGB nor their memory is spent. It is the
library that Pillow's own module is linked to: asked for by that module's name, symbols are found wherever a wheel or a
distribution keeps it. Where it does not answer as its header says, there is no scaled decoding and Pillow does all.
https://chromium.googlesource.com/webm/libwebp/+/refs/tags/v1.6.0/src/webp/decode.h
"""

import ctypes
from functools import lru_cache
from typing import Any

from PIL import Image, _webp

from chalicelib.images.geometry import Size

# WEBP_DECODER_ABI_VERSION. libwebp refuses a caller whose upper byte is another.
ABI = 0x0209
_RGB, _RGBA = 0, 1


class _Features(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("has_alpha", ctypes.c_int),
        ("has_animation", ctypes.c_int),
        ("format", ctypes.c_int),
        ("pad", ctypes.c_uint32 * 5),
    )


class _Pixels(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("stride", ctypes.c_int), ("size", ctypes.c_size_t))


class _Planes(ctypes.Structure):
    _fields_ = (("starts", ctypes.c_void_p * 4), ("strides", ctypes.c_int * 4), ("sizes", ctypes.c_size_t * 4))


class _Places(ctypes.Union):
    _fields_ = (("pixels", _Pixels), ("planes", _Planes))


class _Output(ctypes.Structure):
    _fields_ = (
        ("colorspace", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("is_external_memory", ctypes.c_int),
        ("u", _Places),
        ("pad", ctypes.c_uint32 * 4),
        ("private_memory", ctypes.c_void_p),
    )


class _Choices(ctypes.Structure):
    _fields_ = (
        ("bypass_filtering", ctypes.c_int),
        ("no_fancy_upsampling", ctypes.c_int),
        ("use_cropping", ctypes.c_int),
        ("crop", ctypes.c_int * 4),
        ("use_scaling", ctypes.c_int),
        ("scaled_width", ctypes.c_int),
        ("scaled_height", ctypes.c_int),
        ("use_threads", ctypes.c_int),
        ("dithering_strength", ctypes.c_int),
        ("flip", ctypes.c_int),
        ("alpha_dithering_strength", ctypes.c_int),
        ("pad", ctypes.c_uint32 * 5),
    )


class _Config(ctypes.Structure):
    _fields_ = (("input", _Features), ("output", _Output), ("options", _Choices))


def decoded(source: bytes, whole: Size, size: Size, alpha: bool) -> Image.Image | None:
    """The still picture in `source`, which has `whole` pixels, as RGB or RGBA of `size`; None if it cannot be decoded this way.

    Each side of `size` is at most that of `whole`. The caller has seen to it that the source is small enough to be decoded.
    """
    library = _library()
    if library is None:
        return None
    config = _Config()
    if not library.WebPInitDecoderConfigInternal(ctypes.byref(config), ABI):
        return None
    mode, channels, colorspace = ("RGBA", 4, _RGBA) if alpha else ("RGB", 3, _RGB)
    stride = size[0] * channels
    pixels = bytearray(stride * size[1])
    if size != whole:  # or colours would be scaled up the coarser way for nothing
        config.options.use_scaling = 1
        config.options.scaled_width, config.options.scaled_height = size
    config.output.colorspace = colorspace
    config.output.is_external_memory = 1
    config.output.u.pixels = _Pixels(ctypes.addressof(ctypes.c_char.from_buffer(pixels)), stride, len(pixels))
    if library.WebPDecode(source, len(source), ctypes.byref(config)):
        return None
    return Image.frombuffer(mode, size, pixels, "raw", mode, 0, 1)


@lru_cache(maxsize=1)
def _library() -> Any:
    """libwebp, or None where it has not what is needed."""
    try:
        library = ctypes.CDLL(_webp.__file__)
        library.WebPInitDecoderConfigInternal.argtypes = (ctypes.POINTER(_Config), ctypes.c_int)
        library.WebPDecode.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_Config))
        return library
    except (OSError, AttributeError):
        return None
