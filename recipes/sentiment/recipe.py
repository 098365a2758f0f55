"""Sentiment: which of a few opinions a text holds, from its words.

    zoo train sentiment --data reviews.csv --out runs/reviews

SST-2, sentences alone and no vectors from elsewhere, the mean of three seeds: 82.5% (naive Bayes: 82.2%). Training took
147 s on 2 shared CPU cores. By `python benchmarks/sentiment_sst2.py`, in docs/results/sentiment-sst2.json. Published:
84.9% by an LSTM that has vectors from elsewhere and learns from the treebank's phrases too (Tai et al., 2015).
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.data.texts import load_texts
from zoo.errors import DataError, SettingError
from zoo.recipes.base import Recipe, on_device, places, setting
from zoo.recipes.sentiment import device

_FROM_TEXTS = "texts"
_BATCH = 256  # texts that are read at once outside training
_SPREAD = 0.1  # standard deviation of the embeddings at the start
_PRIOR = 0.3  # of the log odds, so that they outweigh the rest of an embedding, and no gate is saturated


@dataclass(frozen=True, kw_only=True)
class Sentiment(Recipe):
    """Tell the opinion of a text: token ids in, probabilities of labels out.

    Words are embedded, read in both directions by a recurrent layer, and pooled by attention or by the maximum. Few
    labelled texts teach little about words, so the embeddings may start with what can be known before: vectors from a
    file, or learnt of the company that words keep in the training texts, and how much each word speaks for each label.
    Words are dropped whole in training. Batches hold texts of like length.

        tokens (batch, length) -> probabilities (batch, labels)

    Example:
        >>> recipe = Sentiment(cell="gru", length=24)
        >>> recipe.model().output_shape
        (None, 2)

    Reference:
        Z. Yang et al., "Hierarchical attention networks for document classification", NAACL 2016,
        https://aclanthology.org/N16-1174; S. Wang, C. Manning, "Baselines and bigrams", ACL 2012,
        https://aclanthology.org/P12-2018
    """

    name = "sentiment"
    metric_name = "accuracy"
    masks = "right_padded"  # texts are padded at their end: an exported file may count on it
    device_files = on_device(device, "labels")  # what a bundle's runner does around the model

    data: str = setting("demo", "demo (synthetic), imdb, a folder of train and test, or a .csv, .tsv or .jsonl")
    text_column: str = setting("", "name of the column of texts; empty to recognise it")
    label_column: str = setting("", "name of the column of labels; empty to recognise it")
    vocabulary: str = setting("words", "words, or pieces of them (WordPiece)", choices=("words", "pieces"))
    vocabulary_size: int = setting(20000, "the most frequent tokens that are kept; 0 for all", least=0)
    length: int = setting(64, "tokens of a text that are read", above=0)
    keep: str = setting("start", "which end of a longer text is read", choices=("start", "end"))
    vectors: str = setting("", "file of GloVe or fastText; texts to learn them of the training texts; empty for random")
    prior: bool = setting(False, "start embeddings with how much each word speaks for each label")
    embedding: int = setting(64, "width of the embeddings; that of the file, where vectors names one", above=0)
    cell: str = setting("lstm", "recurrent cell", choices=("lstm", "gru", "indrnn"))
    units: int = setting(32, "width of the recurrent layer in each direction", above=0)
    pooling: str = setting("attention", "of steps to one vector", choices=("attention", "max"))
    word_dropout: float = setting(0.1, "share of words that go unread in training, under 1", least=0.0)
    dropout: float = setting(0.3, "share of embeddings and features set to zero in training, under 1", least=0.0)
    balance: bool = setting(False, "weigh texts so that all labels count alike")
    epochs: int = setting(15, "passes over the training texts", least=1)
    batch_size: int = setting(32, "texts per training step", least=1)
    learning_rate: float = setting(0.005, "the highest of the schedule", above=0.0)
    seed: int = setting(0, "of weights, order, dropout", least=0)
    skip_bad: bool = setting(
        False, "leave out rows that cannot be used, listing them in the scores, instead of stopping"
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("word_dropout", "dropout"):
            if getattr(self, name) >= 1:
                raise SettingError(f"Sentiment: {name} is {getattr(self, name)}, expected a share under 1.")
        if self.length > device.LONGEST:
            raise SettingError(f"Sentiment: length is {self.length}, expected at most {device.LONGEST}.")

    def load(self):
        """Return the texts, `zoo.data.texts.Texts`; read once and kept."""
        return self._texts

    @cached_property
    def _texts(self):
        columns = {"text_column": self.text_column, "label_column": self.label_column}
        return load_texts(self.data, skip_bad=self.skip_bad, **columns)

    @property
    def labels(self):
        """The labels, in the order of the model's outputs."""
        return self.load().label_names

    @cached_property
    def words(self):
        """The `device.Vocabulary` of the training texts."""
        return device.Vocabulary(self._learnt)

    @cached_property
    def _learnt(self):
        from zoo.data.vocabulary import learn_vocabulary

        return learn_vocabulary(
            self.load().select("train")[0],
            kind=self.vocabulary,
            size=self.vocabulary_size,
            pattern=device.PATTERN,
            special=(device.PADDING, device.UNKNOWN),
            continues=device.CONTINUES,
            longest=device.LONGEST_WORD,
        )

    def encode(self, texts, words=None):
        """Return int32 (texts, length): what the model reads of some texts.

        Args:
            texts: list of str.
            words: the vocabulary of another model (default: that of the training texts).
        """
        words = words or self.words
        rows = [device.fit(words.encode(text), self.length, self.keep) for text in texts]
        return np.array(rows, np.int32).reshape(len(rows), self.length)

    def model(self):
        """Return a fresh, built `keras.Model` from token ids to probabilities, not compiled."""
        return self._network(self.length)

    def _network(self, length):
        import keras

        from zoo.layers import Annotation, AttentionPooling, IndRNN, MaxPooling, WordDropout

        start = self._start
        tokens = keras.Input((length,), dtype="int32", name="tokens")
        x = Annotation(json.dumps([self.labels, self._learnt.decode()]), name="vocabulary")(tokens)
        x = WordDropout(self.word_dropout, seed=self.seed, name="word_dropout")(x)
        x = keras.layers.Embedding(*start.shape, _starting_at(start), mask_zero=True, name="embedding")(x)
        x = keras.layers.Dropout(self.dropout, seed=self.seed + 1, name="dropout_embedding")(x)
        if self.cell == "indrnn":
            recurrent = IndRNN(self.units, steps=self.length, return_sequences=True)
        else:
            kind = keras.layers.LSTM if self.cell == "lstm" else keras.layers.GRU
            recurrent = kind(self.units, return_sequences=True)
        x = keras.layers.Bidirectional(recurrent, name="recurrent")(x)
        x = keras.layers.Dropout(self.dropout, seed=self.seed + 2, name="dropout_features")(x)
        pooling = (
            AttentionPooling(self.units, name="pooling") if self.pooling == "attention" else MaxPooling(name="pooling")
        )
        x = keras.layers.Dropout(self.dropout, seed=self.seed + 3, name="dropout_pooled")(pooling(x))
        x = keras.layers.Dense(len(self.labels), activation="softmax", name="probabilities")(x)
        return keras.Model(tokens, x, name="sentiment")

    @cached_property
    def _start(self):
        """What the embeddings start from, float32 (tokens, width)."""
        from zoo.data import word_vectors

        tokens = self.words.tokens
        random = np.random.default_rng(self.seed)
        vectors = random.normal(size=(len(tokens), self.embedding))
        if self.vectors == _FROM_TEXTS:
            vectors = word_vectors.learn_vectors(self._training[0], len(tokens), self.embedding)
        elif self.vectors:
            read, found = word_vectors.read_vectors(self.vectors, tokens)
            vectors = random.normal(size=read.shape)
            vectors[found] = read[found] / read[found].std()
        vectors = _SPREAD * vectors
        if self.prior:
            odds = word_vectors.log_odds(*self._training, len(tokens), len(self.labels))
            odds = odds[:, 1:] if len(self.labels) == 2 else odds  # of two labels each says what the other does
            vectors = np.concatenate([_PRIOR * odds, vectors], axis=1)
        return vectors.astype(np.float32)

    @property
    def _training(self):
        """(ids, labels) of the training texts, whole."""
        texts, labels = self.load().select("train")
        return [self.words.encode(text) for text in texts], labels

    def train(self, *, callbacks=(), verbose="auto"):
        """Train a fresh model and keep the weights of the epoch with the lowest validation loss.

        Sets the global seeds, so that the same settings give the same model on the same machine.

        Args:
            callbacks: more Keras callbacks.
            verbose: as `keras.Model.fit` takes it: 0 for silence.

        Returns:
            (model, scores): a compiled `keras.Model`; the test scores of `evaluate`, `skipped` rows with the reasons,
            and `history` by epoch.
        """
        import keras

        from zoo.recipes.sentiment.training import Batches
        from zoo.train import share, together

        keras.utils.set_random_seed(self.seed)
        classes = np.eye(len(self.labels), dtype=np.float32)
        texts, labels = self.load().select("train")
        batches = Batches(self.encode(texts), classes[labels], self.batch_size, self.seed)
        steps = self.epochs * len(batches)
        network, model = self._network(None), self._network(self.length)  # of any length, to train on batches of each
        network.compile(
            keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(
                    self.learning_rate / 10, steps, warmup_target=self.learning_rate, warmup_steps=steps // 10
                ),
                global_clipnorm=1.0,
            ),
            "categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=keras.backend.backend() == "jax",  # elsewhere it compiles anew for each shape
        )
        weights = len(labels) / (len(classes) * np.bincount(labels)) if self.balance else np.ones(len(classes))
        validation, expected = self.load().select("validation")
        history = network.fit(
            share(batches),
            epochs=self.epochs,
            class_weight=dict(enumerate(map(float, weights))),
            validation_data=(self.encode(validation), classes[expected]),
            validation_batch_size=_BATCH,
            callbacks=together(
                batches,
                keras.callbacks.EarlyStopping("val_loss", patience=self.epochs, restore_best_weights=True),
                *callbacks,
            ),
            shuffle=False,
            verbose=verbose,
        ).history
        model.set_weights(network.get_weights())
        model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
        skipped = [list(each) for each in self.load().skipped]
        return model, self.evaluate(model) | {"skipped": skipped, "history": history}

    def evaluate(self, model, *, split="test"):
        """Return the scores of a model on one split, read with the vocabulary that the model was trained with.

        Returns:
            dict of accuracy; macro_f1, the mean of the labels' F1; texts and, of these, cut, longer than `length`; by
            label its precision, recall, F1 and texts; confusion, a row for each true label.

        Raises:
            DataError: the data has a label that the model does not know.
        """
        from sklearn import metrics

        known, words = _carried(model)
        texts, labels = self.load().select(split)
        labels = places(self.labels, known, self.data)[labels]
        answers = model.predict(self.encode(texts, words), batch_size=_BATCH, verbose=0).argmax(axis=-1)
        outputs = np.arange(len(known))
        by_label = metrics.precision_recall_fscore_support(labels, answers, labels=outputs, zero_division=0.0)
        return {
            "accuracy": float(metrics.accuracy_score(labels, answers)),
            "macro_f1": float(np.mean(by_label[2])),
            "texts": len(texts),
            "cut": sum(len(words.encode(text)) > self.length for text in texts),
            "labels": {
                name: dict(zip(("precision", "recall", "f1", "texts"), values, strict=True))
                for name, values in zip(known, np.transpose(by_label).tolist(), strict=True)
            },
            "confusion": metrics.confusion_matrix(labels, answers, labels=outputs).tolist(),
        }

    def metric(self, outputs, labels):
        """Return the fraction of texts whose likeliest label is right, from a model's or an exported file's outputs."""
        return float(np.mean(np.argmax(outputs, axis=-1) == np.asarray(labels)))

    def decode(self, outputs):
        """Return [(label, probability)], the likeliest first, of one text's outputs."""
        return device.answer({"probabilities": outputs}, {"labels": self.labels})

    def held_out(self, count):
        """Return (tokens, labels) of up to `count` test texts, which training never saw, spread over the split."""
        texts, labels = self.load().select("test")
        chosen = np.linspace(0, len(labels) - 1, min(count, len(labels))).round().astype(int)
        return self.encode([texts[place] for place in chosen]), labels[chosen]

    def representative(self):
        """Return up to 200 training texts as tokens, spread over the split, for the schemes that calibrate."""
        texts, _ = self.load().select("train")
        return self.encode([texts[i] for i in np.linspace(0, len(texts) - 1, min(200, len(texts))).round().astype(int)])

    def example(self):
        """Return one test text as a batch of one, and its label."""
        tokens, labels = self.held_out(1)
        return tokens, self.labels[labels[0]]

    def assets(self, model):
        """Return {file name: bytes} of what a device needs beside the model: the vocabulary.

        Raises:
            DataError: the model was trained with another vocabulary than that of the data as it is now.
        """
        labels, words = _carried(model)
        if (words.tokens, labels) != (self.words.tokens, list(self.labels)):
            raise DataError(f"{self.data}: the model was trained on other texts than are there now: train again.")
        return {device.VOCABULARY: self._learnt}


def _carried(model):
    """Return (labels, `device.Vocabulary`) that a model carries since it was trained."""
    labels, vocabulary = json.loads(model.get_layer("vocabulary").content)
    return labels, device.Vocabulary(vocabulary.encode())


def _starting_at(values):
    """Return an initializer of Keras that gives `values`; a saved model holds the trained ones in their place."""
    import keras

    return keras.initializers.Constant(values)
