"""The formulas in NumPy, written from the papers and not from the package."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def peephole_lstm(x, weights, states, mask=None):
    """Gers and Schmidhuber's peephole LSTM over x (batch, time, features): all outputs, the last h, the last c."""
    kernel, recurrent_kernel, bias, peephole = weights
    h, c = states
    outputs = []
    for t in range(x.shape[1]):
        z = x[:, t] @ kernel + h @ recurrent_kernel + bias
        zi, zf, zc, zo = np.split(z, 4, axis=-1)
        i = sigmoid(zi + peephole[0] * c)
        f = sigmoid(zf + peephole[1] * c)
        new_c = f * c + i * np.tanh(zc)
        o = sigmoid(zo + peephole[2] * new_c)
        new_h = o * np.tanh(new_c)
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        h, c = np.where(keep, new_h, h), np.where(keep, new_c, c)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


def indrnn(x, weights, state, activation, mask=None):
    """Li et al.'s IndRNN. x (batch, time, features); weights W b u. All outputs, h."""
    kernel, bias, recurrent = weights
    act = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[activation]
    h, outputs = state, []
    for t in range(x.shape[1]):
        new = act(x[:, t] @ kernel + bias + recurrent * h)
        h = new if mask is None else np.where(mask[:, t, None], new, h)
        outputs.append(h)
    return np.stack(outputs, axis=1), h


def zoneout_lstm(x, weights, states, keep):
    """Krueger et al.'s zoneout LSTM. x (batch, time, features); weights W U b; states h c; all outputs, h, c.

    keep (2, time, batch, units): of h and of c, what part stays; 0 or 1 in training, the rate at inference.
    """
    kernel, recurrent_kernel, bias = weights
    h, c = states
    outputs = []
    for t in range(x.shape[1]):
        zi, zf, zc, zo = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
        new_c = sigmoid(zf) * c + sigmoid(zi) * np.tanh(zc)
        new_h = sigmoid(zo) * np.tanh(new_c)
        h, c = keep[0, t] * h + (1 - keep[0, t]) * new_h, keep[1, t] * c + (1 - keep[1, t]) * new_c
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c
