"""Scaling: the part of a picture that is shown, in the size that is asked for, and never a second picture of the source's size."""

from PIL import Image

from chalicelib.images import colours
from chalicelib.images.geometry import Box, Size

# Beyond this ratio a box filter comes first, the faster the smaller this is (Pillow's `reducing_gap`).
REDUCING_GAP = 2.0
# Pixels beyond which the third lobe of Lanczos costs more than anybody sees of it.
LARGE = 8_000_000
# Rows that are premultiplied at once.
STRIP = 256


def scaled(image: Image.Image, box: Box, size: Size) -> Image.Image:
    """The part `box` of an image, in `size` and a mode of colours.SCALED. The image is taken over, and closed once it is not needed.

    Raises UnprocessableImage, and whatever decoding raises.
    """
    image.load()
    source = colours.scalable(image)
    if source.size == size and box == (0, 0, *size):
        return source
    resampling = Image.Resampling.LANCZOS if source.width * source.height <= LARGE else Image.Resampling.BICUBIC
    across, down = (max(1, int((box[edge + 2] - box[edge]) / size[edge] / REDUCING_GAP)) for edge in (0, 1))
    has_alpha, is_whole = source.mode in colours.PREMULTIPLIED, box[1] <= 0 and box[3] >= source.height
    if across == down == 1 and (has_alpha or is_whole):
        narrow = _narrowed(source, box, size[0], resampling)
        source.close()
        made = narrow.resize(size, resampling, (0, box[1], size[0], box[3]))
    elif has_alpha:
        made = _reduced(source, across, down).resize(size, resampling, _divided(box, across, down))
    else:
        made = source.resize(size, resampling, box, REDUCING_GAP)
    source.close()
    image.close()
    return colours.plain(made)


def _narrowed(image: Image.Image, box: Box, width: int, resampling: Image.Resampling) -> Image.Image:
    """Columns scaled and rows left: the first of the two steps in which Pillow itself scales, after which the source can go."""
    if image.mode not in colours.PREMULTIPLIED:
        return image.resize((width, image.height), resampling, (box[0], 0, box[2], image.height))
    made = Image.new(colours.PREMULTIPLIED[image.mode], (width, image.height))
    for top in range(0, image.height, STRIP):
        strip = colours.premultiplied(image.crop((0, top, image.width, min(top + STRIP, image.height))))
        made.paste(strip.resize((width, strip.height), resampling, (box[0], 0, box[2], strip.height)), (0, top))
    return made


def _reduced(image: Image.Image, across: int, down: int) -> Image.Image:
    """An image with alpha, much larger than wanted, averaged by whole factors, as `reducing_gap` has it for others."""
    made = Image.new(colours.PREMULTIPLIED[image.mode], (-(-image.width // across), -(-image.height // down)))
    step = max(1, STRIP // down) * down
    for top in range(0, image.height, step):
        strip = colours.premultiplied(image.crop((0, top, image.width, min(top + step, image.height))))
        made.paste(strip.reduce((across, down)), (0, top // down))
    return made


def _divided(box: Box, across: int, down: int) -> Box:
    return box[0] / across, box[1] / down, box[2] / across, box[3] / down
