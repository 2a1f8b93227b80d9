"""60 images on demand, beside `sharp`: five photographs, three operations, four formats, quality 80.

CPU is that of one transform in a process that is warm, both sides in turns. Of each the least counts, and the ratio is that of
the two: what else the machine does can only add, and AVIF has too few rounds for a median to leave it out. Every round goes
through all cases, so that a busy minute falls on one round of each. Memory is the peak of a new process that does one case once,
of several such the median, for sharp's differ by a tenth; and its result is what is compared: with the exact part of all source
pixels, scaled in one step without a shortcut.

Of the formats AVIF stands apart: by default sharp's encoder tries a step harder than ours (`effort: 4`; ours is its 3), for
several times the CPU. A mean without it is told as well.
"""

import compileall
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy
from PIL import Image, ImageOps
from skimage.metrics import structural_similarity

from benchmarks import photographs, tus
from benchmarks.photographs import Photograph
from benchmarks.rig import Rig, Table
from chalicelib.images.geometry import plan
from chalicelib.images.options import FORMATS, Options

ROOT = Path(__file__).parent.parent
MIB = 1 << 20
QUALITY = 80
OPERATIONS: dict[str, dict[str, Any]] = {
    "fit 200x200": {"width": 200, "height": 200},
    "cover 800x600": {"width": 800, "height": 600, "fit": "cover", "focal": (30.0, 70.0)},
    "width 1600": {"width": 1600},
}
# AVIF takes sharp seconds.
ROUNDS = {"webp": 15, "jpeg": 15, "png": 15, "avif": 3}
PROCESSES = {"webp": 5, "jpeg": 5, "png": 5, "avif": 1}
COLD_ROUNDS = 15
MOST_CPU = 1.0
MOST_CPU_OF_ANY = 2.2
MEMORY_BELOW = 1.0
LEAST_SSIM = -0.005
MOST_BYTES = 1.05
MOST_COLD = 1.3
_OURS = """
import json, sys, time
from chalicelib.images.options import Options
from chalicelib.images.transform import transform
for line in sys.stdin:
    asked = json.loads(line)
    with open(asked["source"], "rb") as file:
        source = file.read()
    options = Options.from_dict(asked["options"])
    began = time.process_time()
    body = transform(source, options).body
    cpu = time.process_time() - began
    with open(asked["result"], "wb") as file:
        file.write(body)
    print(json.dumps({"cpu": cpu}), flush=True)
"""
_SIDES = {"stowage": [sys.executable, "-c", _OURS], "sharp": ["node", str(tus.PEER / "images.mjs")]}
# The image function with what it imports and makes when it is first called, Pillow's last plugins included.
_FUNCTION = """
from chalicelib import providers
from chalicelib.images import function, transform
transform.Image.preinit()
providers.internal()._client
"""
_BARE = """
import boto3
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
boto3.client("s3")
"""


@dataclass(frozen=True)
class Case:
    """One transform of one photograph."""

    source: Photograph
    operation: str
    options: Options

    def __str__(self) -> str:
        return f"{self.source.title}, {self.operation}, {self.options.format}"


@dataclass(frozen=True)
class Measured:
    """One case on one side: seconds of CPU by round, the peak of memory by process, and of the result the bytes and the likeness."""

    cpu: list[float]
    peaks: list[int]
    bytes: int
    ssim: float

    @property
    def least_cpu(self) -> float:
        return min(self.cpu)

    @property
    def peak(self) -> float:
        return median(self.peaks)


@dataclass(frozen=True)
class Compared:
    """One case on both sides."""

    case: Case
    stowage: Measured
    sharp: Measured

    @property
    def cpu(self) -> float:
        return self.stowage.least_cpu / self.sharp.least_cpu

    @property
    def peak(self) -> float:
        return self.stowage.peak / self.sharp.peak

    @property
    def bytes(self) -> float:
        return self.stowage.bytes / self.sharp.bytes

    @property
    def ssim(self) -> float:
        """A difference: of two that are near to 1, a ratio would tell nothing."""
        return self.stowage.ssim - self.sharp.ssim


@dataclass(frozen=True)
class Cold:
    """Seconds of CPU to import the function and what its first call needs, and Pillow and boto3 alone."""

    function: float
    bare: float


def run(rig: Rig) -> tuple[Table, dict[str, Any]]:
    """CPU in turns, then memory and results, then the cold import."""
    if not Path("/proc/self/status").exists():
        raise SystemExit("stowage: the images are measured by /proc, which only Linux has")
    tus.install_peer()
    for package in ("chalicelib", "benchmarks"):
        compileall.compile_dir(ROOT / package, quiet=1)
    cases = [_case(*each) for each in product(photographs.made(), OPERATIONS, FORMATS)]
    with tempfile.TemporaryDirectory() as folder:
        cpu = _cpu(cases, Path(folder) / "result")
        compared = [_compared(case, cpu, Path(folder)) for case in cases]
    cold = _cold()
    return _table(compared, cold), _figures(compared, cold)


def _case(source: Photograph, operation: str, form: str) -> Case:
    return Case(source, operation, Options(**OPERATIONS[operation], format=form, quality=None if form == "png" else QUALITY))


# ---- measuring -----------------------------------------------------------------------------------------
class Side:
    """A process of one side, which transforms what it is asked to, one case at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def transform(self, case: Case, result: Path) -> float:
        """Leave the image file at `result`; gives the seconds of CPU, of all threads, that making it took."""
        assert self._process.stdin
        assert self._process.stdout
        asked = {"source": str(case.source.path), "options": case.options.to_dict(), "result": str(result)}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a process ended over {case}; what it said is above")
        return float(json.loads(answer)["cpu"])

    def peak_bytes(self) -> int:
        """The most memory that it has had resident."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024


@contextmanager
def _started(name: str) -> Iterator[Side]:
    with subprocess.Popen(_SIDES[name], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Side(process)
        finally:
            process.kill()


def _cpu(cases: list[Case], result: Path) -> dict[tuple[Case, str], list[float]]:
    """Every case in turns, all of a round one after the other."""
    taken: dict[tuple[Case, str], list[float]] = {(case, name): [] for case in cases for name in _SIDES}
    with ExitStack() as stack:
        sides = {name: stack.enter_context(_started(name)) for name in _SIDES}
        for number in range(1, max(ROUNDS.values()) + 1):
            _say(f"transforming in turns, round {number} of {max(ROUNDS.values())}")
            for case in cases:
                if number <= ROUNDS[case.options.format]:
                    for name, side in sides.items():
                        taken[case, name].append(side.transform(case, result))
    return taken


def _compared(case: Case, cpu: dict[tuple[Case, str], list[float]], folder: Path) -> Compared:
    _say(f"memory and result: {case}")
    results = {name: folder / name for name in _SIDES}
    peaks = {name: [_peak(name, case, results[name]) for _ in range(PROCESSES[case.options.format])] for name in _SIDES}
    ssim = _ssim(case, results)
    return Compared(case, **{name: Measured(cpu[case, name], peaks[name], results[name].stat().st_size, ssim[name]) for name in _SIDES})


def _peak(name: str, case: Case, result: Path) -> int:
    with _started(name) as side:
        side.transform(case, result)
        return side.peak_bytes()


def _ssim(case: Case, results: dict[str, Path]) -> dict[str, float]:
    """How like the reference each result is; raises unless all are of one size."""
    reference = _reference(case.source.path, case.operation)
    shown = {name: _pixels(Image.open(path)) for name, path in results.items()}
    sizes = {name: pixels.shape[1::-1] for name, pixels in ({"reference": reference} | shown).items()}
    if len(set(sizes.values())) > 1:
        raise RuntimeError(f"{case}: results differ in size: {sizes}")
    return {name: float(structural_similarity(reference, pixels, channel_axis=2)) for name, pixels in shown.items()}


@lru_cache(maxsize=1)
def _reference(path: Path, operation: str) -> Any:
    whole = ImageOps.exif_transpose(Image.open(path))
    wanted = plan(whole.size, Options(**OPERATIONS[operation]))
    return _pixels(whole.resize(wanted.size, Image.Resampling.LANCZOS, wanted.box))


def _pixels(image: Image.Image) -> Any:
    """As they are seen on white."""
    if image.mode != "RGB":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return numpy.asarray(image)


def _cold() -> Cold:
    _say("the cold import")
    samples = [(_import_cpu(_FUNCTION), _import_cpu(_BARE)) for _ in range(COLD_ROUNDS + 1)]
    function, bare = (min(taken) for taken in zip(*samples[1:], strict=True))
    return Cold(function, bare)


def _import_cpu(program: str) -> float:
    whole = f"import time\nbegan = time.process_time()\n{program}\nprint(time.process_time() - began)"
    return float(subprocess.run([sys.executable, "-c", whole], cwd=ROOT, capture_output=True, check=True, text=True, timeout=60).stdout)


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


# ---- telling -------------------------------------------------------------------------------------------
def _of_jpeg(compared: Iterable[Compared]) -> list[Compared]:
    return [each for each in compared if each.case.source.is_jpeg]


def _to(form: str, compared: Iterable[Compared]) -> list[Compared]:
    return [each for each in compared if each.case.options.format == form]


def _not_to(form: str, compared: Iterable[Compared]) -> list[Compared]:
    return [each for each in compared if each.case.options.format != form]


def _mean(compared: Iterable[Compared]) -> float:
    return geometric_mean(each.cpu for each in compared)


def _figures(compared: list[Compared], cold: Cold) -> dict[str, Any]:
    jpeg = _of_jpeg(compared)
    return {
        "rounds": ROUNDS,
        "ratios": {
            "cpu": _mean(jpeg),
            "cpu_by_format": {form: _mean(_to(form, jpeg)) for form in FORMATS},
            "cpu_but_avif": _mean(_not_to("avif", jpeg)),
            "cpu_of_all_sources": _mean(compared),
            "cpu_largest": max(each.cpu for each in compared),
            "peak_largest": max(each.peak for each in compared),
            "bytes_largest": max(each.bytes for each in compared),
            "cold_import": cold.function / cold.bare,
        },
        "ssim_least_difference": min(each.ssim for each in compared),
        "cold_import": asdict(cold),
        "cases": [_figures_of(each) for each in compared],
    }


def _figures_of(each: Compared) -> dict[str, Any]:
    case = each.case
    return {
        "source": case.source.title,
        "operation": case.operation,
        "format": case.options.format,
        "ratios": {"cpu": each.cpu, "peak": each.peak, "bytes": each.bytes},
        "ssim_difference": each.ssim,
        "stowage": asdict(each.stowage),
        "sharp": asdict(each.sharp),
    }


def _table(compared: list[Compared], cold: Cold) -> Table:
    """Ratios, or differences, with what each side has there, and the case that it is of where it is of one."""
    version = json.loads((tus.PEER / "package.json").read_text())["dependencies"]["sharp"]
    rows = [*_cpu_rows(compared), *_memory_rows(compared), *_result_rows(compared), _cold_row(cold)]
    return Table(f"60 images: Stowage / sharp {version}", ["", "ratio", "limit", "Stowage", "peer", "case"], rows)


def _cpu_rows(compared: list[Compared]) -> list[list[str]]:
    jpeg = _of_jpeg(compared)
    groups = [("JPEG sources", f"<= {MOST_CPU}", jpeg)]
    groups += [(f"JPEG sources to {form}", "", _to(form, jpeg)) for form in FORMATS]
    groups += [("JPEG sources to all but avif", "", _not_to("avif", jpeg))]
    groups += [("all sources", "", compared)]
    rows = []
    for title, limit, group in groups:
        means = [
            geometric_mean(side.least_cpu for side in sides) for sides in zip(*((each.stowage, each.sharp) for each in group), strict=True)
        ]
        rows.append([f"CPU ms, geometric mean, {title}", f"{_mean(group):.2f}", limit, *(f"{mean * 1000:.0f}" for mean in means), ""])
    worst = max(compared, key=lambda each: each.cpu)
    milliseconds = [f"{side.least_cpu * 1000:.0f}" for side in (worst.stowage, worst.sharp)]
    return [*rows, ["CPU ms, largest ratio", f"{worst.cpu:.2f}", f"<= {MOST_CPU_OF_ANY}", *milliseconds, str(worst.case)]]


def _memory_rows(compared: list[Compared]) -> list[list[str]]:
    """A row a photograph: the largest of its ratios and that one's case, and the most of either side in any of its cases."""
    rows = []
    for source in dict.fromkeys(each.case.source for each in compared):
        group = [each for each in compared if each.case.source == source]
        worst = max(group, key=lambda each: each.peak)
        most = [max(peaks) / MIB for peaks in zip(*((each.stowage.peak, each.sharp.peak) for each in group), strict=True)]
        shown = [f"{worst.peak:.3f}", f"< {MEMORY_BELOW:.0f}", *(f"{peak:.0f}" for peak in most)]
        rows.append([f"peak MiB, largest, {source.title}", *shown, str(worst.case)])
    return rows


def _result_rows(compared: list[Compared]) -> list[list[str]]:
    unlike, large = min(compared, key=lambda each: each.ssim), max(compared, key=lambda each: each.bytes)
    ssim = [f"{unlike.ssim:+.4f}", f">= {LEAST_SSIM}", f"{unlike.stowage.ssim:.4f}", f"{unlike.sharp.ssim:.4f}"]
    size = [f"{large.bytes:.3f}", f"<= {MOST_BYTES}", f"{large.stowage.bytes}", f"{large.sharp.bytes}"]
    return [["SSIM, least difference", *ssim, str(unlike.case)], ["bytes, largest ratio", *size, str(large.case)]]


def _cold_row(cold: Cold) -> list[str]:
    shown = [f"{cold.function / cold.bare:.2f}", f"<= {MOST_COLD}", f"{cold.function * 1000:.0f}", f"{cold.bare * 1000:.0f}"]
    return ["cold import, CPU ms; peer: Pillow and boto3", *shown, ""]
