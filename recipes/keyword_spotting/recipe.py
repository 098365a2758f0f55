"""Keyword spotting: which of a few words was said, from raw audio.

    zoo train keyword_spotting --data recordings/ --out runs/words

Free Spoken Digits, the mean of leaving each of six speakers out: 92.9% ("crnn", extra="demo"). Training took 298 to
754 s on a shared CPU core. By `python benchmarks/fsdd_speakers.py`, in docs/results/keyword_spotting-fsdd.json. We
know of no published figure for this split.
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.data.keywords import load_keywords
from zoo.errors import DataError, SettingError
from zoo.recipes.base import Recipe, on_device, places, setting
from zoo.recipes.keyword_spotting import device

_HOP_MS = 20.0  # from one frame of features to the next
_NETWORKS = ("lstm", "small", "crnn")


@dataclass(frozen=True, kw_only=True)
class KeywordSpotting(Recipe):
    """Tell a spoken word, from raw samples to label probabilities in one model.

    The networks: "lstm" is a peephole LSTM after kws_streaming's lstm_peep, which has `projection=200`; "small" a plain
    LSTM for microcontrollers; "crnn" two convolutions and a GRU. All start with log-mel features whose level follows
    the loudest sound so far, so that neither loudness nor noise between words matters; training changes speed, pitch,
    tilt and noise of each clip.

        samples (batch, sample_rate seconds) -> probabilities (batch, labels)

    Example:
        >>> recipe = KeywordSpotting(network="small", epochs=3)
        >>> recipe.model().output_shape
        (None, 10)

    Reference:
        Rybakov et al., "Streaming keyword spotting on mobile devices", 2020, https://arxiv.org/abs/2005.06720; Arik et
        al., "Convolutional recurrent neural networks for small-footprint keyword spotting", 2017,
        https://arxiv.org/abs/1703.05390
    """

    name = "keyword_spotting"
    metric_name = "accuracy"
    device_files = on_device(device, "labels", "settings", "sound")  # what a bundle's runner does around the model

    data: str = setting("demo", "demo (synthetic), fsdd, speech_commands, or a folder of one sub-folder per label")
    network: str = setting("lstm", "lstm, small (for microcontrollers) or crnn", choices=_NETWORKS)
    units: int = setting(0, "width of the recurrent layer; 0 is the network's own", least=0)
    projection: int = setting(0, "width that the network lstm projects its hidden state to; 0 for none", least=0)
    sample_rate: int = setting(8000, "Hz; recordings are converted", above=0)
    seconds: float = setting(1.0, "length of a clip in seconds; recordings are cut or padded", above=0.0)
    test_speaker: str = setting("", "a speaker to test on, heard nowhere else; empty for the set's own split")
    extra: str = setting("", "more recordings of the same words, for training alone: named as data is; empty for none")
    epochs: int = setting(30, "passes over the training clips", least=1)
    batch_size: int = setting(32, "clips per training step", least=1)
    learning_rate: float = setting(0.002, "the highest of the schedule", above=0.0)
    seed: int = setting(0, "of weights, order, augmentation", least=0)
    skip_bad: bool = setting(False, "leave out unusable recordings, naming them, instead of stopping")

    def __post_init__(self):
        super().__post_init__()
        if self.projection and self.network != "lstm":
            raise SettingError(
                f"projection is {self.projection} and network {self.network!r}, which has none; "
                "expected projection=0, or network='lstm'."
            )

    def load(self):
        """Return the recordings, `zoo.data.keywords.Keywords`; read once and kept."""
        return self._keywords

    @cached_property
    def _keywords(self):
        return self._read(self.data, test_speaker=self.test_speaker or None)

    @cached_property
    def _extra(self):
        return self._read(self.extra) if self.extra else None

    def sources(self):
        return self.load(), self._extra

    def _read(self, data, **options):
        settings = {name: getattr(self, name) for name in ("sample_rate", "seconds", "skip_bad", "seed")}
        return load_keywords(data, **settings, **options)

    @property
    def chunk(self):
        """Samples that a file which streams reads at once: a hop of 20 ms, or two where the network halves time."""
        hop = round(self.sample_rate * _HOP_MS / 1000)
        return 2 * hop if self.network == "crnn" else hop

    @property
    def labels(self):
        """The words, in the order of the model's outputs."""
        return self.load().label_names

    def model(self):
        """Return a fresh, built `keras.Model` from samples to probabilities, not compiled."""
        import keras

        from zoo.layers import Annotation, AudioAugment, LogMel, PeepholeLSTM, RunningLevel, SpectrogramMask

        samples = keras.Input((round(self.sample_rate * self.seconds),), name="samples")
        x = AudioAugment(seed=self.seed, name="augment")(samples)
        x = LogMel(self.sample_rate, mels=32, frame_ms=25.0, hop_ms=_HOP_MS, floor=1e-10, name="log_mel")(x)
        x = RunningLevel(name="level")(x)
        x = keras.layers.BatchNormalization(center=False, scale=False, momentum=0.9, name="normalise")(x)
        x = SpectrogramMask(seed=self.seed + 1, name="mask")(x)
        if self.network == "lstm":
            x = PeepholeLSTM(self.units or 500, self.projection or None, name="recurrent")(x)
        elif self.network == "small":
            x = keras.layers.LSTM(self.units or 40, name="recurrent")(x)
        else:
            x = _convolve(x)
            x = keras.layers.GRU(self.units or 128, name="recurrent")(x)
        x = keras.layers.Dropout(0.3, seed=self.seed + 2, name="dropout")(x)
        x = Annotation(json.dumps(self.labels), name="labels")(x)
        x = keras.layers.Dense(len(self.labels), activation="softmax", name="probabilities")(x)
        return keras.Model(samples, x, name="keyword_spotting")

    def train(self, *, callbacks=(), verbose="auto"):
        """Train a fresh model and keep the weights of the epoch with the lowest validation loss.

        Sets the global seeds, so that the same settings give the same model on the same machine.

        Args:
            callbacks: more Keras callbacks.
            verbose: as `keras.Model.fit` takes it: 0 for silence.

        Returns:
            (model, scores): a compiled `keras.Model`; the test scores of `evaluate`, and `history` by epoch.
        """
        import keras

        from zoo.train import ArrayBatches, share, together

        keras.utils.set_random_seed(self.seed)
        samples, labels = self._training_clips()
        words = np.eye(len(self.labels), dtype=np.float32)
        batches = ArrayBatches(samples, words[labels], batch_size=self.batch_size, seed=self.seed)
        steps = self.epochs * len(batches)
        schedule = keras.optimizers.schedules.CosineDecay(
            self.learning_rate / 10, steps, warmup_target=self.learning_rate, warmup_steps=steps // 10
        )
        model = self.model()
        model.compile(
            keras.optimizers.Adam(schedule, global_clipnorm=1.0),
            keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
            metrics=["accuracy"],
            jit_compile=keras.backend.backend() == "jax",  # elsewhere it compiles anew for each shape
        )
        best = keras.callbacks.EarlyStopping("val_loss", patience=self.epochs, restore_best_weights=True)
        validation, expected = self.load().select("validation")
        history = model.fit(
            share(batches),
            epochs=self.epochs,
            validation_data=(validation, words[expected]),
            validation_batch_size=self.batch_size,
            callbacks=together(batches, best, *callbacks),
            shuffle=False,
            verbose=verbose,
        ).history
        return model, self.evaluate(model) | {"history": history}

    def _training_clips(self):
        samples, labels = self.load().select("train")
        if not self.extra:
            return samples, labels
        extra = self._extra
        unknown = set(extra.label_names) - set(self.labels)
        if unknown:
            raise DataError(
                f"extra={self.extra!r} has the word {min(unknown)!r}, expected only words of data={self.data!r}: "
                f"{', '.join(self.labels)}."
            )
        places = np.array([self.labels.index(name) for name in extra.label_names])
        return np.concatenate([samples, extra.samples]), np.concatenate([labels, places[extra.labels]])

    def evaluate(self, model, *, split="test"):
        """Return {"accuracy": ..., "clips": ...} of a model on one split, by the words that the model was trained on.

        Raises:
            DataError: the data has a word that the model does not know.
        """
        samples, labels = self.load().select(split)
        labels = places(self.labels, _carried(model), self.data)[labels]
        return {
            "accuracy": self.metric(model.predict(samples, batch_size=256, verbose=0), labels),
            "clips": len(labels),
        }

    def assets(self, model):
        """Return {}: a device needs nothing but the model and its words.

        Raises:
            DataError: the data has other words now than the model was trained on.
        """
        if _carried(model) != list(self.labels):
            raise DataError(f"{self.data}: the model was trained on other words than are there now: train again.")
        return {}

    def metric(self, outputs, labels):
        """Return the fraction of clips whose likeliest label is right, from a model's or an exported file's outputs."""
        return float(np.mean(np.argmax(outputs, axis=-1) == np.asarray(labels)))

    def decode(self, outputs):
        """Return [(label, probability)], the likeliest first, of one clip's outputs."""
        return device.answer({"probabilities": outputs}, {"labels": self.labels})

    def held_out(self, count):
        """Return (samples, labels) of up to `count` test clips, which training never saw, spread over the split."""
        samples, labels = self.load().select("test")
        chosen = np.linspace(0, len(labels) - 1, min(count, len(labels))).round().astype(int)
        return samples[chosen], labels[chosen]

    def representative(self):
        """Return up to 200 training clips, spread over the split, for the schemes that calibrate."""
        samples, _ = self.load().select("train")
        return samples[np.linspace(0, len(samples) - 1, min(200, len(samples))).round().astype(int)]

    def example(self):
        """Return one test clip as a batch of one, and its word."""
        samples, labels = self.held_out(1)
        return samples, self.labels[labels[0]]


def _carried(model):
    """Return the words, in the order of its outputs, that a model carries since it was trained."""
    return json.loads(model.get_layer("labels").content)


def _convolve(features):
    """Two convolutions over time and frequency, which halve time once: `(batch, frames / 2, channels)`.

    In time they see the past only, so that the network can listen to a stream.
    """
    import keras

    x = keras.layers.Reshape((*features.shape[1:], 1), name="plane")(features)
    for index, (filters, size, strides) in enumerate([(24, 5, (1, 2)), (48, 3, (2, 2))], 1):
        missing = size - strides[1]  # so that the bands become exactly half as many
        padding = ((size - 1, 0), (missing // 2, missing - missing // 2))
        x = keras.layers.ZeroPadding2D(padding, name=f"past_{index}")(x)
        x = keras.layers.Conv2D(filters, size, strides, use_bias=False, name=f"convolution_{index}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"normalise_{index}")(x)
        x = keras.layers.ReLU(name=f"relu_{index}")(x)
    x = keras.layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]), name="sequence")(x)
    return keras.layers.Dropout(0.3, name="dropout_features")(x)
