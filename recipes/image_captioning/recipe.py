"""Image captioning: what a picture shows, in a sentence, and where each word looked.

    zoo train image_captioning --data flickr8k/ --encoder mobilenet_v2.tflite --image-size 160 --out runs/flickr8k

Flickr8k, the 1,000 test pictures, one seed: BLEU-4 18.1, CIDEr-D 43.4; in int8, with an encoder of 2,894 KiB, 18.0 and
43.2. The settings are in docs/image_captioning.md. By `python benchmarks/captioning_flickr8k.py`, in
docs/results/image_captioning-flickr8k.json.
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.data import demo_scenes, pictures
from zoo.data.captions import load_captions
from zoo.errors import DataError, SettingError
from zoo.recipes.base import Recipe, on_device, setting
from zoo.recipes.device import captions as device_captions
from zoo.recipes.device.beam_search import PADDING, SPECIAL, UNKNOWN
from zoo.recipes.image_captioning import device

_AT_ONCE = 50  # pictures that are captioned together
_SCORED = 500  # pictures of validation that are captioned after each epoch


@dataclass(frozen=True, kw_only=True)
class ImageCaptioning(Recipe):
    """Say in a sentence what a picture shows, word by word, looking at a part of it for each.

    An encoder turns a picture into a map of features: one that was trained elsewhere, and stays as it is, so that its
    features are computed once and kept on disk; or "small", which learns along. An LSTM with additive attention to the
    map writes the caption, and beam search finds the likeliest.

        image (batch, size, size, 3), words (batch, time) -> probabilities of the next words (batch, time, vocabulary)

    On a device these are two files, one for the picture and one for each word.

    Example:
        >>> recipe = ImageCaptioning(units=32, width=32)
        >>> recipe.model().output_shape
        (None, None, 26)

    Reference:
        K. Xu et al., "Show, attend and tell: neural image caption generation with visual attention", ICML 2015,
        https://arxiv.org/abs/1502.03044
    """

    name = "image_captioning"
    metric_name = "next words right"
    device_files = (*on_device(device, "captions", "beam_search", "settings"), pictures.__file__)
    device_packages = ("Pillow",)  # to read pictures
    _reads = "image"  # what the encoder takes
    _look = staticmethod(device.look)  # what a device makes of it for the steps

    data: str = setting("demo", "demo (synthetic), or a folder: captions.csv or .jsonl, Flickr8k, COCO")
    encoder: str = setting("small", "small, squeezenet, a Keras application, or a .keras or .tflite file")
    weights: str = setting("imagenet", "of a named encoder: imagenet, or an .h5 file without its top")
    image_size: int = setting(demo_scenes.SIZE, "pixels; pictures are stretched to a square", least=16)
    rare: int = setting(1, "times that a word of the training captions is said at least, or is unknown", least=1)
    length: int = setting(20, "words of a caption at most; of longer ones the start is learnt", least=1)
    units: int = setting(128, "width of the LSTM", least=1)
    width: int = setting(64, "of the embeddings, of the memory and of the network that attends", least=1)
    dropout: float = setting(0.2, "share that training drops of memory, embeddings and outputs, under 1", least=0.0)
    word_dropout: float = setting(0.5, "share of the words before that training hides, under 1", least=0.0)
    label_smoothing: float = setting(0.0, "share of the target that goes to all words alike, under 1", least=0.0)
    doubly_stochastic: float = setting(0.0, "weight of the loss that has attention cover all places", least=0.0)
    own_words: float = setting(0.0, "scheduled sampling: highest share of own words among those read, to 1", least=0.0)
    beam: int = setting(3, "beginnings that the search follows; 1 for greedy decoding", least=1)
    length_penalty: float = setting(
        0.7, "0 for the likeliest caption, which is short, to 1 for the likeliest words", least=0.0
    )
    epochs: int = setting(12, "passes over the training captions", least=1)
    batch_size: int = setting(32, "captions per training step", least=1)
    learning_rate: float = setting(0.005, "the highest of the schedule", above=0.0)
    seed: int = setting(0, "of weights, order, dropout", least=0)
    skip_bad: bool = setting(False, "leave out unusable pictures and captions, listing them, instead of stopping")

    def __post_init__(self):
        super().__post_init__()
        for name, most in (("dropout", 1), ("word_dropout", 1), ("label_smoothing", 1), ("own_words", 1.001)):
            if getattr(self, name) >= most:
                raise SettingError(
                    f"{type(self).__name__}: {name} is {getattr(self, name)}, expected a share under {most:g}."
                )
        for name, most in (
            ("image_size", device.LARGEST),
            ("length", device_captions.LONGEST),
            ("beam", device_captions.WIDEST),
        ):
            if getattr(self, name) > most:
                raise SettingError(f"{type(self).__name__}: {name} is {getattr(self, name)}, expected at most {most}.")

    def load(self):
        """Return the pictures and captions, `zoo.data.captions.Captions`; read once and kept."""
        return self._captions

    @cached_property
    def _captions(self):
        return load_captions(self.data, demo=demo_scenes.load, skip_bad=self.skip_bad)

    @cached_property
    def labels(self):
        """The vocabulary, in the order of the model's outputs: four of its own, then words, the most frequent first."""
        counts = {}
        for ones in self.load().select("train")[1]:
            for word in (word for caption in ones for word in caption):
                counts[word] = counts.get(word, 0) + 1
        words = sorted((word for word, count in counts.items() if count >= self.rare), key=lambda w: (-counts[w], w))
        if len(words) < 2:
            raise DataError(
                f"{self.data}: the training captions have {len(words)} words that are said {self.rare} times, expected"
                " two or more: give more captions, or lower rare."
            )
        return (*SPECIAL, *words)

    def model(self):
        """Return a fresh, built `keras.Model` from pictures and words to probabilities, not compiled."""
        from zoo.recipes.image_captioning import encoders

        return self._joined(encoders.build(self.encoder, self.weights, self.image_size))

    def _joined(self, encoder):
        from zoo.recipes.image_captioning import networks

        options = {name: getattr(self, name) for name in ("units", "width", "dropout", "word_dropout")}
        return networks.join(encoder, networks.decoder(encoder.output_shape[1:], self.labels, **options))

    def train(self, *, callbacks=(), verbose="auto"):
        """Train a fresh model and keep the weights of the epoch with the highest CIDEr in validation.

        Sets the global seeds, so that the same settings give the same model on the same machine.

        Args:
            callbacks: more Keras callbacks.
            verbose: as `keras.Model.fit` takes it: 0 for silence.

        Returns:
            (model, scores): a `keras.Model`; the test scores of `evaluate`, `skipped` files and rows with the reasons,
            and `history` by epoch.
        """
        import keras

        from zoo.recipes.image_captioning import networks, training
        from zoo.train import share, together

        keras.utils.set_random_seed(self.seed)
        model = self.model()
        batches = self._batches(model, "train", self.seed)
        network, own = networks.to_train(model, self.seed if self.own_words else None)
        steps = self.epochs * len(batches)
        schedule = keras.optimizers.schedules.CosineDecay(
            self.learning_rate / 10, steps, warmup_target=self.learning_rate, warmup_steps=steps // 10
        )
        network.compile(
            keras.optimizers.Adam(schedule, global_clipnorm=1.0),
            {"logits": training.word_loss(self.label_smoothing), "attention": training.attention_loss},
            loss_weights={"logits": 1.0, "attention": self.doubly_stochastic},
            jit_compile=keras.backend.backend() == "jax",  # elsewhere it compiles anew for each shape
        )
        best = keras.callbacks.EarlyStopping("val_cider", mode="max", patience=self.epochs, restore_best_weights=True)
        ramp = [training.Ramp(own, self.own_words)] if own is not None else []
        history = network.fit(
            share(batches),
            epochs=self.epochs,
            validation_data=self._batches(model, "validation"),
            callbacks=together(batches, *ramp, training.Score(self._cider(model)), best, *callbacks),
            shuffle=False,
            verbose=verbose,
        ).history
        skipped = [list(each) for each in self.load().skipped]
        return model, self.evaluate(model) | {"skipped": skipped, "history": history}

    def _batches(self, model, split, seed=None):
        from zoo.recipes.image_captioning.training import Batches

        captions = [[self.encode(words) for words in ones] for ones in self.load().select(split)[1]]
        rows = np.flatnonzero(self.load().split == split)
        return Batches(*self._seen(model), rows, captions, self.batch_size, seed)

    def _seen(self, model):
        """Return what is read of all pictures: ("features", kept on disk), or pixels for an encoder that learns."""
        from zoo.recipes.image_captioning.features import features

        encoder = model.get_layer("encoder")
        if encoder.trainable:
            return self._reads, self._pixels
        return "features", features(encoder, self.load().pictures, self._read)

    @cached_property
    def _pixels(self):
        return np.stack([self._read(picture) for picture in self.load().pictures])

    def _read(self, picture):
        if isinstance(picture, np.ndarray):
            return pictures.resize(picture, self.image_size)
        return pictures.read_picture(picture, self.image_size)

    def encode(self, words, labels=None):
        """Return the numbers of the words of a caption, up to `length`, a list of int.

        Args:
            words: list of str, as `zoo.data.captions.words_of` returns them.
            labels: the vocabulary of another model (default: that of the training captions).
        """
        numbers = self._numbers if labels is None else {word: number for number, word in enumerate(labels)}
        return [numbers.get(word, UNKNOWN) for word in words[: self.length]]

    @cached_property
    def _numbers(self):
        return {word: number for number, word in enumerate(self.labels)}

    def caption(self, model, chosen, *, beam=None):
        """Return for each picture [(words, score, attention (words, places))], the best first.

        Args:
            model: as `train` returns it.
            chosen: list of paths, or uint8 arrays (height, width, 3).
            beam: int, in place of the recipe's.
        """
        from zoo.recipes.image_captioning import networks

        given = (np.stack([self._read(one) for one in part]) for part in _portions(chosen))
        return self._search(model, networks.halves(model, self._reads), self._reads, given, beam)

    def evaluate(self, model, *, split="test", beam=None, meteor=False):
        """Return the scores of a model's captions on one split, against all words of the right ones.

        Returns:
            dict of bleu_1 to bleu_4, cider, exact (the share that is one of the right captions) and pictures; and
            meteor if asked for, see `scores.score`.
        """
        from zoo.recipes.image_captioning import networks

        name, seen = self._seen(model)
        rows = np.flatnonzero(self.load().split == split)
        return self._score(model, networks.halves(model, name), name, seen, rows, beam, meteor=meteor)

    def _score(self, model, halves, name, seen, rows, beam, **options):
        from zoo.recipes.image_captioning.scores import score

        found = self._search(model, halves, name, (seen[part] for part in _portions(rows)), beam)
        right = [self.load().captions[row] for row in rows]
        return score([captions[0][0] for captions in found], right, **options) | {"pictures": len(rows)}

    def _search(self, model, halves, name, given, beam):
        from zoo.recipes.image_captioning import networks

        options = {"beam": beam or self.beam, "length": self.length, "penalty": self.length_penalty}
        card, found = {"labels": carried(model)}, []
        for part in given:
            found += networks.search(*halves, {name: np.asarray(part, np.float32)}, **options)
        return [device.answer({"captions": sentences}, card) for sentences in found]

    def _cider(self, model):
        """Return a function that gives the CIDEr of a model as it is then, on pictures of validation, greedily."""
        from zoo.recipes.image_captioning import networks

        name, seen = self._seen(model)
        halves, rows = networks.halves(model, name), np.flatnonzero(self.load().split == "validation")
        rows = rows[np.linspace(0, len(rows) - 1, min(_SCORED, len(rows))).round().astype(int)]

        def score():
            networks.renew(halves[0], model)
            return self._score(model, halves, name, seen, rows, 1)["cider"]

        return score

    def parts(self, model):
        """Return {name: `keras.Model`}: the files of which a bundle is made, in the order in which they run."""
        from zoo.recipes.image_captioning import networks

        return dict(zip(("encoder", "step"), networks.halves(model, self._reads), strict=True))

    def run_parts(self, parts, inputs):
        """Return what the whole model returns, from functions of {input: array} in the place of its parts."""
        return np.concatenate(
            [
                device_captions.follow(parts["step"], self._look(parts, {self._reads: one[None]}), words)
                for one, words in zip(inputs[self._reads], inputs["words"], strict=True)
            ]
        )

    def metric(self, outputs, labels):
        """Return the share of right captions' words that are likeliest after those before, from a model's outputs."""
        labels = np.asarray(labels)
        return float(np.mean(np.argmax(outputs, axis=-1)[labels != PADDING] == labels[labels != PADDING]))

    def decode(self, outputs):
        """Return [(words, score, attention)], the best first, of what `device.run` returned."""
        return device.answer(outputs, {"labels": list(self.labels)})

    def held_out(self, count):
        """Return (inputs, next words) of up to `count` test pictures with a caption each, spread over the split."""
        return self._rows("test", count)

    def representative(self):
        """Return up to 50 training pictures with a caption each, for the schemes that calibrate."""
        return self._rows("train", 50)[0]

    def example(self):
        """Return one test picture with a caption as a batch of one, and the caption."""
        inputs, targets = self.held_out(1)
        return inputs, " ".join(self.labels[word] for word in targets[0] if word >= UNKNOWN)

    def _rows(self, split, count):
        from zoo.recipes.image_captioning.training import shifted

        chosen, captions = self.load().select(split)
        rows = np.linspace(0, len(chosen) - 1, min(count, len(chosen))).round().astype(int)
        words, targets = shifted([self.encode(captions[row][0]) for row in rows])
        seen = np.stack([self._read(chosen[row]) for row in rows]).astype(np.float32)
        return {self._reads: seen, "words": words}, targets


def _portions(chosen):
    return (chosen[start : start + _AT_ONCE] for start in range(0, len(chosen), _AT_ONCE))


def carried(model):
    """Return the vocabulary that a model carries since it was trained, a list of str."""
    return json.loads(model.get_layer("decoder").get_layer("vocabulary").content)
