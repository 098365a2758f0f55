"""What a device does around a captioner: a picture to the encoder's input, words one by one to captions.

NumPy, and Pillow to read and to draw.
"""

import math

import numpy as np

if __package__:
    from zoo.data.pictures import read_picture
    from zoo.errors import DataError
    from zoo.recipes.device.captions import answer, check_parts, search, show
    from zoo.recipes.device.settings import number
else:  # in a bundle
    from captions import answer, check_parts, search, show  # noqa: F401
    from contents import DataError
    from pictures import read_picture
    from settings import number

LARGEST = 1024  # pixels of a side that an encoder reads
_TILE, _TEXT = 160, 18  # pixels of a drawn picture's side, and of the line above it
_COLUMNS = 5


def read(path, card):
    """Return the encoder's input from a file that holds a picture: {"image": (1, size, size, 3)}, 0 to 255.

    Args:
        path: a JPEG, PNG, BMP or WebP file.
        card: the bundle's card, with the setting image_size.

    Raises:
        DataError: the file is missing, damaged, too large or no picture; the card's size is none.
    """
    size = number(card, "image_size", LARGEST)
    if not isinstance(size, int):
        raise DataError(f"the card's image_size is {size}; expected a whole number: export the bundle again")
    return {"image": read_picture(path, size)[None].astype(np.float32)}


def look(parts, inputs):
    """Return what the steps take, {name: array}, of what `read` returned; parts as in `run`."""
    return parts["encoder"](inputs)


def run(parts, inputs, card):
    """Return {"captions": sentences, the best first} of what `read` returned, by a bundle's two files in turn.

    Args:
        parts: {"encoder", "step"}: functions of {input: array} that return {output: array}.
        inputs: what the encoder takes, one row.
        card: the bundle's card, with the settings beam, length and length_penalty.
    """
    check_parts(parts, ("encoder", "step"))
    return search(parts["step"], look(parts, inputs), card)


def draw(captions, path, out):
    """Draw where the best caption looked at each of its words over the picture at `path`, into a PNG at `out`."""
    from PIL import Image

    words, _, attention = captions[0]
    rows, columns = (side := math.isqrt(attention.shape[1])), side
    if rows * columns != attention.shape[1]:
        raise DataError(f"the model looks at {attention.shape[1]} places; expected a square of them")
    picture = Image.fromarray(read_picture(path, _TILE))
    tiles = [("", picture)]
    for word, seen in zip(words, attention, strict=True):
        light = Image.fromarray((255 * seen / seen.max()).astype(np.uint8).reshape(rows, columns))
        light = light.resize(picture.size, Image.Resampling.BICUBIC)
        tiles.append((word, Image.composite(picture, Image.eval(picture, lambda value: value // 5), light)))
    _sheet(tiles).save(out, "PNG")


def _sheet(tiles):
    """Return one picture of titled pictures in rows."""
    from PIL import Image, ImageDraw

    columns = min(_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * _TILE, -(-len(tiles) // columns) * (_TILE + _TEXT)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (title, tile) in enumerate(tiles):
        at = (number % columns * _TILE, number // columns * (_TILE + _TEXT))
        pen.text((at[0] + 4, at[1] + 3), title.encode("ascii", "replace").decode(), fill="black")
        sheet.paste(tile, (at[0], at[1] + _TEXT))
    return sheet
