"""What the images are made from: five files of photographs that Debian's package `mate-backgrounds` holds, none of over 10 MB.

The package is fetched and unpacked, not installed. Its photographs are smaller than a camera's, so each file shows several,
side by side in their own pixels: enlarged, they would hold less detail than a file of that size does.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

PACKAGE = "mate-backgrounds"
FOLDER = Path(__file__).parent / "results" / "photographs"
MAX_BYTES = 10_000_000
_ORIENTATION, _TURNED = 0x0112, 6


@dataclass(frozen=True)
class Photograph:
    """A file, and what a table calls it."""

    title: str
    path: Path

    @property
    def is_jpeg(self) -> bool:
        return self.path.suffix == ".jpg"


_ALL = (
    Photograph("12 MP JPEG", FOLDER / "12.jpg"),
    Photograph("24 MP JPEG", FOLDER / "24.jpg"),
    Photograph("12 MP JPEG, turned", FOLDER / "turned.jpg"),
    Photograph("12 MP WebP", FOLDER / "12.webp"),
    Photograph("8 MP PNG with alpha", FOLDER / "alpha.png"),
)


def made() -> tuple[Photograph, ...]:
    """The files, made when they are not there; made again once their folder is removed."""
    if not FOLDER.exists():
        print(f"  making the photographs from {PACKAGE}, once", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=FOLDER.parent) as folder:
            unpacked, whole = Path(folder) / "unpacked", Path(folder) / "whole"
            _unpack(unpacked)
            _make(unpacked / "usr/share/backgrounds/mate", whole)
            whole.rename(FOLDER)
    return _ALL


def _unpack(into: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SystemExit(f"stowage: the images are made from Debian's package {PACKAGE}, which takes apt-get and dpkg-deb to fetch")
    into.mkdir()
    _ask(["apt-get", "download", PACKAGE], into)
    package = next(into.glob("*.deb"))
    _ask(["dpkg-deb", "-x", package.name, "."], into)
    package.unlink()


def _ask(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        said = done.stdout.strip().splitlines() or ["nothing"]
        raise SystemExit(f"stowage: {command[0]} could not bring the package {PACKAGE} (apt-get update may help); it said: {said[-1]}")


def _make(backgrounds: Path, into: Path) -> None:
    into.mkdir()
    names = ("Aqua", "Garden", "LadyBird", "YellowFlower", "TwoWings", "Wood")
    nature = [Image.open(backgrounds / "nature" / f"{name}.jpg").convert("RGB") for name in names]
    elephants = Image.open(backgrounds / "abstract" / "Elephants_5640x3172.jpg").convert("RGB")
    herd = [elephants.crop((left, 900, left + 2000, 900 + 1334)) for left in (100, 1800, 3600)]
    twelve = _side_by_side(nature[:4], 2, (2000, 1500))
    turned = Image.Exif()
    turned[_ORIENTATION] = _TURNED
    twelve.save(into / "12.jpg", quality=88)
    _side_by_side([*nature, *herd], 3, (2000, 1334)).save(into / "24.jpg", quality=85)
    twelve.save(into / "turned.jpg", quality=88, exif=turned)
    twelve.save(into / "12.webp", quality=85, method=2)
    _soft_edged(twelve, (3200, 2400)).save(into / "alpha.png", compress_level=6)
    for photograph in into.iterdir():
        if photograph.stat().st_size > MAX_BYTES:
            raise RuntimeError(f"{photograph.name} has more than {MAX_BYTES} bytes")


def _side_by_side(pictures: Sequence[Image.Image], columns: int, tile: tuple[int, int]) -> Image.Image:
    """The middle of each picture, in rows of so many."""
    made = Image.new("RGB", (columns * tile[0], len(pictures) // columns * tile[1]))
    for number, picture in enumerate(pictures):
        left, top = (picture.width - tile[0]) // 2, (picture.height - tile[1]) // 2
        made.paste(picture.crop((left, top, left + tile[0], top + tile[1])), (number % columns * tile[0], number // columns * tile[1]))
    return made


def _soft_edged(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An ellipse of `picture` that fades into nothing."""
    alpha = Image.new("L", picture.size, 0)
    ImageDraw.Draw(alpha).ellipse((100, 100, picture.width - 100, picture.height - 100), fill=255)
    made = picture.resize(size)
    made.putalpha(alpha.filter(ImageFilter.GaussianBlur(40)).resize(size))
    return made
