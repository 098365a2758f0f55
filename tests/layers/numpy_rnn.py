"""The formulas in NumPy, written from the papers and not from the package."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def peephole_lstm(x, weights, states, mask=None):
    """Gers and Schmidhuber's peephole LSTM over x (batch, time, features): all outputs, the last h, the last c.

    weights W U b p, with a fifth for Sak et al.'s projection; two rows of p, not three, are Greff et al.'s i = 1 - f.
    """
    kernel, recurrent_kernel, bias, peephole, *projection = weights
    h, c = states
    outputs = []
    for t in range(x.shape[1]):
        z = x[:, t] @ kernel + h @ recurrent_kernel + bias
        if len(peephole) == 2:
            zf, zc, zo = np.split(z, 3, axis=-1)
            f = sigmoid(zf + peephole[0] * c)
            i, p_o = 1 - f, peephole[1]
        else:
            zi, zf, zc, zo = np.split(z, 4, axis=-1)
            i = sigmoid(zi + peephole[0] * c)
            f, p_o = sigmoid(zf + peephole[1] * c), peephole[2]
        new_c = f * c + i * np.tanh(zc)
        new_h = sigmoid(zo + p_o * new_c) * np.tanh(new_c)
        if projection:
            new_h = new_h @ projection[0]
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


def lif(x, kernel, bias, recurrent_kernel, spikes, voltage, *, time_constant, time_step, threshold, slope=None):
    """Leaky integrate-and-fire neurons by forward Euler: voltages before the reset, spikes, each (batch, time, units).

    tau dv/dt = -v + R I with R = tau / dt; above the threshold a spike, and the voltage is zero.
    """
    all_raised, all_spikes = [], []
    for t in range(x.shape[1]):
        current = x[:, t] @ kernel + bias + spikes @ recurrent_kernel
        resistance = time_constant / time_step
        raised = voltage + time_step * (resistance * current - voltage) / time_constant
        spikes = (raised > threshold).astype(x.dtype)
        voltage = np.where(spikes > 0, 0, raised)
        all_raised.append(raised)
        all_spikes.append(spikes)
    return np.stack(all_raised, axis=1), np.stack(all_spikes, axis=1)


def lif_gradients(x, kernel, bias, recurrent_kernel, d_spikes, *, time_constant, time_step, threshold, slope):
    """Gradients of sum(spikes * d_spikes) to x, kernel, bias, recurrent_kernel, from zero states, by the chain rule.

    The derivative of a spike is SuperSpike's, 1 / (1 + slope |u - threshold|)^2; of the reset, that of a fixed choice.
    """
    zeros = np.zeros((len(x), kernel.shape[1]))
    settings = {"time_constant": time_constant, "time_step": time_step, "threshold": threshold}
    raised, spikes = lif(x, kernel, bias, recurrent_kernel, zeros, zeros, **settings)
    d_x, d_kernel, d_bias, d_recurrent = [np.zeros_like(a) for a in (x, kernel, bias, recurrent_kernel)]
    d_next = zeros  # to the voltage before the reset, one step later
    for t in reversed(range(x.shape[1])):
        d_spike = d_spikes[:, t] + d_next @ recurrent_kernel.T
        d_voltage = (1 - time_step / time_constant) * d_next
        d_raised = d_spike / (1 + slope * np.abs(raised[:, t] - threshold)) ** 2 + d_voltage * (1 - spikes[:, t])
        d_x[:, t] = d_raised @ kernel.T
        d_kernel += x[:, t].T @ d_raised
        d_bias += d_raised.sum(axis=0)
        d_recurrent += (spikes[:, t - 1] if t else zeros).T @ d_raised
        d_next = d_raised
    return d_x, d_kernel, d_bias, d_recurrent


def lstm_step(x, h, c, weights):
    """One step of the LSTM without peepholes: h, c."""
    kernel, recurrent_kernel, bias = weights
    zi, zf, zc, zo = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
    c = sigmoid(zf) * c + sigmoid(zi) * np.tanh(zc)
    return sigmoid(zo) * np.tanh(c), c


def weigh(scores, memory, mask):
    """Softmax of each row's scores (memory steps,) over its steps that count, and the mean of the memory by it."""
    attention = np.zeros_like(scores)
    for row, score in enumerate(scores):
        kept = np.arange(len(score)) if mask is None else np.flatnonzero(mask[row])
        if len(kept):
            parts = np.exp(score[kept] - score[kept].max())
            attention[row, kept] = parts / parts.sum()
    return attention, np.einsum("bs,bsf->bf", attention, memory)


def bahdanau(x, memory, mask, own, lstm):
    """Bahdanau et al.'s attention around an LSTM: all outputs, h, c, all attention."""
    h = c = np.zeros((len(x), lstm[1].shape[0]))
    outputs, looked = [], []
    for t in range(x.shape[1]):
        query = h @ own["query_kernel"] + own["bias"]
        query += x[:, t] @ own["input_kernel"] if "input_kernel" in own else 0
        hidden = np.tanh(memory @ own["key_kernel"] + query[:, None])
        attention, context = weigh((hidden @ own["score_kernel"])[..., 0], memory, mask)
        h, c = lstm_step(np.concatenate([x[:, t], context], axis=-1), h, c, lstm)
        outputs.append(h)
        looked.append(attention)
    return np.stack(outputs, axis=1), h, c, np.stack(looked, axis=1)


def luong(x, memory, mask, own, lstm):
    """Luong et al.'s general attention with input feeding around an LSTM: all outputs, h, c, output, all attention."""
    h = c = np.zeros((len(x), lstm[1].shape[0]))
    fed = np.zeros((len(x), own["output_kernel"].shape[1]))
    outputs, looked = [], []
    for t in range(x.shape[1]):
        h, c = lstm_step(np.concatenate([x[:, t], fed], axis=-1), h, c, lstm)
        attention, context = weigh(np.einsum("bsf,fu,bu->bs", memory, own["key_kernel"], h), memory, mask)
        fed = np.tanh(np.concatenate([context, h], axis=-1) @ own["output_kernel"])
        outputs.append(fed)
        looked.append(attention)
    return np.stack(outputs, axis=1), h, c, fed, np.stack(looked, axis=1)
