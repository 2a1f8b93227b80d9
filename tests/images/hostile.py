"""Files that no honest program writes, by fixed seeds: damaged ones, ones of another kind, and ones made to do harm."""

import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
from PIL import Image

from chalicelib.images.options import Options

from .pictures import (
    ADOBE_RGB,
    animated,
    built_in_profile,
    deep,
    gif,
    gif_frame,
    jpeg_segment,
    moving,
    photograph,
    png,
    png_chunk,
    printed,
    riff,
    saved,
    turned,
    veiled,
    vp8x,
)
from .trial import MADE, REFUSED

Files = dict[str, bytes]
SIDE = 7000  # 49 megapixels: as much as may be
BOMB = 100 << 20


# ---- damaged -------------------------------------------------------------------------------------------------------
def healthy() -> Files:
    """A small file of every kind."""
    picture = photograph(64, 48)
    sixteen = np.asarray(picture).astype(int) * 257
    return {
        "jpeg": saved(picture, "JPEG"),
        "jpeg-progressive": saved(picture, "JPEG", progressive=True),
        "jpeg-exif-profile": turned(picture, "JPEG", 6, icc_profile=built_in_profile("p3")),
        "jpeg-cmyk": saved(printed(picture), "JPEG"),
        "mpo": animated([picture, picture], "MPO"),
        "png": saved(picture, "PNG"),
        "png-palette": saved(picture.quantize(16), "PNG", transparency=3),
        "png-alpha": saved(veiled(picture), "PNG", icc_profile=ADOBE_RGB),
        "png-16": deep(sixteen),
        "png-16-grey": deep(sixteen[..., :1]),
        "png-animated": animated(moving(3), "PNG"),
        "gif": saved(picture, "GIF", transparency=5),
        "gif-animated": animated(moving(4, mode="RGBA"), "GIF", duration=50, loop=2),
        "webp": saved(picture, "WEBP"),
        "webp-alpha": saved(veiled(picture), "WEBP", icc_profile=ADOBE_RGB),
        "webp-lossless": saved(veiled(picture), "WEBP", lossless=True),
        "webp-animated": animated(moving(4, mode="RGBA"), "WEBP", duration=50),
        "avif": saved(picture, "AVIF", speed=10),
        "avif-alpha": turned(veiled(picture), "AVIF", 5, speed=10),
        "avif-animated": animated(moving(3), "AVIF", duration=50, speed=10),
        "bmp": saved(picture, "BMP"),
        "bmp-palette": saved(picture.quantize(16), "BMP"),
        "bmp-runs": bmp_of_runs(64, 48, b"\x40\7\0\0" * 48 + b"\0\1"),
        "tiff": saved(picture, "TIFF"),
        "tiff-lzw": saved(veiled(picture), "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": saved(picture, "TIFF", compression="jpeg"),
        "tiff-fax": saved(picture.convert("1"), "TIFF", compression="group4"),
        "tiff-16": deep(sixteen, "tiff"),
    }


def damaged(seed: int = 16) -> Files:
    chance = random.Random(seed)
    made: Files = {}
    sound = healthy()
    for name, body in sound.items():
        for number, (count, reach) in enumerate(
            [(1, 64), (2, 64), (1, 200), (3, 200), (1, 9999), (1, 9999), (3, 9999), (8, 9999), (40, 9999)]
        ):
            made[f"{name}-flipped-{number}"] = flipped(body, count, min(reach, len(body)), chance)
        for part in (0.02, 0.2, 0.5, 0.8, 0.97):
            made[f"{name}-cut-{part}"] = body[: int(len(body) * part)]
        start, end = sorted(chance.sample(range(12, len(body)), 2))
        made[f"{name}-hole"] = body[:start] + body[end:]
        made[f"{name}-twice"] = body[:end] + body[start:]
        made[f"{name}-zeros"] = body[:start] + bytes(end - start) + body[end:]
    for (one, first), (other, second) in pairwise([*sound.items(), *list(sound.items())[:1]]):
        made[f"{one}-{other}"] = first[: len(first) // 2] + second[len(second) // 2 :]
        made[f"{one}-before-{other}"] = first + second
    return made


def flipped(body: bytes, count: int, reach: int, chance: random.Random) -> bytes:
    changed = bytearray(body)
    for place in chance.sample(range(reach), count):
        changed[place] ^= chance.randrange(1, 256)
    return bytes(changed)


# ---- of another kind -----------------------------------------------------------------------------------------------
def strangers() -> Files:
    """Nothing that is a picture we take, whatever it begins like."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.png", saved(photograph(8, 8), "PNG"))
    picture = photograph(16, 16)
    other = {form: saved(picture, form) for form in ("PPM", "TGA", "PCX", "ICO", "JPEG2000", "SGI", "PDF", "EPS", "DDS", "ICNS")}
    magic = {
        "png": b"\x89PNG\r\n\x1a\n",
        "jpeg": b"\xff\xd8\xff\xe0",
        "gif": b"GIF89a",
        "webp": b"RIFF\4\0\0\0WEBP",
        "webp-lossy": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "avif": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf",
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "bmp": b"BM",
        "tiff": b"II*\0",
        "tiff-big": b"MM\0+\0\x08\0\0",
    }
    return {
        "empty": b"",
        "byte": b"\0",
        "newline": b"\n",
        "zeros": bytes(100_000),
        "noise": random.Random(5).randbytes(100_000),
        "text": b"Not a picture at all.\n" * 100,
        "html": b"<!doctype html><html><body><img src=x onerror=alert(1)></body></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><image href="file:///etc/passwd"/></svg>',
        "xml-bomb": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>',
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "zip": archive.getvalue(),
        "elf": b"\x7fELF\2\1\1\0" + bytes(8) + struct.pack("<HHI", 2, 62, 1) + bytes(500),
        "exe": b"MZ" + bytes(500),
        "mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(500),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(%pipe%id) (r) file\n",
        "xpm": b'/* XPM */\nstatic char *x[] = {"1 1 1 1", "a c #000000", "a"};',
        **{f"other-{form.lower()}": body for form, body in other.items()},
        **{f"only-{name}": body for name, body in magic.items()},
        **{f"{name}-and-zeros": body + bytes(1000) for name, body in magic.items()},
        **{f"{name}-and-ones": body + b"\xff" * 1000 for name, body in magic.items()},
    }


# ---- made to do harm -----------------------------------------------------------------------------------------------
def bombs() -> Files:
    makers = (png_bombs, gif_bombs, jpeg_bombs, webp_bombs, tiff_bombs, bmp_bombs, avif_bombs)
    return {f"{maker.__name__}-{name}": body for maker in makers for name, body in maker()}


def slow() -> Files:
    """Small files that take long to decode."""
    return {
        "jpeg-of-scans": jpeg_of_scans(SIDE, 3_000),
        "gif-of-large-frames": gif((8, 8), [gif_frame(1, (8, 8)), *[large_gif_frame()] * 150]),
        "bmp-of-short-lines": bmp_of_runs(SIDE, SIDE, b"\1\0\0\0" * SIDE),
    }


def png_bombs() -> Iterator[tuple[str, bytes]]:
    zeros = zlib.compress(bytes(BOMB))
    line = bytes(4)
    yield "wide", png(50_001, 1_000, 8, 2, b"")
    yield "within-the-limit-but-empty", png(10_000, 5_000, 8, 6, b"")
    yield "pixels", png(1, 1, 8, 2, bytes(BOMB))
    yield "profile", png(1, 1, 8, 2, line, png_chunk(b"iCCP", b"x\0\0" + zeros))
    yield "text", png(1, 1, 8, 2, line, png_chunk(b"zTXt", b"Comment\0\0" + zeros))
    yield "international-text", png(1, 1, 8, 2, line, png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zeros))
    part = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000)))
    yield "many-texts", png(1, 1, 8, 2, line, *[part] * 500)
    yield "many-chunks", png(1, 1, 8, 2, line, *[png_chunk(b"teSt", b"")] * 200_000)
    yield "palette-too-large", png(8, 8, 8, 3, bytes(9 * 8), png_chunk(b"PLTE", bytes(3 * 300)))
    yield "no-palette", png(8, 8, 8, 3, bytes(9 * 8))
    yield "no-size", png(0, 0, 8, 2, b"")
    yield "unknown-depth", png(8, 8, 77, 2, bytes(500))
    yield "negative-size", png(0xFFFFFFFF, 1, 8, 2, b"")
    frames = png_chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0))
    yield "frames", png(1, 1, 8, 2, line, frames)
    outside = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 50_000, 50_000, 1 << 30, 1 << 30, 1, 1, 0, 0))
    yield "frame-outside", png(1, 1, 8, 2, line, png_chunk(b"acTL", struct.pack(">II", 2, 0)), outside)
    yield "exif-loop", png(1, 1, 8, 2, line, png_chunk(b"eXIf", looping_exif()))


def gif_bombs() -> Iterator[tuple[str, bytes]]:
    tiny = [gif_frame(number % 3 + 1, (1, 1)) for number in range(20_000)]
    yield "frames", gif((8, 8), tiny)
    yield "frames-of-a-large-canvas", gif((SIDE, SIDE), tiny[:200])
    yield "frame-beyond-the-canvas", gif((8, 8), [gif_frame(1, (8, 8)), gif_frame(2, (60, 60), (3, 3)), gif_frame(3, (8, 8), (500, 500))])
    yield "frame-at-the-end-of-the-world", gif((8, 8), [gif_frame(1, (8, 8)), gif_frame(1, (8, 8), (65_535, 65_535)), gif_frame(2, (8, 8))])
    yield "comments", gif((8, 8), [b"!\xfe" + b"\xff" + bytes(255) + b"\0"] * 20_000 + [gif_frame(1, (8, 8))])
    yield "no-end", gif((8, 8), [gif_frame(1, (8, 8)), b"!\xff" + b"\xff" * 500_000])
    yield "no-frame", gif((8, 8), [])
    yield "no-size", gif((0, 0), [gif_frame(1, (8, 8))])
    yield "empty-frame", gif((8, 8), [gif_frame(1, (8, 8)), gif_frame(1, (0, 0)), gif_frame(2, (0, 8))])
    yield "wide-codes", gif((8, 8), [gif_frame(1, (8, 8)).replace(b"\2", b"\xff", 1)])


def large_gif_frame() -> bytes:
    file = saved(Image.new("P", (SIDE, SIDE), 0), "GIF")
    return file[file.index(b",\0\0\0\0") : -1]


def jpeg_bombs() -> Iterator[tuple[str, bytes]]:
    small = saved(photograph(16, 16), "JPEG")
    head, rest = small[:2], small[2:]
    yield "segments", head + jpeg_segment(0xFE, b"") * 100_000 + rest
    yield "applications", head + jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\xff\xff\xff\xff") * 10_000 + rest
    yield "exif-loop", head + jpeg_segment(0xE1, b"Exif\0\0" + looping_exif()) + rest
    yield "exif-of-nothing", head + jpeg_segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f") + rest
    yield "pictures", head + jpeg_segment(0xE2, b"MPF\0" + pictures_within(0x7FFFFFFF)) + rest
    yield "within-the-limit-but-empty", claimed(small, 10_000, 5_000)
    yield "thin", claimed(small, 1, 65_500)
    yield "profile-of-megabytes", saved(photograph(16, 16), "JPEG", icc_profile=ADOBE_RGB + bytes(6 << 20))
    yield "profile-of-almost-as-many", saved(photograph(16, 16), "JPEG", icc_profile=ADOBE_RGB + bytes((4 << 20) - len(ADOBE_RGB)))
    yield "profile-of-tables", saved(photograph(16, 16), "JPEG", icc_profile=hungry_profile())
    yield "profile-cut", head + jpeg_segment(0xE2, b"ICC_PROFILE\0\1\xff" + ADOBE_RGB) + rest
    yield "adobe", head + jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\7") + rest


def claimed(jpeg: bytes, width: int, height: int) -> bytes:
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + struct.pack(">HH", height, width) + jpeg[start + 4 :]


def jpeg_of_scans(side: int, count: int) -> bytes:
    """A grey picture, and `count` times the news that no coefficient of it gets a further bit."""
    blocks = (-(-side // 8)) ** 2
    code = bytes([1, *[0] * 15])  # one code of one bit
    made = b"\xff\xd8" + jpeg_segment(0xDB, b"\0" + b"\1" * 64)
    made += jpeg_segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    made += jpeg_segment(0xC4, b"\0" + code + b"\0") + jpeg_segment(0xC4, b"\x10" + code + b"\xe0")
    made += jpeg_segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    # Code 0, and 14 bits for how many blocks more than 16384 have nothing: 32767 at a time.
    bits = "011111111111111" * (blocks // 32_767) + "000000000000000"
    bits += "1" * (-len(bits) % 8)
    nothing = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return made + (jpeg_segment(0xDA, b"\1\1\0\1\x3f\x10") + nothing) * count + b"\xff\xd9"


def looping_exif() -> bytes:
    """Directories that are each other's next and each other's part."""
    entries = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0x8825, 0xA005))
    return b"II*\0\x08\0\0\0" + entries + struct.pack("<I", 8)


def pictures_within(count: int) -> bytes:
    entries = [(0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, count), (0xB002, 7, 0x7FFFFFF0, 50)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)


def hungry_profile() -> bytes:
    """A profile whose table claims 255 points on each of 15 axes, and whose curves claim four billion."""
    body = bytearray(ADOBE_RGB)
    for name, kind in ((b"rTRC", b"curv\0\0\0\0\xff\xff\xff\xff"), (b"gTRC", b"mft2\0\0\0\0\x0f\x0f\xff\0" + b"\xff" * 8)):
        entry = body.index(name)
        (at,) = struct.unpack_from(">I", body, entry + 4)
        body[at : at + len(kind)] = kind
    return bytes(body)


def webp_bombs() -> Iterator[tuple[str, bytes]]:
    small = saved(photograph(16, 16), "WEBP", lossless=True)[12:]
    image = (b"VP8L", small[8:])
    moved = animated(moving(3), "WEBP")
    yield "canvas", riff(vp8x(1 << 24, 1 << 24), image)
    yield "canvas-within-the-limit", riff(vp8x(SIDE, SIDE), image)
    yield "canvas-of-an-animation", moved[:24] + vp8x(SIDE, SIDE)[1][4:] + moved[30:]
    yield "canvas-too-small", moved[:24] + vp8x(2, 2)[1][4:] + moved[30:]
    yield "chunks", riff(vp8x(16, 16), *[(b"teSt", b"")] * 100_000, image)
    yield "alpha-without-end", riff(vp8x(16, 16, 0x10), (b"ALPH", b"\1" + b"\xff" * 50), image)
    yield "exif-loop", riff(vp8x(16, 16, 0x08), image, (b"EXIF", looping_exif()))
    yield "profile", riff(vp8x(16, 16, 0x20), (b"ICCP", hungry_profile()), image)
    yield "frames-without-pixels", riff(vp8x(16, 16, 2), (b"ANIM", bytes(6)), *[(b"ANMF", bytes(16))] * 1000)


def tiff(*entries: tuple[int, int, int, int], after: int = 0, data: bytes = b"") -> bytes:
    """A TIFF of one directory of (tag, type, count, value) and the offset of the next; its data begins at 8000."""
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", after)
    return (b"II*\0\x08\0\0\0" + table).ljust(8000, b"\0") + data


def tiff_bombs() -> Iterator[tuple[str, bytes]]:
    size = [(256, 4, 1, 64), (257, 4, 1, 48), (258, 4, 1, 8)]
    grey = [(259, 4, 1, 1), (262, 4, 1, 1)]
    strip = [(273, 4, 1, 8000), (277, 4, 1, 1), (278, 4, 1, 48), (279, 4, 1, 64 * 48)]
    whole = [*size, *grey, *strip]
    large = [(256, 4, 1, 10_000), (257, 4, 1, 5_000), (258, 4, 1, 8)]
    yield (
        "strips",
        tiff(*size, *grey, (273, 4, 0xFFFFFFFF, 8000), (277, 4, 1, 1), (278, 4, 1, 1), (279, 4, 0xFFFFFFFF, 8000), data=bytes(5000)),
    )
    yield (
        "tiles",
        tiff(*large, *grey, (322, 4, 1, 1), (323, 4, 1, 1), (324, 4, 50_000_000, 8000), (325, 4, 50_000_000, 8000), data=bytes(5000)),
    )
    yield "tiles-of-nothing", tiff(*size, *grey, (322, 4, 1, 0), (323, 4, 1, 0), (324, 4, 1, 8000), (325, 4, 1, 10), data=bytes(5000))
    yield "huge-tile", tiff(*size, *grey, (322, 4, 1, 1 << 30), (323, 4, 1, 1 << 30), (324, 4, 1, 8000), (325, 4, 1, 10), data=bytes(5000))
    yield "loop", tiff(*whole, after=8, data=bytes(5000))
    yield "directories", tiff(*whole, after=8000, data=chain(20_000))
    yield "values", tiff(*whole, (700, 1, 0xFFFFFFFF, 0), (34_675, 7, 0x7FFFFFFF, 100), (270, 2, 0xFFFFFFF0, 4), data=bytes(5000))
    yield "many-entries", tiff(*whole, *[(40_000 + number, 4, 1, 0) for number in range(600)], data=bytes(5000))
    yield "parts-loop", tiff(*whole, (330, 4, 1, 8), (34_665, 4, 1, 8), data=bytes(5000))
    yield "samples", tiff(*size[:2], (258, 3, 65_535, 8000), *grey, *strip[:1], (277, 4, 1, 65_535), *strip[2:], data=bytes(150_000))
    for compression in (1, 2, 3, 4, 5, 6, 7, 8, 32_773, 34_676, 34_925, 50_000, 50_001):
        pixels = [(259, 4, 1, compression), (262, 4, 1, 1), *strip[:2], (278, 4, 1, 5_000), (279, 4, 1, 4_000)]
        yield f"within-the-limit-but-empty-{compression}", tiff(*large, *pixels, data=bytes(5000))


def chain(count: int) -> bytes:
    """Directories without an entry, each of which names the next."""
    return b"".join(struct.pack("<HI", 0, 8000 + 6 * (number + 1)) for number in range(count)) + bytes(6)


def bmp_bombs() -> Iterator[tuple[str, bytes]]:
    small = saved(photograph(16, 16), "BMP")
    yield "within-the-limit-but-empty", small[:18] + struct.pack("<ii", 10_000, 5_000) + small[26:]
    yield "upside-down", small[:18] + struct.pack("<ii", 16, -(1 << 31)) + small[26:]
    yield "far-away", small[:10] + struct.pack("<I", 0xFFFFFFFF) + small[14:]
    yield "colours", small[:46] + struct.pack("<I", 0x7FFFFFFF) + small[50:]
    yield "empty-lines", bmp_of_runs(SIDE, SIDE, b"\0\0" * 1_000_000)
    yield "jumps", bmp_of_runs(SIDE, SIDE, b"\0\2\xff\xff" * 100)


def avif_bombs() -> Iterator[tuple[str, bytes]]:
    small = saved(photograph(64, 64), "AVIF", speed=10)
    size = small.index(b"ispe") + 8
    yield "within-the-limit", small[:size] + struct.pack(">II", 10_000, 5_000) + small[size + 8 :]
    yield "smaller-than-it-is", small[:size] + struct.pack(">II", 1, 1) + small[size + 8 :]
    yield "boxes", small[:32] + (struct.pack(">I", 8) + b"free") * 100_000 + small[32:]


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    """A grey BMP whose pixels are `runs` (BI_RLE8)."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return (
        b"BM"
        + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078)
        + head
        + bytes(each for level in range(256) for each in (level,) * 3 + (0,))
        + runs
    )


# ---- large, and within what may be ---------------------------------------------------------------------------------
def plain() -> Files:
    """One colour, of almost as many pixels as may be."""
    size = (SIDE, SIDE)
    palette = Image.new("P", size, 0)
    return {
        "png-alpha": saved(Image.new("RGBA", size, (9, 99, 199, 50)), "PNG", compress_level=1),
        "png-16": saved(Image.new("I;16", size, 30_000), "PNG", compress_level=1),
        "png-1": saved(Image.new("1", size, 1), "PNG", compress_level=1),
        "gif": saved(palette, "GIF", transparency=0),
        "jpeg-cmyk": saved(Image.new("CMYK", size, (10, 20, 30, 40)), "JPEG", subsampling=0),
        "jpeg-progressive": saved(Image.new("RGB", size, (9, 99, 199)), "JPEG", progressive=True, subsampling=0),
        "webp": saved(Image.new("RGBA", size, (9, 99, 199, 50)), "WEBP", lossless=True, quality=0, method=0),
        "tiff": saved(Image.new("RGBA", size, (9, 99, 199, 50)), "TIFF", compression="tiff_lzw"),
    }


def detailed() -> Files:
    """A picture that an encoder has to work on."""
    return {"jpeg": saved(photograph(500, 500).resize((SIDE, SIDE), Image.Resampling.BICUBIC), "JPEG", quality=85)}


def growing() -> Files:
    """An animation to be enlarged to as many pixels as a picture may have, in all its frames."""
    return {"gif": animated([photograph(64, 64, seed) for seed in range(3)], "GIF", duration=100)}


@dataclass(frozen=True)
class Group:
    """Files, what is asked of each, how many there are at least, and what may come of them."""

    make: Callable[[], Files]
    options: dict[str, Options]
    least: int = 1
    wanted: frozenset[str] = frozenset({MADE, REFUSED})


SEVERAL = {
    "contain": Options(64, 64, format="webp"),
    "cover": Options(50, 40, "cover", (10.0, 90.0), format="jpeg"),
    "png": Options(200, format="png"),
}
GROUPS = {
    "damaged": Group(damaged, SEVERAL | {"source": Options(30)}, least=500),
    "strangers": Group(strangers, SEVERAL, least=50, wanted=frozenset({REFUSED})),
    "bombs": Group(bombs, SEVERAL, least=75),
    "slow": Group(slow, {"contain": SEVERAL["contain"]}),
    "plain": Group(plain, {"contain": SEVERAL["contain"], "large": Options(4096, format="jpeg")}, wanted=frozenset({MADE})),
    "detailed": Group(detailed, {form: Options(format=form) for form in ("jpeg", "webp", "png", "avif")}),
    "growing": Group(growing, {form: Options(4096, 4096, enlarge=True, format=form) for form in ("webp", "avif")}),
}
