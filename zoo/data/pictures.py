"""Pictures from files that come from anywhere, as arrays of one size; Pillow and NumPy alone.

A bundle that looks at pictures holds a copy of this file under the same name.
"""

import warnings
from pathlib import Path

import numpy as np

if __package__:
    from zoo.errors import DataError
else:  # in a bundle
    from contents import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # all that is decoded, whatever a file is called
MOST_PIXELS = 32_000_000  # of a picture before it is made small; as an array that is 96 MB
MOST_BYTES = 1 << 26  # of a file
# What Pillow ends in over a damaged file.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, OverflowError, MemoryError)


def read_picture(path, size):
    """Return a picture as uint8 (size, size, 3): red, green, blue, stretched to a square, turned as its camera says.

    Args:
        path: a JPEG, PNG, BMP or WebP file, of any mode; what is transparent becomes white.
        size: int, pixels.

    Raises:
        DataError: the file is missing, damaged, cut short, of another kind or of too many pixels.
    """
    from PIL import Image, ImageOps

    def squared(picture):
        if picture.format == "JPEG":
            picture.draft("RGB", (size, size))  # decodes a large one at a fraction of its size
        picture = ImageOps.exif_transpose(picture)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        if picture.mode.startswith("I") or picture.mode == "F":
            raise DataError(f"{path} has the mode {picture.mode}; expected 8 bits a colour: convert it")
        return resize(picture.convert("RGB"), size)

    return _opened(path, squared)


def resize(picture, size):
    """Return uint8 (size, size, 3) of a Pillow image or an array (height, width, 3), stretched to a square."""
    from PIL import Image

    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def check_picture(path):
    """Raise DataError, as `read_picture`, for all that the head of the file tells; it is not decoded."""
    _opened(path, lambda picture: None)


def _opened(path, use):
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():  # a pipe would be waited for
        raise DataError(f"there is no file {path}; expected a picture: check the path")
    if path.stat().st_size > MOST_BYTES:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes; expected a picture of at most {MOST_BYTES}: shrink it"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size, which is checked here, and of odd metadata
            with Image.open(path, formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise DataError(f"{path} has {width} x {height} pixels; expected at most {MOST_PIXELS}: shrink it")
                return use(picture)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path} is no picture; expected {', '.join(FORMATS)}: convert or remove it") from None
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is a damaged picture ({error}); expected a whole one: copy it again") from None
