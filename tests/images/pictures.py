"""Pictures made for these tests, the same in every run, and what is seen of a file."""

import struct
import zlib
from collections.abc import Iterable
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import pyvips
from PIL import Image, ImageCms, ImageFilter, ImageSequence

from chalicelib.images.options import Options
from chalicelib.images.transform import transform

ORIENTATION = 0x0112
Colour = tuple[int, int, int]
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 40), (40, 50, 210), (230, 220, 40)
# What makes a stored picture of an upright one, by EXIF orientation.
_STORE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


# ---- files and what is seen of them --------------------------------------------------------------------------------
def saved(image: Image.Image, form: str, **how: Any) -> bytes:
    written = BytesIO()
    image.save(written, form, **how)
    return written.getvalue()


def opened(body: bytes) -> Image.Image:
    image = Image.open(BytesIO(body))
    image.load()
    return image


def pixels(image: Image.Image, mode: str = "RGB") -> Any:
    """Rows, columns and channels, as numbers that can be subtracted."""
    return np.asarray(image if image.mode == mode else image.convert(mode)).astype(int)


def shown(source: bytes, **options: Any) -> Image.Image:
    """The picture that `options` make of a file; as PNG, which loses nothing, unless they name another format."""
    return opened(transform(source, Options(**{"format": "png"} | options)).body)


def frames(body: bytes, mode: str = "RGBA") -> list[Any]:
    return [pixels(frame, mode) for frame in ImageSequence.Iterator(Image.open(BytesIO(body)))]


def distance(one: Any, other: Any) -> float:
    """The mean difference of two pictures' samples, of 255."""
    assert one.shape == other.shape
    return float(np.abs(one - other).mean())


# ---- pictures ------------------------------------------------------------------------------------------------------
@cache
def photograph(width: int, height: int, seed: int = 7) -> Image.Image:
    """Like one: soft light, structure of every size, hard edges, some noise; and a colour in each corner."""
    random = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    light = np.stack([80 + 120 * across, 70 + 110 * down, 170 - 90 * across * down], axis=-1)
    for cells in (3, 11, 40):
        coarse = random.uniform(0, 255, (max(2, cells * height // width), cells, 3)).astype(np.uint8)
        grown = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        light += (np.asarray(grown, dtype=float) - 128) * (0.9 / cells**0.5)
    light[np.hypot(across - 0.6, (down - 0.45) * height / width) < 0.12] *= 0.45
    light[np.abs(across - 0.25 - 0.1 * down) < 0.01] = 235
    light += random.normal(0, 3, (height, width, 1))
    image = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    side = max(1, min(width, height) // 6)
    for colour, place in zip((RED, GREEN, BLUE, YELLOW), corner_places(width, height, side), strict=True):
        image.paste(colour, (*place, place[0] + side, place[1] + side))
    return image


def corner_places(width: int, height: int, side: int) -> list[tuple[int, int]]:
    return [(0, 0), (width - side, 0), (0, height - side), (width - side, height - side)]


def veiled(image: Image.Image) -> Image.Image:
    """`image` with an alpha channel: clear at the left, opaque at the right, and a hole."""
    across, down = np.meshgrid(np.linspace(0, 1, image.width), np.linspace(0, 1, image.height))
    alpha = np.clip(across * 1.5, 0, 1) * 255
    alpha[np.hypot(across - 0.7, down - 0.5) < 0.15] = 0
    made = image.convert("RGBA")
    made.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return made


def gradient(width: int = 256, height: int = 32) -> Image.Image:
    """Grey, from black at the left to white at the right."""
    return Image.fromarray(np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1)))


def stored(upright: Image.Image, orientation: int) -> Image.Image:
    """The pixels of a file that shows `upright` when it is turned as `orientation` says."""
    return upright.transpose(_STORE[orientation]) if orientation in _STORE else upright


def turned(upright: Image.Image, form: str, orientation: int, **how: Any) -> bytes:
    """A file that stores `upright` by `orientation`."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(stored(upright, orientation), form, exif=exif, **how)


def moving(count: int, size: tuple[int, int] = (60, 40), mode: str = "RGB") -> list[Image.Image]:
    """Frames no two of which are alike: a bar that goes from left to right and changes its colour."""
    made = []
    for number in range(count):
        frame = Image.new("RGB", size, (200, 200, 210))
        left = number * size[0] // count
        frame.paste((20 + 200 * number // count, 40, 220 - 200 * number // count), (left, 0, left + size[0] // count + 2, size[1]))
        if mode == "RGBA":
            frame.putalpha(255)
            frame.paste((0, 0, 0, 0), (size[0] // 3, size[1] // 2, size[0] * 2 // 3, size[1]))
        made.append(frame)
    return made


def animated(images: list[Image.Image], form: str, **how: Any) -> bytes:
    return saved(images[0], form, save_all=True, append_images=images[1:], **how)


def deep(array: Any, form: str = "png") -> bytes:
    """A file of 16 bits a sample, which Pillow cannot write in colour."""
    kind = "grey16" if array.shape[2] < 3 else "rgb16"
    image = pyvips.Image.new_from_array(array.astype(np.uint16)).copy(interpretation=kind)
    return bytes(image.pngsave_buffer(bitdepth=16) if form == "png" else image.tiffsave_buffer(compression="lzw"))


# ---- formats by hand -----------------------------------------------------------------------------------------------
def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, data: bytes, *chunks: bytes) -> bytes:
    """A PNG whose chunks between header and pixels are `chunks`; `data` is what it inflates to."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(data, 1)) + png_chunk(b"IEND", b"")


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP of these chunks."""
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    return b"VP8X", struct.pack("<I", flags) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


GIF_COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))


def gif(canvas: tuple[int, int], parts: Iterable[bytes], loop: int | None = None) -> bytes:
    repeat = b"" if loop is None else b"!\xff\x0bNETSCAPE2.0\3\1" + struct.pack("<H", loop) + b"\0"
    header = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x81, 0, 0) + b"".join(bytes(colour) for colour in GIF_COLOURS)
    return header + repeat + b"".join(parts) + b";"


def gif_frame(
    colour: int, size: tuple[int, int], at: tuple[int, int] = (0, 0), disposal: int = 0, clear: int | None = None, centiseconds: int = 10
) -> bytes:
    """A frame of one of GIF_COLOURS; `clear` is the one that is transparent."""
    control = b"!\xf9\4" + struct.pack("<BHB", disposal << 2 | (clear is not None), centiseconds, clear or 0) + b"\0"
    return control + b"," + struct.pack("<HHHHB", *at, *size, 0) + _lzw(colour, size[0] * size[1])


@cache
def _lzw(index: int, count: int) -> bytes:
    # A clear code (4) before every second pixel keeps codes at three bits; eight of them are three bytes.
    codes = [code for start in range(0, count, 2) for code in (4, *[index] * min(2, count - start))] + [5]
    bits = sum(code << 3 * place for place, code in enumerate(codes))
    packed = bits.to_bytes(len(codes) * 3 // 8 + 1, "little")
    return b"\2" + b"".join(bytes([len(packed[at : at + 255])]) + packed[at : at + 255] for at in range(0, len(packed), 255)) + b"\0"


# ---- colour profiles -----------------------------------------------------------------------------------------------
@cache
def built_in_profile(name: str) -> bytes:
    """One that libvips brings: p3, srgb or cmyk."""
    return bytes(pyvips.Operation.call("profile_load", name))


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile (version 2) of a display."""
    start = 132 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body + b"\0" * (-len(body) % 4)
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    white = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    head = struct.pack(">I", start + len(data)) + b"\0" * 4 + b"\2\x10\0\0mntr" + space + b"XYZ " + date + b"acsp" + b"\0" * 28 + white
    return head.ljust(128, b"\0") + table + data


def _described(name: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0" + b"\0" * 78


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))


def _gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + b"\0\0"


ADOBE_RGB = _profile(
    b"RGB ",
    {
        b"desc": _described(b"like Adobe RGB (1998)"),
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": _xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": _xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": _xyz(0.14919, 0.06322, 0.74457),
        **{name: _gamma(2.19921875) for name in (b"rTRC", b"gTRC", b"bTRC")},
    },
)


def linear_profile(name: str) -> bytes:
    """The primaries of sRGB, and as much light as the number says."""
    return _profile(
        b"RGB ",
        {
            b"desc": _described(name.encode()),
            b"wtpt": _xyz(0.9642, 1.0, 0.8249),
            b"rXYZ": _xyz(0.43607, 0.22249, 0.01392),
            b"gXYZ": _xyz(0.38515, 0.71687, 0.09708),
            b"bXYZ": _xyz(0.14307, 0.06061, 0.71410),
            **{curve: _gamma(1.0) for curve in (b"rTRC", b"gTRC", b"bTRC")},
        },
    )


LINEAR_GREY = _profile(b"GRAY", {b"desc": _described(b"linear"), b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"kTRC": _gamma(1.0)})


def in_profile(image: Image.Image, profile: bytes) -> Image.Image:
    made = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(BytesIO(profile)), 1)
    assert made is not None
    return made


def printed(image: Image.Image) -> Image.Image:
    """`image` in the inks of the CMYK profile."""
    inks = pyvips.Image.new_from_array(np.asarray(image)).copy(interpretation="srgb")
    inks = inks.icc_transform("cmyk", input_profile="srgb", intent="relative", depth=8)
    return Image.frombytes("CMYK", image.size, inks.write_to_memory())
