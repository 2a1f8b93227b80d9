"""A process with no more memory than the function has, which transforms what it is given and says what came of it.

`python -m tests.images.trial FOLDER OPTIONS SKIPPED` tries every file of the folder with each of the options (JSON, by name), but
for the first SKIPPED trials, and writes a line before each and one after it.
"""

import json
import resource
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from chalicelib.errors import UnprocessableImage
from chalicelib.images.options import Options
from chalicelib.images.transform import transform

MEMORY = 1769 << 20
MADE, REFUSED = "made", "refused"


def outcome(source: bytes, options: Options) -> str:
    """MADE of a picture that is what it says and fits, REFUSED, or else what is wrong."""
    try:
        made = transform(source, options)
    except UnprocessableImage:
        return REFUSED
    image = Image.open(BytesIO(made.body))
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
    if image.size != made.size or f"image/{(image.format or '').lower()}" != made.content_type:
        return f"{image.format} of {image.size}, told as {made.content_type} of {made.size}"
    if image.width > (options.width or image.width) or image.height > (options.height or image.height):
        return f"larger than asked: {image.size}"
    return MADE


def told(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(folder: Path, options: dict[str, Options], skipped: int) -> None:
    if sys.platform == "linux":  # others do not know the limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    trials = [(path, name) for path in sorted(folder.iterdir()) for name in options]
    for path, name in trials[skipped:]:
        told([path.name, name])
        try:
            told(outcome(path.read_bytes(), options[name]))
        except BaseException as error:
            told(repr(error))


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    main(Path(sys.argv[1]), {name: Options.from_dict(document) for name, document in given.items()}, int(sys.argv[3]))
