"""Video captioning: what happens in a clip, in a sentence, and when each word looked.

zoo train video_captioning --data clips/ --encoder MobileNetV2 --image-size 160 --out runs/clips
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.data import clips, demo_movements, pictures
from zoo.data.captions import load_captions
from zoo.errors import SettingError
from zoo.recipes.base import on_device, setting
from zoo.recipes.image_captioning.recipe import ImageCaptioning
from zoo.recipes.video_captioning import device


@dataclass(frozen=True, kw_only=True)
class VideoCaptioning(ImageCaptioning):
    """Say in a sentence what happens in a clip, word by word, looking at a part of its time for each.

    As `ImageCaptioning`, of whose settings all hold: the same encoder sees every frame, a recurrent layer reads the
    frames in both directions, and the same decoder attends to its outputs, to moments in place of places.

        frames (batch, frames, size, size, 3), words (batch, time) -> probabilities of the next words

    On a device these are three files, for a frame, for the clip and for a word.

    Example:
        >>> recipe = VideoCaptioning(units=32, width=32)
        >>> recipe.model().output_shape
        (None, None, 26)

    Reference:
        L. Yao et al., "Describing videos by exploiting temporal structure", ICCV 2015,
        https://arxiv.org/abs/1502.08029
    """

    name = "video_captioning"
    device_files = (*on_device(device, "captions", "beam_search", "settings"), clips.__file__, pictures.__file__)
    device_packages = ("Pillow", "imageio", "av")  # the last two for films only
    _reads, _look = "frames", staticmethod(device.look)

    data: str = setting("demo", "demo (synthetic), or a folder: captions.csv or .jsonl of clips or folders of frames")
    frames: int = setting(demo_movements.FRAMES, "of a clip, evenly spaced", least=2)
    image_size: int = setting(demo_movements.SIZE, "pixels; frames are stretched to a square", least=16)
    word_dropout: float = setting(0.7, "share of the words before that training hides, under 1", least=0.0)
    epochs: int = setting(15, "passes over the training captions", least=1)

    def __post_init__(self):
        super().__post_init__()
        if self.frames > device.MOST_FRAMES:
            raise SettingError(f"VideoCaptioning: frames is {self.frames}, expected at most {device.MOST_FRAMES}.")

    @cached_property
    def _captions(self):
        return load_captions(
            self.data,
            demo=demo_movements.load,
            check=clips.check_clip,
            decode=lambda path: clips.read_clip(path, 8, self.frames),
            skip_bad=self.skip_bad,
        )

    def model(self):
        """Return a fresh, built `keras.Model` from frames and words to probabilities, not compiled."""
        from zoo.recipes.image_captioning import encoders, networks

        encoder = encoders.build(self.encoder, self.weights, self.image_size)
        return self._joined(networks.each_frame(encoder, self.frames))

    def _read(self, picture):
        if not isinstance(picture, np.ndarray):
            return clips.read_clip(picture, self.image_size, self.frames)
        rows = np.linspace(0, len(picture) - 1, self.frames).round().astype(int)
        return np.stack([pictures.resize(picture[row], self.image_size) for row in rows])

    def parts(self, model):
        """Return {name: `keras.Model`}: the files of which a bundle is made, in the order in which they run."""
        from zoo.recipes.image_captioning import networks

        reader, step = networks.halves(model, "features")
        return {"encoder": networks.one_frame(model), "reader": reader, "step": step}
