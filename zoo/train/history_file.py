"""`history.csv`: what each epoch brought, to be read while training goes on."""

import csv
import io
import time

import keras

from zoo.train.batches import JoinedCallback
from zoo.train.files import replace


class HistoryFile(JoinedCallback):
    """Writes a table of all epochs after each: losses, scores, learning rate, seconds, batches a second.

    `EpochBatches` adds the seconds that making batches took, and where it pads, the share of padding.
    The time of an epoch that was interrupted is that of its last part. Pass it to `keras.Model.fit` through
    `zoo.train.together`, before a `Resume`.

    Args:
        path: of the file; written anew, as a whole, after every epoch.
    """

    after_others = True

    def __init__(self, path):
        super().__init__()
        self.path, self._seconds, self._rates, self._input = path, [], [], []

    def get_state(self):
        return {"seconds": self._seconds, "learning_rates": self._rates, "input": self._input}

    def set_state(self, state):
        self._seconds, self._rates, self._input = state["seconds"], state["learning_rates"], state["input"]

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._seconds.append(round(time.perf_counter() - self._start, 3))
        self._rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        batches = self.others[0].batches
        self._input.append([round(batches.input_seconds, 3), batches.padding_share])
        kept = next(one for one in self.others if isinstance(one, keras.callbacks.History))
        columns = {"epoch": [number + 1 for number in kept.epoch]} | kept.history
        columns |= {"learning_rate": self._rates, "seconds": self._seconds}
        if steps := self.params["steps"]:
            columns["batches_per_second"] = [round(steps / max(each, 1e-3), 2) for each in self._seconds]
        columns["input_seconds"], padding = zip(*self._input, strict=True)
        if None not in padding:
            columns["padding_share"] = [round(share, 4) for share in padding]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
        replace(self.path, text.getvalue())
