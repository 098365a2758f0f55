"""How captioners train: batches of captions of like length, what is lost, and words of their own among the given."""

import keras
import numpy as np
from keras import ops

from zoo.recipes.device.beam_search import END, PADDING, START
from zoo.train import EpochBatches

_ROUND = 4  # words: the lengths that batches come in are whole multiples, as each is compiled anew
_POOL = 50  # batches that are ordered by length together


class Batches(EpochBatches):
    """Pictures, or features, with one caption each, in batches of captions of like length.

    Every caption of every picture is seen once an epoch, in an order that is drawn anew, all but those that do not fill
    a batch.

    Args:
        name: str, of the input that takes the pictures.
        pictures: (pictures, ...), read by row.
        rows: the rows of `pictures` that are read.
        captions: for each of them, a list of lists of words as numbers, without start and end.
        batch_size: int.
        seed: int, of the order; None to keep it.
    """

    def __init__(self, name, pictures, rows, captions, batch_size, seed=None):
        super().__init__(seed or 0)
        self.name, self.pictures, self._shuffle = name, pictures, seed is not None
        self._of = np.array([row for row, ones in zip(rows, captions, strict=True) for _ in ones])
        self._captions = [caption for ones in captions for caption in ones]
        self._lengths = np.array([len(caption) for caption in self._captions])
        self.batch_size = min(batch_size, len(self._captions))
        self.begin(0)

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        rows = self._batches[index]
        words, targets = shifted([self._captions[row] for row in rows])
        pictures = np.asarray(self.pictures[self._of[rows]], np.float32)
        return {self.name: pictures, "words": words}, {"logits": targets, "attention": targets}

    def arrange(self, random):
        count, size = len(self._captions), self.batch_size
        if self._shuffle:
            order = random.permutation(count)[: count // size * size]
            for start in range(0, len(order), _POOL * size):
                part = order[start : start + _POOL * size]
                order[start : start + len(part)] = part[np.argsort(self._lengths[part], kind="stable")]
        else:
            order = np.argsort(self._lengths, kind="stable")
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        longest = [self._lengths[batch].max() for batch in batches]
        ends = [int(np.argmin(longest)), int(np.argmax(longest))]  # first: Keras takes the first two for what may vary
        rest = np.setdiff1d(np.arange(len(batches)), ends)
        rest = random.permutation(rest) if self._shuffle else rest
        self._batches = [batches[place] for place in [*dict.fromkeys(ends), *rest]]

    @property
    def padding_share(self):
        held = sum(self._lengths[rows].sum() + len(rows) for rows in self._batches)  # the end is a word too
        return 1 - held / sum(_padded(self._lengths[rows].max()) * len(rows) for rows in self._batches)


def shifted(captions):
    """Return int32 (captions, time) each: start and words, and words and end, with padding to the longest of them."""
    length = _padded(max(map(len, captions)))
    words, targets = np.full((2, len(captions), length), PADDING, np.int32)
    for row, caption in enumerate(captions):
        words[row, : len(caption) + 1] = [START, *caption]
        targets[row, : len(caption) + 1] = [*caption, END]
    return words, targets


def _padded(longest):
    return -(-(longest + 1) // _ROUND) * _ROUND  # words, and one more to begin or to end with


def word_loss(smoothing):
    """Return the loss of logits: the mean over words of -log p(word), of which `smoothing` goes to all words alike.

    loss = (1 - smoothing) * -log p(word) + smoothing * mean over the vocabulary of -log p
    """

    def loss(targets, logits):
        logarithms = ops.log_softmax(logits, axis=-1)
        places = ops.expand_dims(ops.cast(targets, "int32"), -1)
        lost = -(1 - smoothing) * ops.take_along_axis(logarithms, places, axis=-1)[..., 0]
        if smoothing:
            lost = lost - smoothing * ops.mean(logarithms, axis=-1)
        counts = _counts(targets, lost.dtype)
        return ops.sum(lost * counts) / ops.sum(counts)

    return loss


def attention_loss(targets, attention):
    """Return what it costs to look at some places more than at others over a caption: doubly stochastic attention.

    loss = sum over places p of (words / places - sum over words t of attention[t, p]) ** 2, mean over captions

    Xu et al. take 1 for words / places, which attention that sums to 1 a word reaches only of as many places as words.
    """
    counts = _counts(targets, attention.dtype)
    seen = ops.sum(attention * ops.expand_dims(counts, -1), axis=1)
    fair = ops.sum(counts, axis=1, keepdims=True) / attention.shape[-1]
    return ops.mean(ops.sum(ops.square(fair - seen), axis=-1))


def _counts(targets, dtype):
    return ops.cast(ops.not_equal(ops.cast(targets, "int32"), PADDING), dtype)


class OwnWords(keras.layers.Layer):
    """Puts words that a model says itself in the place of some of the given ones, in training (scheduled sampling).

    A first pass over the given words says what the model would have said at each place, a second learns of the mixture:
    both passes are whole sequences.

    Args:
        seed: int.

    Call arguments:
        words: int32 (batch, time), each sequence begins with the start.
        logits: (batch, time, vocabulary), of the word after each.

    Reference:
        S. Bengio et al., "Scheduled sampling for sequence prediction with recurrent neural networks", NeurIPS 2015,
        https://arxiv.org/abs/1506.03099; D. Duckworth et al., "Parallel scheduled sampling", 2019,
        https://arxiv.org/abs/1906.04331
    """

    def __init__(self, seed, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(seed)
        self.rate = self.add_weight(shape=(), initializer="zeros", trainable=False, name="rate")

    def call(self, words, logits, training=False):
        if not training:
            return words
        logits = ops.stop_gradient(logits)
        uniform = keras.random.uniform(ops.shape(logits), 1e-6, 1.0, seed=self.seeds)
        own = ops.cast(ops.argmax(logits - ops.log(-ops.log(uniform)), axis=-1), words.dtype)  # drawn by their chances
        own = ops.concatenate([words[:, :1], own[:, :-1]], axis=1)
        take = keras.random.uniform(ops.shape(words), seed=self.seeds) < self.rate
        return ops.where(ops.logical_and(take, words > START), own, words)


class Ramp(keras.callbacks.Callback):
    """Raises the share of own words evenly from 0 in the first epoch to `rate` in the last."""

    def __init__(self, layer, rate):
        super().__init__()
        self.layer, self.highest = layer, rate

    def on_epoch_begin(self, epoch, logs=None):
        self.layer.rate.assign(self.highest * epoch / max(1, self.params["epochs"] - 1))


class Score(keras.callbacks.Callback):
    """Adds the CIDEr of captions of validation pictures to what each epoch logs, as `val_cider`."""

    def __init__(self, cider):
        super().__init__()
        self.cider = cider

    def on_epoch_end(self, epoch, logs=None):
        logs["val_cider"] = self.cider()
