"""Long sequences cut into windows that follow one another."""

import keras
import numpy as np

from zoo.errors import DataError

_BLOCK = 4096  # steps that are looked at together, so that a memory map is never read whole


class Windows(keras.utils.PyDataset):
    """Batches of windows: row s of batch w + 1 goes on where row s of batch w ended.

    Each row is a stream that works through its share of the sequences, one after the other; the next one goes to the
    stream that would be free first. A window never holds parts of two sequences: the rest of the last window of each
    is padding, and so is every window of a stream that has run out of sequences.

    A batch is ({"x": (streams, steps, ...), "starts": bool (streams,), "mask": bool (streams, steps)}, y, weights), x
    alone without `y` and without weights if there are none. `starts` is True where a sequence begins; the mask, True
    at steps that count, is left out where all of them do.

    Args:
        x: list of arrays (time, ...), one for each sequence, or an array (sequences, time, ...).
        y: targets of every step, likewise; None to predict.
        sample_weight: weights of every step, each (time,), likewise, or None.
        steps: int, length of a window.
        streams: int, rows of a batch.

    Raises:
        DataError: no sequences, one without steps, lengths or shapes that do not fit, NaN or infinity.
    """

    def __init__(self, x, y=None, sample_weight=None, *, steps, streams):
        super().__init__()
        self.arrays = {"x": as_sequences(x, "x")}
        for name, given in (("y", y), ("sample_weight", sample_weight)):
            if given is not None:
                self.arrays[name] = _matching(as_sequences(given, name), self.arrays["x"], name)
        if any(each.ndim != 1 for each in self.arrays.get("sample_weight", ())):
            raise DataError("sample_weight has more than one number for a step; expected the shape (time,) of each")
        self.steps, self.streams = steps, streams
        self.lengths = [len(each) for each in self.arrays["x"]]
        self._queues = [[] for _ in range(streams)]  # of each stream, its sequences in their order
        self._ends = [[] for _ in range(streams)]  # and the window after the last of each
        for sequence, length in enumerate(self.lengths):
            stream = min(range(streams), key=lambda s: self._ends[s][-1] if self._ends[s] else 0)
            before = self._ends[stream][-1] if self._ends[stream] else 0
            self._queues[stream].append(sequence)
            self._ends[stream].append(before + -(-length // steps))
        self._count = max(ends[-1] for ends in self._ends if ends)
        self.padded = sum(self.lengths) < self._count * streams * steps

    def __len__(self):
        return self._count

    def place(self, window, stream):
        """Return (number of the sequence, first step) of a window, or None where the stream has run out of them."""
        turn = int(np.searchsorted(self._ends[stream], window, side="right"))
        if turn == len(self._queues[stream]):
            return None
        before = self._ends[stream][turn - 1] if turn else 0
        return self._queues[stream][turn], (window - before) * self.steps

    def __getitem__(self, window):
        places = [self.place(window, stream) for stream in range(self.streams)]
        parts = {name: self._cut(arrays, places) for name, arrays in self.arrays.items()}
        inputs = {"x": parts.pop("x"), "starts": np.array([at is None or at[1] == 0 for at in places])}
        if self.padded:
            left = np.array([0 if at is None else self.lengths[at[0]] - at[1] for at in places])
            inputs["mask"] = np.arange(self.steps) < left[:, None]
        return (inputs, *parts.values())

    def _cut(self, arrays, places):
        batch = np.zeros((self.streams, self.steps, *arrays[0].shape[1:]), _batch_dtype(arrays[0].dtype))
        for row, at in zip(batch, places, strict=True):
            if at is not None:
                part = arrays[at[0]][at[1] : at[1] + self.steps]
                row[: len(part)] = part
        return batch

    def join(self, batches):
        """Return the list of whole sequences from an array of all batches, (windows x streams, steps, ...)."""
        joined = [np.empty((length, *batches.shape[2:]), batches.dtype) for length in self.lengths]
        for number, part in enumerate(batches):
            at = self.place(*divmod(number, self.streams))
            if at is not None:
                whole = joined[at[0]][at[1] : at[1] + self.steps]
                whole[:] = part[: len(whole)]
        return joined


def as_sequences(given, name):
    """Return `given` as a list of arrays of numbers (time, ...), all finite, alike but for their length."""
    try:
        arrays = [np.asanyarray(each) for each in given]
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is not made of arrays ({error}); expected a list of arrays (time, ...)") from error
    if not arrays:
        raise DataError(f"{name} is empty; expected at least one sequence")
    for i, each in enumerate(arrays):
        if each.dtype.kind not in "biuf" or each.ndim == 0 or len(each) == 0:
            raise DataError(
                f"{name}[{i}] has the shape {each.shape} and dtype {each.dtype}; expected numbers (time, ...) of at "
                "least one step; sequences of unlike length come as a list of arrays"
            )
        if each.shape[1:] != arrays[0].shape[1:]:
            raise DataError(
                f"{name}[{i}] has steps of shape {each.shape[1:]}, {name}[0] of {arrays[0].shape[1:]}; expected "
                "the same"
            )
        _check_finite(each, f"{name}[{i}]")
    return arrays


def _matching(arrays, of, name):
    if len(arrays) != len(of):
        raise DataError(f"{name} has {len(arrays)} sequences and x {len(of)}; expected one for each")
    for i, (one, other) in enumerate(zip(arrays, of, strict=True)):
        if len(one) != len(other):
            raise DataError(
                f"{name}[{i}] has {len(one)} steps and x[{i}] {len(other)}; expected a value for every step"
            )
    return arrays


def _check_finite(array, name):
    if array.dtype.kind != "f":
        return
    for start in range(0, len(array), _BLOCK):
        block = array[start : start + _BLOCK]
        fine = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        if not fine.all():
            step = start + int(np.argmin(fine))
            raise DataError(f"{name} has a NaN or infinity at step {step}; expected finite numbers: fill or cut it")


def _batch_dtype(dtype):
    return np.dtype(keras.backend.floatx()) if dtype.kind == "f" else dtype
