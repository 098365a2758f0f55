"""Speech recognition: what was said, character by character, from raw audio or given features.

    zoo train speech_recognition --data an4/ --seconds 6.4 --units 192 --dropout 0.45 --epochs 55 --out runs/an4

AN4's test speakers, greedily, mean of three trainings: 4.5% of the characters and 10.1% of the words wrong. Training
took 782 s on 2 shared CPU cores, on JAX. By `python benchmarks/speech_an4.py`, in
docs/results/speech_recognition-an4.json.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.data.transcripts import ENGLISH, load_transcripts
from zoo.errors import SettingError
from zoo.recipes.base import Recipe, on_device, setting
from zoo.recipes.speech_recognition import device

_CELLS = ("lstm", "gru")
_OF_NETWORK = ("cell", "layers", "units", "channels", "dropout", "streaming", "seed")
_SUBSAMPLING = 4  # frames of features for one of the output


@dataclass(frozen=True, kw_only=True)
class SpeechRecognition(Recipe):
    """Write down what is said, by connectionist temporal classification (CTC) over characters.

    Two convolutions bring 100 frames a second to 25, a stack of recurrent layers reads them in both directions, or with
    `streaming` forward only, and each frame gets a probability for every character and for the blank. Training needs no
    alignment: the loss sums over all of them.

        samples (batch, sample_rate seconds) -> probabilities (batch, frames, 1 + characters)

    Data of features (AN4's arrays) make a model of features: (batch, frames, features).

    Example:
        >>> recipe = SpeechRecognition(units=16, layers=1, epochs=1)
        >>> recipe.model().output_shape
        (None, 100, 29)

    Reference:
        Graves et al., "Connectionist temporal classification", 2006, https://doi.org/10.1145/1143844.1143891; Amodei et
        al., "Deep Speech 2", 2015, https://arxiv.org/abs/1512.02595
    """

    name = "speech_recognition"
    masks = "right_padded"  # what the network leaves out is at the end: exported files may have ops of their own for it
    device_files = on_device(device, "settings", "sound")  # what a bundle's runner does around the model

    data: str = setting("demo", "demo (synthetic digits), or a folder: manifest.jsonl or .csv, AN4, LibriSpeech")
    cell: str = setting("lstm", "lstm or gru", choices=_CELLS)
    layers: int = setting(2, "recurrent layers", least=1)
    units: int = setting(160, "width of each direction of a recurrent layer", least=1)
    channels: int = setting(128, "of each convolution", least=1)
    dropout: float = setting(0.4, "share of the recurrent layers' outputs that training drops", least=0.0)
    streaming: bool = setting(False, "look at the past only, so that a file can answer while it listens")
    alphabet: str = setting(ENGLISH, "the characters of the texts, beside the space")
    dictionary: str = setting("", "a pronouncing dictionary (CMU's format), to write phones; empty for characters")
    sample_rate: int = setting(8000, "Hz; recordings are converted; of features it says nothing", above=0)
    seconds: float = setting(4.0, "the longest utterance in seconds, and what an exported file hears", above=0.0)
    epochs: int = setting(30, "passes over the training utterances", least=1)
    batch_size: int = setting(24, "utterances per training step", least=1)
    learning_rate: float = setting(0.003, "the highest of the schedule", above=0.0)
    seed: int = setting(0, "of weights, order, augmentation", least=0)
    skip_bad: bool = setting(False, "leave out unusable utterances, naming them, instead of stopping")

    def __post_init__(self):
        super().__post_init__()
        if self.dropout >= 1:
            raise SettingError(f"dropout is {self.dropout}, expected a share from 0 to below 1.")

    def load(self):
        """Return the utterances, `zoo.data.transcripts.Transcripts`; read once and kept."""
        return self._transcripts

    @cached_property
    def _transcripts(self):
        settings = {name: getattr(self, name) for name in ("sample_rate", "seconds", "alphabet", "skip_bad")}
        step = _SUBSAMPLING / device.FRAMES
        return load_transcripts(self.data, step=step, pronounce=self._pronunciations, **settings)

    @cached_property
    def _pronunciations(self):
        from zoo.data.pronunciations import Pronunciations

        return Pronunciations(self.dictionary) if self.dictionary else None

    @property
    def metric_name(self):
        """What `metric` gives: 1 - the error rate of characters or phones."""
        return "phones right" if self.dictionary else "characters right"

    @property
    def labels(self):
        """What the model's outputs stand for: the blank, which is "", and the space and the alphabet, or the phones."""
        return ("", *self._pronunciations.phones) if self.dictionary else ("", " ", *self.alphabet)

    @property
    def chunk(self):
        """Samples or frames that a file which streams reads at once: a fifth of a second."""
        return device.chunk_length(self._rate)

    @property
    def _rate(self):
        return device.FRAMES if self.load().features else self.sample_rate

    def model(self):
        """Return a fresh, built `keras.Model` from samples (or features) to probabilities, not compiled."""
        import keras

        from zoo.recipes.speech_recognition import networks

        length, features = device.input_length(self._rate, self.seconds), self.load().features
        if features:
            inputs = x = keras.Input((length, features), name="features")
        else:
            inputs = x = keras.Input((length,), name="samples")
            for layer in networks.front_end(self.sample_rate, self.streaming):
                x = layer(x)
        x = keras.layers.Softmax(name="probabilities")(self._network(x))
        return keras.Model(inputs, x, name=self.name)

    def _network(self, features):
        from zoo.recipes.speech_recognition import networks

        return networks.network(
            features,
            len(self.labels),
            padding=networks.silence(self.load().features, self.streaming),
            **{name: getattr(self, name) for name in _OF_NETWORK},
        )

    def train(self, *, callbacks=(), verbose="auto"):
        """Train a fresh model and keep the weights of the epoch with the fewest errors in validation.

        Training reads batches of similar lengths by a network that shares all layers but the front-end's with the
        model. Sets the global seeds, so that the same settings give the same model on the same machine.

        Args:
            callbacks: more Keras callbacks.
            verbose: as `keras.Model.fit` takes it: 0 for silence.

        Returns:
            (model, scores): a `keras.Model`; the test scores of `evaluate`, and `history` by epoch.
        """
        import keras

        from zoo.recipes.speech_recognition import networks, training
        from zoo.train import share, together

        keras.utils.set_random_seed(self.seed)
        batches, validation = self._batches()
        features = keras.Input((None, batches[0][0].shape[-1]), name="features")
        network = keras.Model(features, self._network(features))
        steps = self.epochs * len(batches)
        schedule = keras.optimizers.schedules.CosineDecay(
            self.learning_rate / 10, steps, warmup_target=self.learning_rate, warmup_steps=steps // 10
        )
        network.compile(
            keras.optimizers.Adam(schedule, global_clipnorm=1.0),
            keras.losses.CTC(),  # its lengths are those of the padded batch: padding says the blank, which adds nothing
            jit_compile=keras.backend.backend() == "jax",
        )
        best = keras.callbacks.EarlyStopping(
            "val_error_rate", mode="min", patience=self.epochs, restore_best_weights=True
        )
        errors = training.ErrorRate(validation, self._error_rate, lambda classes: device.spell(classes, self.labels))
        history = network.fit(
            share(batches),
            epochs=self.epochs,
            callbacks=together(batches, errors, best, *callbacks),
            shuffle=False,
            verbose=verbose,
        ).history
        model = self.model()
        networks.copy_weights(network, model)
        return model, self.evaluate(model) | {"history": history}

    def _batches(self):
        """Return the batches of the training and of the validation split."""
        from zoo.data.feature_augment import FeatureAugment
        from zoo.recipes.speech_recognition import networks, training

        given, classes = self.load().features, {label: index for index, label in enumerate(self.labels)}
        front = [] if given else networks.front_end(self.sample_rate, self.streaming)
        extract = training.extractor(front, self.sample_rate, 0.5)
        longest = device.input_length(device.FRAMES, self.seconds)
        lengths = training.bucket_lengths(self._frames("train"), longest)
        made = []
        for split, augment in (("train", FeatureAugment(cepstra=bool(given))), ("validation", None)):
            sounds, texts = self.load().select(split)
            made.append(
                training.Batches(
                    *(extract, sounds, [[classes[one] for one in self._pieces(text)] for text in texts]),
                    lengths=lengths,
                    padding=networks.silence(given, self.streaming),
                    batch_size=self.batch_size,
                    augment=augment,
                    seed=self.seed,
                )
            )
        return made

    def _pieces(self, text):
        """Return the labels of which a text is made."""
        return text.split() if self.dictionary else text

    def _frames(self, split):
        """Return the lengths of a split's utterances in frames of features."""
        return [len(sound) * device.FRAMES / self.load().rate for sound in self.load().select(split)[0]]

    def evaluate(self, model, *, split="test", **search):
        """Return {"cer": ..., "wer": ..., "utterances": ...} of a model on one split, of phones "per" in place of both.

        The error rates are jiwer's: wrong, missing and added characters, words or phones, over those of the texts.

        Args:
            model: as `train` returns it.
            split: "train", "validation" or "test".
            search: as `transcribe` takes it; none for greedy decoding.
        """
        inputs, texts = self.inputs(split)
        heard = self.transcribe(model.predict(inputs, batch_size=32, verbose=0), **search)
        rate, words = self._error_rate(texts, heard), _word_error_rate(texts, heard)
        rates = {"per": rate} if self.dictionary else {"cer": rate, "wer": words}
        return rates | {"utterances": len(texts)}

    def inputs(self, split):
        """Return (inputs, texts) of a split as the model takes them, with silence up to its length."""
        sounds, texts = self.load().select(split)
        inputs = np.zeros(
            (len(sounds), device.input_length(self._rate, self.seconds), *sounds[0].shape[1:]), np.float32
        )
        for row, sound in zip(inputs, sounds, strict=True):
            row[: len(sound)] = sound
        return inputs, texts

    def transcribe(self, outputs, **search):
        """Return the text of each utterance from a model's or a file's outputs, (utterances, frames, labels).

        Args:
            outputs: of the model.
            search: of `ctc_beam.beam_search`, as `language` and `lexicon`; none for greedy decoding.
        """
        if not search:
            return [device.spell(device.collapse(one), self.labels) for one in outputs]
        from zoo.recipes.speech_recognition.ctc_beam import beam_search

        return [" ".join(beam_search(one, self.labels, **search)[0][0].split()) for one in outputs]

    def metric(self, outputs, labels):
        """Return 1 - the error rate of characters or phones, from outputs of a model or file and the right texts."""
        return 1 - self._error_rate(list(labels), self.transcribe(outputs))

    def decode(self, outputs):
        """Return what was said, from one utterance's outputs, (1, frames, labels)."""
        return device.answer({"probabilities": outputs}, {"labels": self.labels})

    def held_out(self, count):
        """Return (inputs, texts) of up to `count` test utterances, which training never saw, spread over the split."""
        inputs, texts = self.inputs("test")
        chosen = np.linspace(0, len(texts) - 1, min(count, len(texts))).round().astype(int)
        return inputs[chosen], [texts[row] for row in chosen]

    def representative(self):
        """Return up to 100 training utterances, spread over the split, for the schemes that calibrate."""
        inputs, _ = self.inputs("train")
        return inputs[np.linspace(0, len(inputs) - 1, min(100, len(inputs))).round().astype(int)]

    def example(self):
        """Return one test utterance as a batch of one, and its text."""
        inputs, texts = self.held_out(1)
        return inputs, texts[0]

    def _error_rate(self, texts, heard):
        import jiwer

        # Phones stand between spaces, as words do.
        return _word_error_rate(texts, heard) if self.dictionary else float(jiwer.cer(texts, heard))


def _word_error_rate(texts, heard):
    import jiwer

    return float(jiwer.wer(texts, heard))
