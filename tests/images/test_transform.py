"""What a user sees: an image file and options in, an image file out."""

import resource
import struct
import sys
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from chalicelib.errors import UnprocessableImage
from chalicelib.images import webp
from chalicelib.images.options import SMALLEST, Options
from chalicelib.images.transform import transform

from . import pictures
from .pictures import (
    ADOBE_RGB,
    LINEAR_GREY,
    animated,
    built_in_profile,
    corner_places,
    deep,
    distance,
    frames,
    gif,
    gif_frame,
    gradient,
    in_profile,
    linear_profile,
    moving,
    opened,
    photograph,
    pixels,
    printed,
    saved,
    shown,
    turned,
    veiled,
)

EVERY = ("jpeg", "png", "webp", "avif")
SECRET = b"where-I-live"
CORNERS = (pictures.RED, pictures.GREEN, pictures.BLUE, pictures.YELLOW)


def corners(image: Image.Image) -> list[Any]:
    """The colours of a photograph's four corners."""
    side = max(1, min(image.size) // 12)
    return [pixels(image.crop((x, y, x + side, y + side))).mean(axis=(0, 1)) for x, y in corner_places(image.width, image.height, side)]


def durations(body: bytes) -> list[int]:
    image = Image.open(BytesIO(body))
    told = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        told.append(round(image.info["duration"]))
    return told


# ---- upright -------------------------------------------------------------------------------------------------------
@cache
def photographed(form: str, orientation: int) -> bytes:
    # A size that no decoder's blocks divide; colours not halved, so that turning changes nothing else.
    how = {
        "JPEG": {"quality": 92, "subsampling": 0},
        "WEBP": {"quality": 92, "method": 0},
        "AVIF": {"quality": 92, "speed": 9},
        "PNG": {"compress_level": 1},
    }
    return turned(photograph(601, 397), form, orientation, **how.get(form, {}))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"width": 500},
        {"width": 60},
        {"height": 130},
        {"width": 400, "height": 390, "fit": "cover"},
        {"width": 50, "height": 70, "fit": "cover", "focal": (20.0, 90.0)},
    ],
    ids=str,
)
def test_however_it_is_stored_it_is_shown_upright(form: str, options: dict[str, Any]) -> None:
    wanted = shown(photographed(form, 1), **options)
    for orientation in range(2, 9):
        made = shown(photographed(form, orientation), **options)
        assert made.size == wanted.size, orientation
        assert distance(pixels(made), pixels(wanted)) < (0.5 if form in ("PNG", "TIFF") else 3), orientation


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("width", [None, 300, 61])
def test_every_corner_is_where_it_belongs(form: str, width: int | None) -> None:
    for orientation in range(1, 9):
        made = shown(photographed(form, orientation), width=width)
        assert made.width > made.height
        assert np.abs(np.array(corners(made)) - CORNERS).max() < 25, orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(orientation: int) -> None:
    assert shown(turned(photograph(60, 40), "PNG", orientation)).size == (60, 40)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_an_orientation_that_xmp_alone_tells_turns_nothing(form: str) -> None:
    """No more than in a browser, which shows the source beside it."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert shown(saved(photograph(60, 40), form, xmp=xmp)).size == (60, 40)


def test_broken_exif_turns_nothing() -> None:
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage", b"Exif\0\0", b"MM"):
        assert shown(saved(photograph(60, 40), "JPEG", exif=exif), width=30).size == (30, 20)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(("focal", "corner"), [((0, 0), 0), ((100, 0), 1), ((0, 100), 2), ((100, 100), 3)])
def test_a_cover_shows_the_focal_point(form: str, focal: tuple[float, float], corner: int) -> None:
    source = saved(photograph(1200, 800), form)
    for size in ((100, 90), (400, 100), (30, 400)):  # small enough to be decoded at less than full size
        made = shown(source, width=size[0], height=size[1], fit="cover", focal=focal)
        assert made.size == size
        assert np.abs(corners(made)[corner] - CORNERS[corner]).max() < 25


# ---- sizes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize(
    ("options", "kept", "larger"),
    [
        ({"width": 80}, (40, 30), (80, 60)),
        ({"width": 80, "height": 80, "fit": "cover"}, (30, 30), (80, 80)),
        ({}, (40, 30), (40, 30)),
    ],
    ids=["contain", "cover", "no size"],
)
def test_a_source_that_is_smaller_than_asked_grows_only_if_it_may(
    form: str, options: dict[str, Any], kept: tuple[int, int], larger: tuple[int, int]
) -> None:
    source = saved(photograph(40, 30), form)
    assert shown(source, **options).size == kept
    grown = shown(source, **options, enlarge=True)
    assert grown.size == larger
    wanted = ImageOps.fit(opened(source).convert("RGB"), grown.size, Image.Resampling.BICUBIC)
    assert distance(pixels(grown), pixels(wanted)) < 5


def test_a_size_is_told_as_it_is() -> None:
    source = saved(photograph(60, 40), "PNG")
    for form in EVERY:
        made = transform(source, Options(width=33, format=form))
        assert made.size == opened(made.body).size == (33, 22)


@pytest.mark.parametrize(("form", "most"), [("webp", 16_383), ("jpeg", 65_500), ("png", 65_535), ("avif", 16_384)])
def test_a_side_that_the_format_cannot_hold_is_refused_with_a_hint(form: str, most: int) -> None:
    fits, too_long = (saved(Image.new("L", (width, 1), 99), "PNG") for width in (most, most + 1))
    assert opened(transform(fits, Options(format=form)).body).size == (most, 1)
    with pytest.raises(UnprocessableImage, match=f"{form} holds at most {most} pixels a side; ask for a smaller width"):
        transform(too_long, Options(format=form))
    assert shown(too_long, format=form, width=4096).size == (4096, 1)


def test_the_narrowest_pictures_have_a_part_that_covers() -> None:
    for size in ((33_333_333, 1), (1, 17_000_001)):
        source = saved(Image.new("L", size, 200), "PNG", compress_level=1)
        made = shown(source, width=100, height=100, fit="cover", focal=(99.99, 99.99))
        assert (made.size, made.getpixel((0, 0))) == ((1, 1), 200)
        assert max(shown(source, width=100, height=100).size) == 100


# ---- formats -------------------------------------------------------------------------------------------------------
def bmp_with_alpha(image: Image.Image) -> bytes:
    """A BMP that says which bits are alpha, as Pillow's own does not."""
    data = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    header = struct.pack("<IiiHHIIiiII", 108, *image.size, 1, 32, 3, len(data), 2835, 2835, 0, 0) + masks
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(data), 0, 0, 14 + len(header)) + header + data


@pytest.mark.parametrize(
    ("form", "image", "kept"),
    [
        *[(form, photograph(60, 40), form.lower()) for form in ("JPEG", "PNG", "WEBP", "AVIF", "GIF")],
        ("BMP", photograph(60, 40), "jpeg"),
        ("TIFF", photograph(60, 40), "jpeg"),
        ("TIFF", gradient(), "jpeg"),
        ("TIFF", veiled(photograph(60, 40)), "png"),
        ("BMP with alpha", veiled(photograph(60, 40)), "png"),
    ],
)
def test_without_a_format_the_source_keeps_its_own(form: str, image: Image.Image, kept: str) -> None:
    source = bmp_with_alpha(image) if form == "BMP with alpha" else saved(image, form)
    for options in (Options(), Options(width=20)):
        made = transform(source, options)
        assert made.content_type == f"image/{kept}"
        assert opened(made.body).format == kept.upper()


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"])
def test_every_format_is_made_of_every_other(source: str, form: str) -> None:
    picture = photograph(240, 160)
    made = transform(saved(picture, source), Options(width=120, format=form, quality=90))
    assert made.content_type == f"image/{form}"
    image = opened(made.body)
    assert (image.format, image.mode) == (form.upper(), "RGB")
    # A GIF has lost most of its colours before.
    assert distance(pixels(image), pixels(picture.resize((120, 80), Image.Resampling.LANCZOS))) < (9 if source == "GIF" else 6)


def test_of_two_pictures_in_a_jpeg_the_first_is_shown() -> None:
    source = animated([photograph(300, 200), photograph(300, 200, seed=8)], "MPO")
    assert Image.open(BytesIO(source)).format == "MPO"
    made = transform(source, Options(width=60))
    assert made.content_type == "image/jpeg"
    assert Image.open(BytesIO(made.body)).format == "JPEG"
    assert distance(pixels(shown(source, width=60)), pixels(shown(saved(photograph(300, 200), "JPEG"), width=60))) < 0.1


@pytest.mark.parametrize("form", ["jpeg", "webp", "avif"])
def test_a_higher_quality_takes_more_bytes_and_is_nearer(form: str) -> None:
    picture = photograph(240, 160)
    made = [transform(saved(picture, "PNG"), Options(format=form, quality=quality)).body for quality in (1, 40, 80, 100)]
    assert sorted(made, key=len) == made
    off = [distance(pixels(opened(body)), pixels(picture)) for body in made]
    assert sorted(off, reverse=True) == off
    assert off[-1] < 1.5


def test_png_loses_nothing_whatever_the_quality() -> None:
    source = saved(photograph(240, 160), "PNG")
    made = {transform(source, Options(format="png", quality=quality)).body for quality in (None, 1, 100)}
    assert len(made) == 1
    assert distance(pixels(opened(made.pop())), pixels(photograph(240, 160))) == 0


# ---- nothing but the picture ---------------------------------------------------------------------------------------
def telling(form: str) -> bytes:
    """A file that tells more than it shows, wherever its format lets it."""
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = SECRET.decode()
    exif.get_ifd(0x8825)[0x001D] = SECRET.decode()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + SECRET + b"</x:xmpmeta>"
    profile = ADOBE_RGB.replace(b"like Adobe", SECRET[:10])
    text = PngImagePlugin.PngInfo()
    for add in (text.add_text, text.add_itxt):
        add("Comment", SECRET.decode())
    text.add_text("Author", SECRET.decode(), zip=True)
    how: dict[str, dict[str, Any]] = {
        "JPEG": {"exif": exif, "xmp": xmp, "comment": SECRET, "icc_profile": profile, "dpi": (123, 123)},
        "PNG": {"exif": exif, "pnginfo": text, "icc_profile": profile, "dpi": (123, 123)},
        "WEBP": {"exif": exif, "xmp": xmp, "icc_profile": profile},
        "AVIF": {"exif": exif, "xmp": xmp, "icc_profile": profile},
        "GIF": {"comment": SECRET},
        "TIFF": {"tiffinfo": {270: SECRET.decode(), 700: xmp}, "icc_profile": profile},
        "MOVING GIF": {"comment": SECRET, "duration": 100},
        "MOVING WEBP": {"exif": exif, "xmp": xmp, "icc_profile": profile},
    }
    if form.startswith("MOVING "):
        made = animated(moving(3), form.removeprefix("MOVING "), **how[form])
    else:
        made = saved(photograph(60, 40), form, **how[form])
    assert SECRET in made or SECRET[:10] in made
    return made


@pytest.mark.parametrize("form", ["source", *EVERY])
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "MOVING GIF", "MOVING WEBP"])
@pytest.mark.parametrize("width", [None, 20])
def test_nothing_but_the_picture_gets_out(source: str, form: str, width: int | None) -> None:
    made = transform(telling(source), Options(width=width, format=form)).body
    assert SECRET[:10] not in made
    image = opened(made)
    assert not {"exif", "xmp", "icc_profile", "comment", "dpi"} & image.info.keys()
    assert not dict(image.getexif())
    assert not getattr(image, "text", None)


# ---- alpha ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("source", ["PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("form", ["png", "webp", "avif"])
def test_alpha_is_kept_where_the_format_has_it(source: str, form: str) -> None:
    picture = veiled(photograph(240, 160))
    made = shown(saved(picture, source), format=form, width=80, quality=90)
    assert made.mode == "RGBA"
    wanted = picture.getchannel("A").resize((80, 53), Image.Resampling.LANCZOS)
    assert distance(pixels(made.getchannel("A"), "L"), pixels(wanted, "L")) < 2


@pytest.mark.parametrize("source", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_jpeg_shows_on_white_what_can_be_seen_through(source: str) -> None:
    picture = veiled(photograph(240, 160))
    ground = Image.new("RGBA", picture.size, "white")
    wanted = Image.alpha_composite(ground, picture).convert("RGB").resize((80, 53), Image.Resampling.LANCZOS)
    made = shown(saved(picture, source), format="jpeg", width=80, quality=95)
    assert made.mode == "RGB"
    assert distance(pixels(made), pixels(wanted)) < 5


@pytest.mark.parametrize(
    ("form", "how"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("AVIF", {"quality": 95}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("WEBP", {"quality": 95, "exact": True}),
        ("WEBP", {"quality": 95}),
    ],
    ids=str,
)
@pytest.mark.parametrize("width", [40, 90, 170, 390])
def test_what_is_clear_does_not_darken_what_is_not(form: str, how: dict[str, Any], width: int) -> None:
    """White squares, and black where nothing is to be seen."""
    down, across = np.indices((400, 400)) // 48
    seen = ((across + down) % 2 * 255).astype(np.uint8)
    source = saved(Image.fromarray(np.dstack([seen, seen, seen, seen])), form, **how)
    made = pixels(shown(source, width=width), "RGBA")
    assert made[made[..., 3] > 30][:, :3].min() > 245


def test_an_alpha_channel_that_hides_nothing_goes() -> None:
    source = saved(photograph(60, 40).convert("RGBA"), "PNG")
    assert shown(source, width=30).mode == "RGB"
    assert shown(saved(gradient().convert("LA"), "PNG"), width=30).mode == "L"


# ---- every way to store a pixel ------------------------------------------------------------------------------------
def grey_files() -> dict[str, bytes]:
    """The grey gradient in every mode."""
    grey = gradient()
    fine = np.tile(np.linspace(0, 65535, 256).round(), (32, 1))[..., None]
    clear = np.full_like(fine, 65535)
    reverse = Image.frombytes("P", grey.size, ImageOps.invert(grey).tobytes())
    reverse.putpalette([255 - level // 3 for level in range(768)])
    cmyk = Image.merge("CMYK", [Image.new("L", grey.size, 0)] * 3 + [ImageOps.invert(grey)])
    sixteen = Image.fromarray(fine[..., 0].astype(np.uint16))
    return {
        "L": saved(grey, "PNG"),
        "1": saved(grey.resize((1024, 128)).convert("1"), "PNG"),
        "1 TIFF": saved(grey.resize((1024, 128)).convert("1"), "TIFF", compression="group4"),
        "LA": saved(Image.merge("LA", [grey, Image.new("L", grey.size, 255)]), "PNG"),
        "P": saved(reverse, "PNG"),
        "P BMP": saved(reverse, "BMP"),
        "P TIFF": saved(reverse, "TIFF"),
        "RGB": saved(grey.convert("RGB"), "PNG"),
        "RGBA BMP": saved(grey.convert("RGBA"), "BMP"),
        "L JPEG": saved(grey, "JPEG", quality=95),
        "CMYK JPEG": saved(cmyk, "JPEG", quality=95),
        "CMYK TIFF": saved(cmyk, "TIFF"),
        "16 bits": saved(sixteen, "PNG"),
        "16 bits TIFF": saved(sixteen, "TIFF"),
        "16 bits TIFF, big end first": tiff_big_endian(fine[..., 0].astype(">u2")),
        "16 bits with alpha": deep(np.concatenate([fine, clear], axis=2)),
        "16 bits a colour": deep(np.repeat(fine, 3, axis=2)),
        "16 bits a colour TIFF": deep(np.repeat(fine, 3, axis=2), "tiff"),
        "16 bits a colour with alpha": deep(np.concatenate([np.repeat(fine, 3, axis=2), clear], axis=2)),
    }


def tiff_big_endian(samples: Any) -> bytes:
    """A TIFF of one strip of grey samples of 16 bits."""
    height, width = samples.shape
    entries = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: samples.nbytes}
    table = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in entries.items())
    return b"MM\0*" + struct.pack(">I", 8 + samples.nbytes) + samples.tobytes() + struct.pack(">H", len(entries)) + table + b"\0" * 4


GREY_FILES = grey_files()


@pytest.mark.parametrize("mode", GREY_FILES)
@pytest.mark.parametrize("form", EVERY)
def test_a_gradient_stays_a_gradient(mode: str, form: str) -> None:
    wanted = pixels(gradient().resize((64, 8), Image.Resampling.LANCZOS), "L")
    made = shown(GREY_FILES[mode], width=64, format=form, quality=95)
    assert made.mode in ("L", "RGB")
    channels = pixels(made)
    assert np.ptp(channels, axis=2).max() < 8
    assert distance(channels[..., 1], wanted) < (4 if mode.startswith("1 ") or mode == "1" else 2)


@pytest.mark.parametrize("mode", GREY_FILES)
def test_what_need_not_be_scaled_is_as_it_was(mode: str) -> None:
    made = shown(GREY_FILES[mode])
    assert made.size == opened(GREY_FILES[mode]).size
    seen, wanted = (image.convert("L").resize((64, 8), Image.Resampling.BOX) for image in (made, gradient()))
    assert distance(pixels(seen), pixels(wanted)) < (4 if made.width > 256 else 1)


@pytest.mark.parametrize("bits", ["I", "F"])
def test_samples_without_a_scale_are_refused(bits: str) -> None:
    with pytest.raises(UnprocessableImage, match="32 bits"):
        transform(saved(gradient().convert(bits), "TIFF"), Options(width=10))


def clear_files() -> dict[str, bytes]:
    """Red at the left, and at the right a colour that is told to be clear."""
    halves = Image.new("RGB", (80, 40), (255, 0, 0))
    halves.paste((0, 0, 255), (40, 0, 80, 40))
    palette = halves.quantize(2)
    blue = palette.getpixel((60, 20))
    black = Image.new("L", (80, 40), 255)
    black.paste(7, (40, 0, 80, 40))
    fine = np.zeros((40, 80, 3))
    fine[:, :40, 0] = fine[:, 40:, 2] = 65535
    trns = pictures.png_chunk(b"tRNS", struct.pack(">HHH", 0, 0, 65535))
    sixteen = deep(fine)
    at = sixteen.index(b"IDAT") - 4
    return {
        "P": saved(palette, "PNG", transparency=blue),
        "P GIF": saved(palette, "GIF", transparency=blue),
        "P, a table": saved(palette, "PNG", transparency=bytes(0 if each == blue else 255 for each in (0, 1))),
        "RGB": saved(halves, "PNG", transparency=(0, 0, 255)),
        "L": saved(black, "PNG", transparency=7),
        "1": saved(black.point(lambda level: level // 255 * 255).convert("1"), "PNG", transparency=0),
        "16 bits": sixteen[:at] + trns + sixteen[at:],
    }


CLEAR_FILES = clear_files()


@pytest.mark.parametrize("mode", CLEAR_FILES)
@pytest.mark.parametrize("form", ["png", "webp", "avif"])
@pytest.mark.parametrize("width", [None, 20])
def test_a_colour_that_is_told_to_be_clear_is(mode: str, form: str, width: int | None) -> None:
    made = pixels(shown(CLEAR_FILES[mode], width=width, format=form, quality=95), "RGBA")
    half = made.shape[1] // 2
    assert made[:, : half - 2, 3].min() > 250
    assert made[:, half + 2 :, 3].max() < 5
    assert made[:, : half - 2, 0].min() > 240


@pytest.mark.parametrize("mode", CLEAR_FILES)
def test_a_clear_colour_is_white_in_a_jpeg(mode: str) -> None:
    made = pixels(shown(CLEAR_FILES[mode], format="jpeg", quality=95))
    assert made[:, 44:].min() > 240


# ---- CMYK ----------------------------------------------------------------------------------------------------------
INK = {
    "cyan": ((255, 0, 0, 0), (0, 255, 255)),
    "yellow": ((0, 0, 255, 0), (255, 255, 0)),
    "grey": ((0, 0, 0, 128), (127, 127, 127)),
    "paper": ((0, 0, 0, 0), (255, 255, 255)),
}


def ycck(cmyk: tuple[int, int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG as Photoshop writes it: luma, chroma and black, all inverted."""
    cyan, magenta, yellow, black = cmyk
    luma, blue, red = Image.new("RGB", (1, 1), (cyan, magenta, yellow)).convert("YCbCr").getpixel((0, 0))  # type: ignore[misc]
    made = saved(Image.new("CMYK", size, (255 - luma, 255 - blue, 255 - red, black)), "JPEG", quality=100, subsampling=0)
    adobe = made.index(b"Adobe")
    return made[: adobe + 11] + b"\2" + made[adobe + 12 :]


@pytest.mark.parametrize("ink", INK)
@pytest.mark.parametrize("width", [None, 8])
def test_ink_has_the_colour_of_ink(ink: str, width: int | None) -> None:
    amounts, colour = INK[ink]
    image = Image.new("CMYK", (64, 48), amounts)
    for source in (saved(image, "JPEG", quality=100), ycck(amounts), saved(image, "TIFF")):
        made = pixels(shown(source, width=width))
        assert np.abs(made - np.array(colour)).max() < 6


# ---- colour profiles -----------------------------------------------------------------------------------------------
WIDE = {"Display P3": built_in_profile("p3"), "Adobe RGB": ADOBE_RGB}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("wide", WIDE)
@pytest.mark.parametrize("width", [None, 60])
def test_a_wide_colour_space_is_brought_to_srgb(form: str, wide: str, width: int | None) -> None:
    picture = photograph(240, 160)
    numbers = in_profile(picture, WIDE[wide])
    assert distance(pixels(numbers), pixels(picture)) > 4  # else nothing would be told by what follows
    how = {} if form in ("PNG", "TIFF") else {"quality": 98} | ({"subsampling": 0} if form == "JPEG" else {})
    made = shown(saved(numbers, form, icc_profile=WIDE[wide], **how), width=width)
    wanted = picture.resize(made.size, Image.Resampling.LANCZOS)
    assert distance(pixels(made), pixels(wanted)) < 2.5


def test_a_wide_colour_space_is_brought_to_srgb_in_every_mode() -> None:
    picture = photograph(240, 160)
    numbers = in_profile(picture, ADOBE_RGB)
    for mode in ("RGBA", "P"):
        made = shown(saved(veiled(numbers) if mode == "RGBA" else numbers.quantize(256), "PNG", icc_profile=ADOBE_RGB), width=60)
        seen = pixels(made, "RGBA")[:, 44:59]
        wanted = pixels(picture.resize((60, 40), Image.Resampling.LANCZOS))[:, 44:59]
        opaque = seen[..., 3] == 255
        assert distance(seen[opaque][:, :3], wanted[opaque]) < 4, mode
        assert made.mode == ("RGBA" if mode == "RGBA" else "RGB")


def test_every_frame_of_an_animation_is_brought_to_srgb() -> None:
    source = animated([in_profile(frame, ADOBE_RGB) for frame in moving(3)], "WEBP", lossless=True, icc_profile=ADOBE_RGB)
    for made, wanted in zip(frames(transform(source, Options(width=30, quality=95)).body, "RGB"), moving(3), strict=True):
        assert distance(made, pixels(wanted.resize((30, 20), Image.Resampling.LANCZOS))) < 6


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_grey_profile_is_brought_to_srgb(form: str) -> None:
    made = pixels(shown(saved(gradient(), form, icc_profile=LINEAR_GREY)), "L")[16]
    light = np.linspace(0, 1, 256)
    wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(made - wanted).mean() < 2


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
@pytest.mark.parametrize("width", [None, 60])
def test_inks_are_what_their_profile_says(form: str, width: int | None) -> None:
    dull = Image.fromarray((np.asarray(photograph(240, 160)) * 0.5 + 60).astype(np.uint8))  # which inks can print
    inks, profile = printed(dull), built_in_profile("cmyk")
    how = {"quality": 98} if form == "JPEG" else {}
    made = shown(saved(inks, form, icc_profile=profile, **how), width=width)
    wanted = pixels(dull.resize(made.size, Image.Resampling.LANCZOS))
    assert distance(pixels(made), wanted) < 6
    assert distance(pixels(shown(saved(inks, form, **how), width=width)), wanted) > 12


P3 = built_in_profile("p3")
BROKEN = {
    "garbage": b"no profile at all",
    "cut off": P3[:200],
    "a header alone": P3[:128],
    "no curve": P3.replace(b"rTRC", b"zzzz"),
    "no primary": P3.replace(b"bXYZ", b"zzzz"),
    "no description": ADOBE_RGB.replace(b"desc", b"zzzz").replace(b"rTRC", b"zzzz"),
    "offsets beyond its end": P3[:136] + b"\x7f\xff\xff\xff" * 30 + P3[256:],
    "of inks": built_in_profile("cmyk"),
    "of grey": LINEAR_GREY,
    "huge": ADOBE_RGB + bytes(5 << 20),
}


@pytest.mark.parametrize(
    ("broken", "form"), [each for each in product(BROKEN, ("JPEG", "WEBP", "PNG")) if each != ("huge", "PNG")], ids=" ".join
)
def test_a_profile_that_is_none_is_ignored(broken: str, form: str) -> None:
    picture = photograph(60, 40)
    made = shown(saved(picture, form, icc_profile=BROKEN[broken]), width=30)
    assert distance(pixels(made), pixels(shown(saved(picture, form), width=30))) == 0


def test_a_png_whose_profile_is_a_bomb_is_refused() -> None:
    with pytest.raises(UnprocessableImage):
        shown(saved(photograph(60, 40), "PNG", icc_profile=BROKEN["huge"]), width=30)


@pytest.mark.parametrize("name", ["sRGB-elle-V4-g10.icc", "sRGB linear", "linear"])
def test_a_profile_is_believed_by_what_it_says_and_not_by_its_name(name: str) -> None:
    source = saved(Image.new("RGB", (8, 8), (55, 55, 55)), "PNG", icc_profile=linear_profile(name))
    assert abs(int(pixels(shown(source, width=4))[0, 0, 0]) - 128) < 3


# ---- animations ----------------------------------------------------------------------------------------------------
def animation(form: str, mode: str = "RGB", **how: Any) -> bytes:
    """Five frames, losslessly where the format can."""
    sure = {"GIF": {"disposal": 2}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95, "speed": 9}}[form]
    return animated(moving(5, mode=mode), form, **{"duration": 100} | sure | how)


@pytest.mark.parametrize("source", ["GIF", "WEBP", "AVIF"])
@pytest.mark.parametrize("form", ["source", "webp", "avif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("width", [None, 30, 120])
def test_an_animation_shows_every_frame(source: str, form: str, mode: str, width: int | None) -> None:
    made = transform(animation(source, mode), Options(width=width, enlarge=width == 120, format=form, quality=95))
    wide = width or 60
    assert made.size == (wide, wide * 2 // 3)
    assert made.content_type == f"image/{source.lower() if form == 'source' else form}"
    ground = Image.new("RGBA", made.size, "white")
    for seen, frame in zip(frames(made.body), moving(5, mode=mode), strict=True):
        wanted = frame.convert("RGBa" if mode == "RGBA" else "RGB").resize(made.size, Image.Resampling.LANCZOS).convert("RGBA")
        image = Image.fromarray(seen.astype(np.uint8))
        assert distance(pixels(Image.alpha_composite(ground, image)), pixels(Image.alpha_composite(ground, wanted))) < 8
        assert distance(seen[..., 3], pixels(wanted, "RGBA")[..., 3]) < 8


@pytest.mark.parametrize("source", ["GIF", "WEBP", "AVIF"])
@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_of_an_animation_a_still_format_shows_the_first_frame(source: str, form: str) -> None:
    made = shown(animation(source), width=30, format=form, quality=95)
    assert getattr(made, "n_frames", 1) == 1
    assert distance(pixels(made), pixels(moving(5)[0].resize((30, 20), Image.Resampling.LANCZOS))) < 4


def test_an_animated_png_shows_its_first_frame() -> None:
    made = shown(animated(moving(3), "PNG"), width=30)
    assert getattr(made, "n_frames", 1) == 1
    assert distance(pixels(made), pixels(moving(3)[0].resize((30, 20), Image.Resampling.LANCZOS))) < 4


@pytest.mark.parametrize("form", ["source", "webp", "avif"])
@pytest.mark.parametrize(
    ("source", "given", "wanted"),
    [
        ("GIF", [100, 10, 20, 250, 0], [100, 100, 20, 250, 100]),
        ("WEBP", [100, 10, 11, 250, 1], [100, 100, 11, 250, 100]),
        ("AVIF", [100, 10, 20, 250, 5], [100, 100, 20, 250, 100]),
    ],
)
def test_frames_are_shown_as_long_as_browsers_show_them(source: str, given: list[int], wanted: list[int], form: str) -> None:
    assert durations(transform(animation(source, duration=given), Options(width=30, format=form)).body) == wanted


def test_frames_that_look_alike_take_their_time() -> None:
    source = gif((8, 8), [gif_frame(1, (8, 8)), gif_frame(1, (8, 8), centiseconds=30), gif_frame(2, (8, 8), centiseconds=5)])
    for form in ("source", "webp"):
        assert sum(durations(transform(source, Options(format=form)).body)) == 450


@pytest.mark.parametrize("loop", [None, 0, 1, 3])
def test_a_gif_is_repeated_as_often_as_it_was(loop: int | None) -> None:
    source = gif((8, 8), [gif_frame(colour, (8, 8)) for colour in (1, 2, 3)], loop)
    assert opened(transform(source, Options(width=4)).body).info.get("loop") == loop


@pytest.mark.parametrize("loop", [0, 1, 3])
def test_a_webp_is_repeated_as_often_as_it_was(loop: int) -> None:
    assert opened(transform(animation("WEBP", loop=loop), Options(width=30)).body).info["loop"] == loop


@pytest.mark.parametrize(("loop", "times"), [(None, 1), (0, 0), (1, 2), (3, 4)])
def test_a_gif_is_repeated_as_often_when_it_is_a_webp(loop: int | None, times: int) -> None:
    source = gif((8, 8), [gif_frame(colour, (8, 8)) for colour in (1, 2, 3)], loop)
    assert opened(transform(source, Options(format="webp")).body).info["loop"] == times


# By place and frame; None is clear.
COMPOSED = {
    (5, 5): [1, 1, 3, None, None],
    (15, 15): [1, 2, 1, 1, 1],
    (35, 35): [1, 1, 1, 3, 3],
    (5, 35): [1, 1, 1, 1, 2],
}


@pytest.mark.parametrize("form", ["source", "webp", "avif"])
@pytest.mark.parametrize("width", [None, 80])
def test_what_a_frame_leaves_behind_is_seen_in_the_next(form: str, width: int | None) -> None:
    """Frames that are parts: one stays, one gives back what was there, one leaves nothing."""
    parts = [
        gif_frame(1, (40, 40), disposal=1, clear=0),
        gif_frame(2, (20, 20), (10, 10), disposal=3, clear=0),
        gif_frame(3, (10, 10), (0, 0), disposal=2, clear=0),
        gif_frame(3, (10, 10), (30, 30), disposal=1, clear=0),
        gif_frame(2, (10, 10), (0, 30), disposal=1, clear=0),
    ]
    made = frames(transform(gif((40, 40), parts), Options(width=width, enlarge=True, format=form, quality=95)).body)
    assert len(made) == 5
    scale = (width or 40) // 40
    for (x, y), colours in COMPOSED.items():
        for seen, colour in zip(made, colours, strict=True):
            red, green, blue, alpha = seen[y * scale, x * scale]
            assert (alpha > 250) == (colour is not None)
            assert colour is None or np.abs(np.array((red, green, blue)) - pictures.GIF_COLOURS[colour]).max() < 40


def test_what_reaches_beyond_the_canvas_is_cut_off() -> None:
    parts = [gif_frame(1, (20, 20)), gif_frame(3, (5, 5)), gif_frame(2, (30, 10), (5, 15)), gif_frame(3, (5, 5), (9, 9))]
    for width in (None, 10):
        made = transform(gif((20, 20), parts), Options(width=width, format="webp", quality=95))
        seen = frames(made.body)
        assert made.size == opened(made.body).size == (width or 20, width or 20)
        last = -2 if width is None else -1
        assert [int(frame[last, last, :3].argmax()) for frame in seen] == [0, 0, 1, 1]


def test_a_gif_that_can_be_seen_through_keeps_its_outline() -> None:
    """GIF knows no half: what was more clear than not is clear."""
    down, across = np.indices((400, 400))
    discs = []
    for left in (150, 200, 250):
        seen = (np.hypot(across - left, down - 200) < 120) * 255
        discs.append(Image.fromarray(np.dstack([across * 0.6, down * 0.6, (across + down) % 256, seen]).astype(np.uint8)))
    made = transform(animated(discs, "GIF", duration=100, disposal=2), Options(width=50)).body
    for seen, disc in zip(frames(made), discs, strict=True):
        wanted = pixels(disc.getchannel("A").resize((50, 50), Image.Resampling.BOX), "L") > 127
        assert ((seen[..., 3] > 127) != wanted).sum() < 0.05 * wanted.sum()


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_an_animation_has_at_most_200_frames(form: str) -> None:
    def source(count: int) -> bytes:
        if form == "WEBP":
            return animated([Image.new("RGB", (8, 8), pictures.GIF_COLOURS[number % 3 + 1]) for number in range(count)], "WEBP")
        return gif((8, 8), [gif_frame(number % 3 + 1, (8, 8)) for number in range(count)])

    assert len(frames(transform(source(200), Options(width=4, format="webp")).body)) == 200
    for made in ("source", "webp", "avif"):
        with pytest.raises(UnprocessableImage, match="more than 200 frames; ask for format=jpeg or png") as refusal:
            transform(source(201), Options(width=4, format=made))
        assert refusal.value.details == {"max_frames": 200}
    for made in ("jpeg", "png"):
        assert shown(source(201), width=4, format=made).size == (4, 4)


def test_an_animation_has_at_most_100_megapixels_in_all() -> None:
    """As many frames as there are, of as many pixels as their canvas has."""
    moved = animation("WEBP")
    wide = moved[:24] + pictures.vp8x(6000, 4000)[1][4:] + moved[30:]
    for source, options in (
        (wide, {"width": 50}),
        (gif((6000, 6000), [gif_frame(number, (9, 9)) for number in (1, 2, 3)]), {"width": 50, "format": "webp"}),
    ):
        with pytest.raises(UnprocessableImage, match="more than 100 megapixels in all its frames; ask for format=jpeg or png"):
            transform(source, Options(**options))
    assert shown(wide, width=50, format="jpeg").size == (50, 33)


# ---- what is too large ---------------------------------------------------------------------------------------------
@pytest.fixture
def little_memory() -> Iterator[None]:
    """As much address space as the process has taken, and 100 MB."""
    if sys.platform != "linux":
        pytest.skip("no limit to the address space")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (100 << 20), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def claiming(width: int, height: int) -> dict[str, bytes]:
    """Small files that say in their header that they are huge."""
    small = photograph(60, 40)
    jpeg, lossy, avif, bmp = (saved(small, form) for form in ("JPEG", "WEBP", "AVIF", "BMP"))
    start, ispe = jpeg.index(b"\xff\xc0") + 5, avif.index(b"ispe") + 8
    lossless = saved(small, "WEBP", lossless=True)
    frame = gif((8, 8), [gif_frame(1, (8, 8))])
    at = frame.index(b",\0\0\0\0") + 5
    most = min(width, 16_383), min(height, 16_383)
    tiff = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tiff.items())
    return {
        "PNG": pictures.png(width, height, 8, 2, b""),
        "JPEG": jpeg[:start] + struct.pack(">HH", height, width) + jpeg[start + 4 :],
        "GIF": gif((width, height), [gif_frame(1, (8, 8))]),
        "GIF frame": frame[:at] + struct.pack("<HH", width, height) + frame[at + 4 :],
        "WebP canvas": pictures.riff(pictures.vp8x(width, height), (b"VP8L", lossless[20:])),
        "WebP lossy": lossy[:26] + struct.pack("<HH", *most) + lossy[30:],
        "WebP lossless": lossless[:21] + struct.pack("<I", (most[0] - 1) | (most[1] - 1) << 14) + lossless[25:],
        "AVIF": avif[:ispe] + struct.pack(">II", *most) + avif[ispe + 8 :],
        "BMP": bmp[:18] + struct.pack("<ii", width, height) + bmp[26:],
        "TIFF": b"II*\0\x08\0\0\0" + struct.pack("<H", len(tiff)) + entries + b"\0" * 4,
    }  # fmt: skip


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("form", claiming(60_000, 60_000))
@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 5_001)])
def test_what_says_that_it_is_too_large_is_refused_before_it_is_decoded(form: str, size: tuple[int, int]) -> None:
    source = claiming(*size)[form]
    with pytest.raises(UnprocessableImage, match="more than 50 megapixels") as refusal:
        transform(source, Options(width=10, format="webp"))
    assert refusal.value.details == {"max_pixels": 50_000_000}


def test_fifty_megapixels_are_not_too_many() -> None:
    source = saved(Image.new("L", (10_000, 5_000), 100), "PNG", compress_level=1)
    assert shown(source, width=100).size == (100, 50)


# ---- WebP, scaled as it is decoded ---------------------------------------------------------------------------------
WEBPS = {"lossy": {"quality": 90}, "lossless": {"lossless": True, "exact": True}}


@pytest.mark.parametrize("kind", WEBPS)
@pytest.mark.parametrize("alpha", [False, True])
def test_a_webp_that_is_not_scaled_is_decoded_as_pillow_does(kind: str, alpha: bool) -> None:
    picture = veiled(photograph(241, 161)) if alpha else photograph(241, 161)
    source = saved(picture, "WEBP", **WEBPS[kind])
    made = webp.decoded(source, (241, 161), (241, 161), alpha)
    assert made is not None
    assert made.mode == ("RGBA" if alpha else "RGB")
    seen, wanted = (pixels(image.convert("RGBA").convert("RGBa"), "RGBa") for image in (made, opened(source)))  # as far as it shows
    assert distance(seen, wanted) < (0.1 if kind == "lossless" else 2)


@pytest.mark.parametrize("kind", WEBPS)
@pytest.mark.parametrize("size", [(240, 160), (121, 81), (60, 41), (17, 90), (1, 1)])
def test_a_scaled_webp_is_near_to_what_pillow_makes(kind: str, size: tuple[int, int]) -> None:
    source = saved(photograph(241, 161), "WEBP", **WEBPS[kind])
    made = webp.decoded(source, (241, 161), size, alpha=False)
    assert made is not None
    assert distance(pixels(made), pixels(opened(source).resize(size, Image.Resampling.BOX))) < 3


@pytest.mark.parametrize("size", [(121, 81), (60, 41)])
def test_a_scaled_webp_keeps_its_alpha(size: tuple[int, int]) -> None:
    source = saved(veiled(photograph(241, 161)), "WEBP", lossless=True)
    made = webp.decoded(source, (241, 161), size, alpha=True)
    assert made is not None
    wanted = opened(source).getchannel("A").resize(size, Image.Resampling.BOX)
    assert distance(pixels(made.getchannel("A"), "L"), pixels(wanted, "L")) < 2


@pytest.mark.parametrize("size", [(2, 3), (3, 2), (2, 200), (1, 1), (15, 300), (17, 17)])
def test_a_webp_of_few_columns_keeps_its_colours(size: tuple[int, int]) -> None:
    source = saved(Image.new("RGB", size, (70, 30, 70)), "WEBP", quality=95)
    for width in (size[0], 1):
        assert np.abs(pixels(shown(source, width=width, format="png")) - (70, 30, 70)).max() < 6


def test_a_webp_that_is_not_whole_is_not_decoded() -> None:
    for how in WEBPS.values():
        source = saved(photograph(241, 161), "WEBP", **how)
        for end in (0, 11, 20, 30, len(source) // 2, len(source) - 50):
            assert webp.decoded(source[:end], (241, 161), (120, 80), alpha=False) is None, end


def test_what_is_no_still_webp_is_not_decoded() -> None:
    for source in (b"", b"RIFF", animation("WEBP"), saved(photograph(60, 40), "PNG")):
        assert webp.decoded(source, (60, 40), (30, 20), alpha=False) is None


# ---- what encoders find hard ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("quality", [92, 93, 94, 100])
def test_noise_becomes_a_jpeg_of_any_quality(quality: int) -> None:
    noise = np.random.default_rng(5).integers(0, 2, (400, 400, 3), np.uint8) * np.uint8(255)
    made = shown(saved(Image.fromarray(noise), "PNG"), format="jpeg", quality=quality)
    assert (made.format, made.size) == ("JPEG", (400, 400))


def test_frames_longer_than_a_gif_can_say_are_shown_as_long_as_it_can() -> None:
    source = gif((8, 8), [gif_frame(1, (8, 8), centiseconds=65_535)] * 3 + [gif_frame(2, (8, 8))])
    assert 400_000 < sum(durations(transform(source, Options(width=4)).body)) <= 655_350


def test_an_avif_of_more_pixels_than_there_is_memory_for_is_refused_and_auto_makes_a_webp() -> None:
    source = saved(Image.new("L", (6000, 4300), 100), "PNG", compress_level=1)
    with pytest.raises(UnprocessableImage, match="25 megapixels"):
        shown(source, format="avif")
    assert transform(source, Options(format=SMALLEST)).content_type == "image/webp"
    assert transform(source, Options(width=100, format=SMALLEST)).content_type == "image/avif"


@pytest.mark.parametrize("source", ["GIF", "WEBP", "AVIF"])
def test_the_smallest_of_what_moves_is_a_webp_that_moves(source: str) -> None:
    made = transform(animation(source), Options(width=30, format=SMALLEST))
    assert (made.content_type, len(frames(made.body))) == ("image/webp", 5)


@pytest.mark.parametrize(("form", "most"), [("gif", 20), ("avif", 10), ("webp", 50)])
def test_an_animation_is_written_with_as_many_pixels_as_there_is_time_for(form: str, most: int) -> None:
    """Asked for larger than it is, so that the source is none of the reasons."""
    source = animation("GIF")
    side = int((most * 1_000_000 / 5 / 60 / 40) ** 0.5 * 60) + 60
    wanted = Options(width=side, enlarge=True, format="source" if form == "gif" else form)
    with pytest.raises(UnprocessableImage, match=f"an animated {form} has at most {most} megapixels"):
        transform(source, wanted)
