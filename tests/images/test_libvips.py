"""The same pictures as libvips makes, within a stated distance."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from chalicelib.images.options import Options
from chalicelib.images.transform import transform

from .pictures import ADOBE_RGB, LINEAR_GREY, built_in_profile, deep, in_profile, opened, photograph, printed, saved, turned, veiled

# Of 255, over the samples of each channel, colours weighted by their alpha. Both engines decode at less than full size where they
# can, halve by averaging, end with a Lanczos filter and round to eight bits, but not in the same places.
MEAN = 1.5
# What all but one in a thousand samples stay within: at a hard edge, what one engine has averaged before the other shows.
MOST = 18
# Where a part begins between two pixels, we do too; libvips begins at one of them: half a pixel shows at every edge.
MEAN_BETWEEN, MOST_BETWEEN = 2.6, 75

SIZE = (1200, 900)
# JPEG and WebP are decoded at full size, a half, a quarter and an eighth for these, with little or much left to be done.
WIDTHS = (1100, 700, 480, 240, 120, 64)
FEW = (700, 240, 64)
# Both engines take these from whole pixels, and the last from between two.
PARTS = ((300, 300), (1000, 90), (100, 450))
BETWEEN = (333, 333)
PROFILES = {"P3": built_in_profile("p3"), "Adobe RGB": ADOBE_RGB, "inks": built_in_profile("cmyk"), "grey": LINEAR_GREY}


def fine() -> Any:
    """The photograph with 16 bits a sample that are not twice the same 8."""
    noise = np.random.default_rng(3).integers(-128, 128, (SIZE[1], SIZE[0], 3))
    return np.clip(np.asarray(photograph(*SIZE), dtype=int) * 257 + noise, 0, 65535)


def dull() -> Image.Image:
    """Colours that inks can print."""
    return photograph(*SIZE).point(lambda sample: sample * 0.5 + 60)


MAKERS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": lambda picture: saved(picture, "JPEG", quality=90),
    "JPEG, whole colours": lambda picture: saved(picture, "JPEG", quality=90, subsampling=0),
    "JPEG, progressive": lambda picture: saved(picture, "JPEG", quality=90, progressive=True),
    "JPEG, grey": lambda picture: saved(picture.convert("L"), "JPEG", quality=90),
    **{f"JPEG, turned {turn}": lambda picture, turn=turn: turned(picture, "JPEG", turn, quality=90) for turn in (2, 3, 6, 7)},
    "WebP": lambda picture: saved(picture, "WEBP", quality=90, method=0),
    "WebP, lossless": lambda picture: saved(picture, "WEBP", lossless=True, quality=0, method=0),
    "WebP, alpha": lambda picture: saved(veiled(picture), "WEBP", quality=90, method=0),
    "WebP, lossless, alpha": lambda picture: saved(veiled(picture), "WEBP", lossless=True, quality=0, method=0),
    "PNG": lambda picture: saved(picture, "PNG", compress_level=1),
    "PNG, alpha": lambda picture: saved(veiled(picture), "PNG", compress_level=1),
    "PNG, grey and alpha": lambda picture: saved(veiled(picture).convert("LA"), "PNG", compress_level=1),
    "PNG, palette": lambda picture: saved(picture.quantize(256), "PNG"),
    "PNG, palette with alpha": lambda picture: saved(picture.quantize(64), "PNG", transparency=bytes(range(0, 256, 4))),
    "PNG, 16 bits": lambda picture: deep(fine()),
    "PNG, 16 bits, grey": lambda picture: deep(fine()[..., :1]),
    "PNG, 16 bits, alpha": lambda picture: deep(np.dstack([fine(), np.asarray(veiled(picture))[..., 3].astype(int) * 257])),
    "TIFF": lambda picture: saved(picture, "TIFF"),
    "GIF": lambda picture: saved(picture, "GIF"),
    "AVIF": lambda picture: saved(picture, "AVIF", speed=10),
    "P3": lambda picture: saved(in_profile(picture, PROFILES["P3"]), "JPEG", quality=95, icc_profile=PROFILES["P3"]),
    "P3, lossless": lambda picture: saved(in_profile(picture, PROFILES["P3"]), "PNG", compress_level=1, icc_profile=PROFILES["P3"]),
    "Adobe RGB": lambda picture: saved(in_profile(picture, ADOBE_RGB), "TIFF", icc_profile=ADOBE_RGB),
    "linear grey": lambda picture: saved(picture.convert("L"), "PNG", icc_profile=LINEAR_GREY),
    "inks": lambda picture: saved(printed(dull()), "JPEG", quality=95, icc_profile=PROFILES["inks"]),
    "inks, lossless": lambda picture: saved(printed(dull()), "TIFF", icc_profile=PROFILES["inks"]),
}


@cache
def file(kind: str) -> bytes:
    return MAKERS[kind](photograph(*SIZE))


def by_libvips(kind: str, width: int, height: int | None) -> Any:
    how = {"height": height or 10_000_000, "size": "down", "crop": "centre" if height else "none"}
    if kind.startswith("inks"):  # a thumbnail does not move the black point, as photographs are printed and we convert them
        image = pyvips.Image.new_from_buffer(file(kind), "")
        image = image.icc_transform("srgb", embedded=True, intent="relative", black_point_compensation=True, depth=8)
        return image.thumbnail_image(width, **how).numpy()
    image = pyvips.Image.thumbnail_buffer(file(kind), width, output_profile="srgb", intent="relative", **how)
    return image.colourspace("b-w" if image.bands < 3 else "srgb").cast("uchar").numpy()


def by_us(kind: str, width: int, height: int | None) -> Any:
    options = Options(width, height, "cover" if height else "contain", format="png")
    return np.asarray(opened(transform(file(kind), options).body))


def weighted(array: Any) -> Any:
    """Red, green and blue, weighted by alpha, and alpha."""
    array = array.reshape(*array.shape[:2], -1).astype(float)
    alpha = array[..., -1:] if array.shape[2] in (2, 4) else np.full_like(array[..., :1], 255)
    colour = array[..., : 1 if array.shape[2] < 3 else 3]
    return np.concatenate([np.broadcast_to(colour * alpha / 255, (*array.shape[:2], 3)), alpha], axis=2)


def distance(kind: str, width: int, height: int | None = None) -> tuple[float, float]:
    ours, theirs = (weighted(make(kind, width, height)) for make in (by_us, by_libvips))
    assert ours.shape == theirs.shape
    off = np.abs(ours - theirs)
    return off.mean(axis=(0, 1)).max(), float(np.percentile(off, 99.9))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_thumbnail_is_that_of_libvips(kind: str) -> None:
    for width in WIDTHS if kind.startswith(("JPEG", "WebP")) else FEW:
        mean, most = distance(kind, width)
        assert mean < MEAN, width
        assert most < MOST, width


@pytest.mark.parametrize("kind", MAKERS)
def test_the_middle_is_that_of_libvips(kind: str) -> None:
    for size in PARTS:
        mean, most = distance(kind, *size)
        assert mean < MEAN, size
        assert most < MOST, size
    mean, most = distance(kind, *BETWEEN)
    assert mean < MEAN_BETWEEN
    assert most < MOST_BETWEEN
