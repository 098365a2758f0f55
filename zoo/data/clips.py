"""Clips from folders of frames, moving pictures and films that come from anywhere, as a few frames of one size.

A bundle that looks at clips holds a copy of this file under the same name. Folders and moving pictures need Pillow and
NumPy alone, films also imageio with a decoder: `pip install "imageio[pyav]"`.
"""

from pathlib import Path

import numpy as np

if __package__:
    from zoo.data.pictures import MOST_BYTES, MOST_PIXELS, SUFFIXES, check_picture, read_picture, resize
    from zoo.errors import DataError
else:  # in a bundle
    from contents import DataError
    from pictures import MOST_BYTES, MOST_PIXELS, SUFFIXES, check_picture, read_picture, resize

MOVING = (".gif", ".webp", ".png")
FILMS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
MOST_FRAMES = 20_000  # of a clip: a film of ten minutes or so
# What Pillow and decoders end in over a damaged file.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, RuntimeError, MemoryError)


def read_clip(path, size, frames):
    """Return uint8 (frames, size, size, 3): frames of a clip, evenly spaced from its first to its last.

    A clip of fewer frames shows some of them more than once.

    Args:
        path: a folder of pictures, frames in the order of their names; a moving GIF, WebP or PNG; a film that imageio
            reads.
        size: int, pixels; frames are stretched to a square.
        frames: int.

    Raises:
        DataError: the clip is missing, empty, damaged, of another kind, or too long; a film and there is no imageio.
    """
    path = Path(path)
    if path.is_dir():
        found = _frames_of(path)
        return np.stack([read_picture(found[place], size) for place in _spread(len(found), frames)])
    check_clip(path)
    try:
        return (_moving if path.suffix.lower() in MOVING else _film)(path, size, frames)
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path} is a damaged clip ({error}); expected a whole one: copy it again") from None


def check_clip(path):
    """Raise DataError, as `read_clip`, for all that is seen without decoding the clip."""
    path = Path(path)
    if path.is_dir():
        check_picture(_frames_of(path)[0])
    elif not path.is_file():
        raise DataError(f"there is no file or folder {path}; expected a clip: check the path")
    elif path.suffix.lower() not in (*MOVING, *FILMS):
        raise DataError(f"{path} ends in {path.suffix or 'nothing'}; expected one of {', '.join((*MOVING, *FILMS))}")
    elif path.suffix.lower() in MOVING and path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes; expected at most {MOST_BYTES}: shrink it")


def _frames_of(folder):
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder} holds no picture; expected frames, {', '.join(SUFFIXES)}, in order of their names")
    return found


def _spread(count, frames):
    return np.linspace(0, count - 1, frames).round().astype(int).tolist()


def _moving(path, size, frames):
    from PIL import Image

    with Image.open(path, formats=("GIF", "WEBP", "PNG")) as picture:
        count = getattr(picture, "n_frames", 1)
        if count > MOST_FRAMES or picture.width * picture.height > MOST_PIXELS:
            raise DataError(f"{path} has {count} frames of {picture.size}; expected at most {MOST_FRAMES}: shrink it")
        found = []
        for place in _spread(count, frames):
            picture.seek(place)
            found.append(resize(picture.convert("RGB"), size))
    return np.stack(found)


def _film(path, size, frames):
    try:
        import av  # noqa: F401  what imageio's plugin decodes with
        import imageio.v3 as imageio
    except ImportError:
        raise DataError(f'{path} is a film; to read it: pip install "imageio[pyav]"') from None
    kept, stride = [], 1
    for number, frame in enumerate(imageio.imiter(path, plugin="pyav")):
        if number >= MOST_FRAMES or frame.shape[0] * frame.shape[1] > MOST_PIXELS:
            raise DataError(f"{path} has frames of {frame.shape}, or over {MOST_FRAMES} of them: cut it")
        if number % stride == 0:
            kept.append(resize(frame, size))
        if len(kept) > 8 * frames:  # of a long film, every second, fourth and so on is enough
            kept, stride = kept[::2], 2 * stride
    if not kept:
        raise DataError(f"{path} holds no frame; expected a film")
    return np.stack([kept[place] for place in _spread(len(kept), frames)])
