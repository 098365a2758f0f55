"""What a device does around a captioner of clips: frames to the encoder, one by one, then words one by one.

NumPy, and Pillow to read and to draw; films need imageio too.
"""

import numpy as np

if __package__:
    from zoo.data.clips import read_clip
    from zoo.errors import DataError
    from zoo.recipes.device.captions import answer, check_parts, search, show
    from zoo.recipes.device.settings import number
else:  # in a bundle
    from captions import answer, check_parts, search, show  # noqa: F401
    from clips import read_clip
    from contents import DataError
    from settings import number

LARGEST, MOST_FRAMES = 1024, 256  # pixels of a side, and frames, that a model reads
_TILE, _TEXT = 64, 90  # pixels of a drawn frame's side, and of the words beside it


def read(path, card):
    """Return what the encoder takes frame by frame: {"frames": (1, frames, size, size, 3)}, 0 to 255.

    Args:
        path: a folder of frames, a moving picture, or a film, as `clips.read_clip` takes it.
        card: the bundle's card, with the settings image_size and frames.

    Raises:
        DataError: the clip is missing, damaged, or none; the card's settings are not those of a captioner of clips.
    """
    size, frames = number(card, "image_size", LARGEST), number(card, "frames", MOST_FRAMES)
    if not isinstance(size, int) or not isinstance(frames, int):
        raise DataError(f"the card's image_size {size} or frames {frames} is no whole number; export the bundle again")
    return {"frames": read_clip(path, size, frames)[None].astype(np.float32)}


def look(parts, inputs):
    """Return what the steps take, {name: array}, of what `read` returned; parts as in `run`."""
    seen = [parts["encoder"]({"image": frame[None]})["features"] for frame in inputs["frames"][0]]
    return parts["reader"]({"features": np.stack(seen, axis=1)})


def run(parts, inputs, card):
    """Return {"captions": sentences, the best first} of what `read` returned, by a bundle's three files in turn.

    Args:
        parts: {"encoder", "reader", "step"}: functions of {input: array} that return {output: array}.
        inputs: the frames of one clip.
        card: the bundle's card, with the settings beam, length and length_penalty.
    """
    check_parts(parts, ("encoder", "reader", "step"))
    return search(parts["step"], look(parts, inputs), card)


def draw(captions, path, out):
    """Draw when the best caption looked at the clip at `path`, a row of frames for each word, into a PNG at `out`."""
    from PIL import Image, ImageDraw

    words, _, attention = captions[0]
    frames = read_clip(path, _TILE, attention.shape[1])
    sheet = Image.new("RGB", (_TEXT + _TILE * len(frames), _TILE * len(words)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (word, seen) in enumerate(zip(words, attention, strict=True)):
        pen.text((4, row * _TILE + _TILE // 2 - 6), word.encode("ascii", "replace").decode(), fill="black")
        for column, (frame, light) in enumerate(zip(frames, seen / seen.max(), strict=True)):
            tile = Image.fromarray((frame * (0.2 + 0.8 * light)).astype(np.uint8))
            sheet.paste(tile, (_TEXT + column * _TILE, row * _TILE))
    sheet.save(out, "PNG")
