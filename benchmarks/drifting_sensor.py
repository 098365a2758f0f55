"""A sensor that ages: a network that learns on from its stream, the same one frozen, and adaptive linear filters.

    KERAS_BACKEND=jax python benchmarks/drifting_sensor.py

The data are synthetic, made here. A quantity q, an autoregressive process, is measured by a sensor that lags and
saturates, and whose time constants, gain g and offset o drift after a time of calibration, then stay:

    s[t] = s[t-1] + (q[t] - s[t-1]) / tau[t];    r[t] = g[t] tanh(s[t]) + o[t] + noise

Of two kinds: "even" has one time constant tau; "uneven" falls four times as slowly as it rises, as gas sensors do,
which no linear filter can undo.

Asked is q[t] from the readings r up to t. In the time of calibration q is known throughout; afterwards only at every
tenth step, after the answer to it has been given. All start from the time of calibration: the network by training,
the filters by least squares. Learning rates, the step size and the forgetting factor are those of the lowest error on
a stream of its own for each kind, on which the rest was tried out too; the test streams are scored once. Scored is
every answer after the calibration.
"""

import argparse
import time

import numpy as np
from record import RESULTS, record

CALIBRATED, DRIFTING, AFTER, EVERY = 3000, 6000, 3000, 10  # steps
TAPS, UNITS, HIDDEN, WINDOW, EPOCHS = 12, 16, 16, 100, 400
KINDS = {"even": 1, "uneven": 4}  # how many times as slowly it falls
RATES = (0.0003, 0.001, 0.003)  # of Adam
STEP_SIZES, FORGETTING = (0.03, 0.1, 0.3, 0.6, 1.0), (0.95, 0.97, 0.98, 0.99, 0.995)
VALIDATION_SEED, TEST_SEEDS = 100, (10, 11, 12)
NAMES = {
    "online": "network, learning online",
    "frozen": "the same, frozen",
    "rls": "linear, RLS",
    "nlms": "linear, NLMS",
}


def sensor(seed, kind):
    """Return the readings and the quantity, each (steps,)."""
    random, steps = np.random.default_rng(seed), CALIBRATED + DRIFTING + AFTER
    aged = np.clip((np.arange(steps) - CALIBRATED) / DRIFTING, 0, 1)
    rise, gain, offset = 1.5 + 1.5 * aged, 1 - 0.5 * aged, 0.4 * aged
    shocks, quantity, inner = random.normal(size=steps), np.zeros(steps), np.zeros(steps)
    for t in range(1, steps):
        quantity[t] = 0.9 * quantity[t - 1] + np.sqrt(1 - 0.9**2) * shocks[t]  # of variance 1
        away = quantity[t] - inner[t - 1]
        inner[t] = inner[t - 1] + away / (rise[t] * (KINDS[kind] if away < 0 else 1))
    readings = gain * np.tanh(inner) + offset + 0.01 * random.normal(size=steps)
    return readings.astype("float32"), quantity.astype("float32")


def known(step):
    return (step + 1) % EVERY == 0


def calibrated_network(readings, quantity):
    """Return the cell, the readout and the model of both, trained on the time of calibration."""
    import keras

    from zoo import layers

    keras.utils.set_random_seed(0)
    layer = layers.IndRNN(UNITS, activation="tanh", return_sequences=True)
    readout = keras.Sequential([keras.layers.Dense(HIDDEN, activation="tanh"), keras.layers.Dense(1)])
    model = keras.Sequential([keras.Input((None, 1)), layer, readout])
    model.compile(keras.optimizers.Adam(0.005, global_clipnorm=1.0), "mse")
    x, y = (each[:CALIBRATED].reshape(-1, WINDOW, 1) for each in (readings, quantity))
    model.fit(x, y, batch_size=10, epochs=EPOCHS, verbose=0)
    return layer.cell, readout, model


def online(cell, readout, readings, quantity, rate):
    """Return the answers after the calibration, and the seconds that a step took."""
    import keras

    from zoo.train import OnlineLearner

    learner = OnlineLearner(cell, readout, optimizer=keras.optimizers.Adam(rate, global_clipnorm=1.0))
    learner.predict(readings[CALIBRATED - WINDOW : CALIBRATED, None])
    answers, start = [], time.process_time()
    for first in range(CALIBRATED, len(readings), EVERY):  # the last step of each ten is known
        last = first + EVERY - 1
        answers.append(learner.predict(readings[first:last, None]))
        answers.append(learner.partial_fit(readings[last : last + 1, None], quantity[last : last + 1, None]))
    return np.concatenate(answers)[:, 0], (time.process_time() - start) / (len(readings) - CALIBRATED)


def taps(readings):
    """The last readings and a one, (steps, TAPS + 1)."""
    padded = np.concatenate([np.zeros(TAPS - 1), readings])
    return np.column_stack([np.lib.stride_tricks.sliding_window_view(padded, TAPS), np.ones(len(readings))])


def linear(readings, quantity, *, step_size=None, forgetting=None):
    """Return the answers of a filter that learns by normalised least mean squares, or recursive least squares."""
    rows = taps(readings)
    start = rows[:CALIBRATED]
    weights = np.linalg.lstsq(start, quantity[:CALIBRATED], rcond=None)[0]
    inverse, answers = np.linalg.inv(start.T @ start / CALIBRATED * 200), []
    for t in range(CALIBRATED, len(rows)):
        answers.append(rows[t] @ weights)
        if known(t):
            error = quantity[t] - answers[-1]
            if forgetting is None:
                weights = weights + step_size * error * rows[t] / (1e-6 + rows[t] @ rows[t])
            else:
                gain = inverse @ rows[t] / (forgetting + rows[t] @ inverse @ rows[t])
                weights, inverse = weights + gain * error, (inverse - np.outer(gain, rows[t] @ inverse)) / forgetting
    return np.array(answers)


def rms(answers, quantity):
    return float(np.sqrt(np.mean(np.square(answers - quantity[CALIBRATED:]))))


def chosen(kind):
    """Return the settings with the lowest error on the validation stream, and all that was tried."""
    readings, quantity = sensor(VALIDATION_SEED, kind)
    cell, readout, model = calibrated_network(readings, quantity)
    start, tried = model.get_weights(), {"rate": {}, "step_size": {}, "forgetting": {}}
    for rate in RATES:
        model.set_weights(start)
        tried["rate"][rate] = rms(online(cell, readout, readings, quantity, rate)[0], quantity)
        print("rate", rate, tried["rate"][rate], flush=True)
    for name, values in (("step_size", STEP_SIZES), ("forgetting", FORGETTING)):
        tried[name] = {value: rms(linear(readings, quantity, **{name: value}), quantity) for value in values}
        print(name, tried[name], flush=True)
    return {name: min(found, key=found.get) for name, found in tried.items()}, tried


def run(seed, kind, settings):
    """Return the answers of each on one stream, by name, the quantity, and the seconds of an online step."""
    readings, quantity = sensor(seed, kind)
    cell, readout, model = calibrated_network(readings, quantity)
    answers = {"frozen": model.predict(readings[None, :, None], verbose=0)[0, CALIBRATED:, 0]}
    answers["online"], seconds = online(cell, readout, readings, quantity, settings["rate"])
    for name, key in (("rls", "forgetting"), ("nlms", "step_size")):
        answers[name] = linear(readings, quantity, **{key: settings[key]})
    return answers, quantity, seconds


def draw(answers, quantity):
    """Write docs/pictures/drifting_sensor.svg: the error over time."""
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for name, label in NAMES.items():
        squares = np.square(answers[name] - quantity[CALIBRATED:])
        panel.plot(np.arange(250, len(squares), 500), np.sqrt(squares.reshape(-1, 500).mean(axis=1)), label=label)
    panel.axvline(DRIFTING, color="grey", linewidth=0.8, linestyle=":")
    panel.set(
        xlabel="steps after the calibration; the sensor drifts up to the dotted line", ylabel="error (rms)", ylim=0
    )
    panel.legend()
    path = RESULTS.parent / "pictures" / "drifting_sensor.svg"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validate", action="store_true", help="choose settings only; the test streams stay unseen")
    options = parser.parse_args()
    found = {kind: measured(kind, options.validate) for kind in KINDS}
    if options.validate:
        return
    import keras

    record(
        "drifting_sensor",
        {
            "data": "synthetic, made by the script",
            "backend": keras.backend.backend(),
            "steps": {"calibration": CALIBRATED, "drifting": DRIFTING, "after": AFTER, "reference_every": EVERY},
            "settings": {"units": UNITS, "hidden": HIDDEN, "taps": TAPS, "epochs": EPOCHS},
            "seeds": list(TEST_SEEDS),
            "kinds": found,
        },
    )


def measured(kind, validate):
    """Return the settings chosen for a kind of sensor, and the errors on the test streams unless only validating."""
    settings, tried = chosen(kind)
    print(kind, settings, flush=True)
    if validate:
        return {"settings": settings}
    errors, late, steps = {name: [] for name in NAMES}, {name: [] for name in NAMES}, []
    for seed in TEST_SEEDS:
        answers, quantity, seconds = run(seed, kind, settings)
        steps.append(seconds)
        for name in NAMES:
            errors[name].append(rms(answers[name], quantity))
            late[name].append(float(np.sqrt(np.mean(np.square(answers[name] - quantity[CALIBRATED:])[-AFTER:]))))
        print(kind, seed, {name: (errors[name][-1], late[name][-1]) for name in NAMES}, flush=True)
        if (seed, kind) == (TEST_SEEDS[0], "uneven"):
            print(draw(answers, quantity))
    return {
        "settings": settings,
        "tried_on_validation": tried,
        "rms_after_calibration": {name: {"mean": float(np.mean(each)), "seeds": each} for name, each in errors.items()},
        "rms_after_drift": {name: {"mean": float(np.mean(each)), "seeds": each} for name, each in late.items()},
        "online_ms_a_step": 1000 * float(np.mean(steps)),
    }


if __name__ == "__main__":
    main()
