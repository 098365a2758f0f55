"""Watches training for what goes wrong in recurrent networks, and says what to do."""

import warnings

import keras
import numpy as np

from zoo.errors import ZooWarning
from zoo.train import probes
from zoo.train.batches import JoinedCallback
from zoo.train.files import write_json
from zoo.train.findings import RESOLUTION, SATURATED, Finding, find, limit

_FEW = 3  # norms from which an average is taken, and epochs over which a loss is smoothed
_SHORT = 20  # steps: where there are fewer, no lag is long


class Diagnosis(JoinedCallback):
    """Finds what goes wrong while `keras.Model.fit` runs: `findings`, each with its figure, limit, source and remedy.

    After every batch: a loss or a weight that is NaN or infinite stops training, and the weights become those before
    that batch. Before the first step: features that are not scaled. After epochs 1, 2, 4, 8 ... and the last, from one
    batch: exploding and vanishing gradients, saturated gates (of Keras' cells and the zoo's, and of others that have a
    `recurrent_activation` or call `keras.ops.sigmoid`), dead units. After every epoch: over-fitting, and a validation
    loss that stands still. A kind is found once for each layer. What is measured, `measured`, has the curve of the
    gradient's norm by lag:

        lag curve[k] = mean over the batch of |dLoss / dh[T - k]|

    It changes nothing that training depends on but in the first case. Pass it to `keras.Model.fit` through
    `zoo.train.together`, from which it has the batches. Layers are looked into where the model is functional.

    Args:
        path: a JSON file for what was found and measured, or None.
        look_back: whether the sequences are windows that could be longer, so that one too short can be found.
    """

    def __init__(self, path=None, *, look_back=False):
        super().__init__()
        self.path, self.look_back = path, look_back
        self.findings, self.measured, self._epoch = [], {}, -1
        self._losses, self._norms, self._inputs_seen = {"loss": [], "val_loss": []}, [], False

    def get_state(self):
        return {
            "findings": [one.as_dict() for one in self.findings],
            "measured": self.measured,
            "losses": self._losses,
            "norms": self._norms,
            "inputs_seen": self._inputs_seen,
        }

    def set_state(self, state):
        self.findings = [Finding(**one) for one in state["findings"]]
        self.measured, self._losses, self._norms = state["measured"], state["losses"], state["norms"]
        self._inputs_seen = state["inputs_seen"]

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._keep()
        if self._looks_inside and not self._inputs_seen:
            self._inputs_seen = True
            self._look_at_inputs()

    def on_train_batch_end(self, batch, logs=None):
        if "loss" not in (logs or {}):
            return  # passed over by `Resume`
        if np.isfinite(logs["loss"]) and self._keep():
            return
        self._stop(batch)

    def on_epoch_end(self, epoch, logs=None):
        for name, values in self._losses.items():
            if name in (logs or {}):
                values.append(float(logs[name]))
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if not np.isfinite(self._losses["loss"][-1:]).all():
            return
        if self._looks_inside and (last or (epoch + 1) & epoch == 0):
            self._look_inside()
        self._look_at_curves()
        self._write()

    @property
    def _batches(self):
        return self.others[0].batches

    @property
    def _looks_inside(self):
        return getattr(self.model, "inputs", None) is not None

    def _keep(self):
        """Copy the weights if all are finite; else say so, and keep the copy before."""
        values = self.model.get_weights()
        if not all(probes.is_finite(one) for one in values):
            return False
        self._good = values
        return True

    def _add(self, kind, figure, *, where="", **words):
        if any((one.kind, one.where) == (kind, where) for one in self.findings):
            return
        found = find(kind, figure, where=where, epoch=self._epoch + 1, **words)
        self.findings.append(found)
        warnings.warn(str(found), ZooWarning, stacklevel=2)
        self._write()

    def _stop(self, batch):
        self.model.stop_training = True
        self.model.set_weights(self._good)
        where, cause, remedy = self._cause(batch)
        self._add("not_finite", batch + 1, where=where, cause=cause, remedy=remedy)

    def _cause(self, batch):
        """Return (where, why, what to do) of a loss or weights that are not finite, from the weights before."""
        if not self._looks_inside:
            return "the loss", "the model is no functional one, which could be looked into", "lower the learning rate"
        x, y = self._batches[batch][:2]
        layer = probes.first_not_finite(self.model, x)
        if layer and not all(probes.is_finite(one) for one in keras.tree.flatten(x)):
            return f"the output of {layer}", "the inputs hold NaN or infinite numbers", "leave out or fill in such rows"
        if layer:
            return f"the output of {layer}", "its weights are too large for finite inputs", "lower the learning rate"
        if not all(probes.is_finite(one) for one in keras.tree.flatten(y)):
            return "the loss", "the targets hold NaN or infinite numbers", "leave out or fill in such rows"
        norms = probes.measure(self.model, x, y)["gradients"]
        worst = max(norms, key=lambda name: norms[name] if np.isfinite(norms[name]) else np.inf)
        if np.isfinite(norms[worst]):
            why = f"the step before was too long, the gradient is now largest in {worst}, {norms[worst]:.3g}"
            return "the loss", why, "lower the learning rate, or clip by global norm"
        return f"the gradient of {worst}", "the loss or a layer has an infinite slope there", "look at its formula"

    def _look_at_inputs(self):
        found = probes.sizes_at_the_first_weights(self.model, self._batches[0][0])
        if found is not None:
            layer, sizes = found
            if sizes.max() > limit("unscaled"):
                self._add("unscaled", sizes.max(), where=layer)

    def _look_inside(self):
        seen = probes.measure(self.model, *self._batches[0][:2])
        norm = float(np.sqrt(sum(each**2 for each in seen["gradients"].values())))
        lags = {path: curve.tolist() for path, curve in seen["lags"].items()}
        self.measured[str(self._epoch + 1)] = {"gradients": seen["gradients"], "lags": lags}
        if len(self._norms) >= _FEW and norm > limit("exploding") * np.mean(self._norms):
            self._add("exploding", norm / np.mean(self._norms), where="all layers, since the epochs before")
        self._norms.append(norm)
        for path, curve in seen["lags"].items():
            self._look_at_lags(path, curve)
        for path, gates in seen["gates"].items():
            low, high = SATURATED
            shares = [np.mean((gate < low) | (gate > high)) for gate in gates]
            if shares and max(shares) > limit("saturated"):
                self._add("saturated", max(shares), where=path)
        for path, outputs in seen["outputs"].items():
            dead = np.mean(np.ptp(outputs, axis=(0, 1)) == 0)
            if dead > limit("dead"):
                self._add("dead", dead, where=path)

    def _look_at_lags(self, path, curve):
        if len(curve) < _SHORT or not curve.max() > 0:
            return
        reach = (np.flatnonzero(curve > RESOLUTION * curve.max()).max() + 1) / len(curve)
        if reach < limit("vanishing"):
            self._add("vanishing", reach, where=path)
        tenth = len(curve) // 10
        growth = curve[-tenth:].mean() / max(curve[:tenth].mean(), np.finfo(float).tiny)
        if growth > limit("exploding"):
            self._add("exploding", growth, where=path)
        elif self.look_back and growth > limit("short_look_back"):
            self._add("short_look_back", growth, where=path)

    def _look_at_curves(self):
        training, validation = (np.array(self._losses[name]) for name in ("loss", "val_loss"))
        if len(validation) < 2 * _FEW or validation.min() <= 0:
            return
        smooth = np.convolve(validation, np.ones(_FEW) / _FEW, "valid")
        rise = 100 * (smooth[-1] / smooth.min() - 1)
        if rise > limit("overfitting") and training[-1] < training[smooth.argmin()]:
            self._add("overfitting", rise)
            return
        since = len(validation) - 1 - int(np.argmin(validation))
        patience = max(limit("stalled"), self.params["epochs"] / 3)
        if since >= patience and not any(one.kind == "overfitting" for one in self.findings):
            self._add("stalled", since, limit=patience)

    def _write(self):
        if self.path is not None:
            found = {"findings": [one.as_dict() for one in self.findings], "measured": self.measured}
            write_json(self.path, found)
