"""Echo state network against reservoirpy: time to fit and predict, and the error, on Mackey-Glass.

    pip install reservoirpy
    KERAS_BACKEND=tensorflow python benchmarks/echo_state.py

The series (below) has 10,000 steps; the first half is fitted, the second predicted, each value 10 steps ahead. Both
have a reservoir of 1,000 units with the same settings and as many connections, and draw their own weights for each
seed: our input weights are uniform, theirs two valued; in ours neighbours hear the same units, in theirs each any. They
take turns in one process with as many threads open to both. The time is that of fitting and predicting once the
reservoir is made and, for us, compiled, which happens once for each length of a series; the error is the root mean
squared error over the standard deviation. The ratio is that of the medians over all seeds and turns.
"""

import importlib.metadata
import statistics
import time

import numpy as np
from record import record

STEPS, AHEAD, WASHOUT, SEEDS, TURNS = 10_000, 10, 100, 5, 3
UNITS, RADIUS, LEAK, BIAS, RIDGE = 1000, 0.95, 0.3, 1.0, 1e-6
CONNECTIVITIES = 0.01, 0.1  # ten connections a unit, as the practical guides advise; reservoirpy's default


def mackey_glass(steps, tau=17.0, dt=0.1, every=10, discard=1000):
    """The series x'(t) = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t), one value each `every` * `dt`.

    Classical Runge-Kutta steps from x = 1.2; the delayed value between two steps is the mean of theirs. The first
    `discard` values are left out.
    """
    delay, total = round(tau / dt), (steps + discard) * every
    x = np.full(delay + total + 1, 1.2)

    def slope(value, delayed):
        return 0.2 * delayed / (1 + delayed**10) - 0.1 * value

    for n in range(delay, delay + total):
        now, before, after = x[n], x[n - delay], x[n - delay + 1]
        between = (before + after) / 2
        k1 = slope(now, before)
        k2 = slope(now + dt / 2 * k1, between)
        k3 = slope(now + dt / 2 * k2, between)
        k4 = slope(now + dt * k3, after)
        x[n + 1] = now + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x[delay + 1 :][discard * every :: every]


def ours(connectivity, seed):
    """Return fit and predict, both of a (time, 1) array, the second going on where the first ended."""
    import keras

    from zoo.layers import EchoState, RidgeReadout

    inputs, start = keras.Input((None, 1), batch_size=1), keras.Input((UNITS,), batch_size=1)
    layer = EchoState(
        UNITS, RADIUS, connectivity, LEAK, bias_scaling=BIAS, seed=seed, return_sequences=True, return_state=True
    )
    reservoir = keras.Model([inputs, start], layer(inputs, initial_state=[start]))
    reservoir.compile(jit_compile=True)
    state, readout = [], []

    def run(x, start):
        features, *state[:] = reservoir.predict_on_batch([x[None].astype("float32"), start])
        return features

    def fit(x, y):
        ridge = RidgeReadout(ridges=[RIDGE], washout=WASHOUT)
        ridge.add(run(x, np.zeros((1, UNITS), "float32")), y[None])
        readout[:] = [ridge.solve()]

    def predict(x):
        return keras.ops.convert_to_numpy(readout[0](run(x, state[0])))[0]

    return fit, predict


def reservoirpy(connectivity, seed):
    from reservoirpy.nodes import Reservoir, Ridge

    reservoir = Reservoir(
        units=UNITS,
        sr=RADIUS,
        lr=LEAK,
        rc_connectivity=connectivity,
        input_connectivity=1.0,  # and biases of +-1, its default
        seed=seed,
    )
    model = reservoir >> Ridge(ridge=RIDGE)
    return (lambda x, y: model.fit(x, y, warmup=WASHOUT)), model.run


def measure(contender, x, y):
    fit, predict = contender
    half = STEPS // 2
    start = time.perf_counter()
    fit(x[:half], y[:half])
    fitted = time.perf_counter()
    predicted = predict(x[half:])
    end = time.perf_counter()
    error = np.sqrt(np.square(predicted - y[half:]).mean()) / y.std()
    return {"fit_s": fitted - start, "predict_s": end - fitted, "total_s": end - start, "error": float(error)}


def compare(connectivity, x, y):
    seen = {"zoo": [], "reservoirpy": []}
    for seed in range(SEEDS):
        contenders = {"zoo": ours(connectivity, seed), "reservoirpy": reservoirpy(connectivity, seed)}
        for contender in contenders.values():
            measure(contender, x, y)  # makes the weights and, for us, compiles
        for _ in range(TURNS):
            for name, contender in contenders.items():
                seen[name].append({"seed": seed, **measure(contender, x, y)})
                print(f"{name:<12}", "  ".join(f"{k} {v:.3g}" for k, v in seen[name][-1].items()), flush=True)
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in list(runs[0])[1:]}
        for name, runs in seen.items()
    }
    ratio = medians["reservoirpy"]["total_s"] / medians["zoo"]["total_s"]
    print(
        f"connectivity {connectivity}: {ratio:.2f} times as fast as reservoirpy; error",
        *[m["error"] for m in medians.values()],
    )
    return {"connectivity": connectivity, "times_as_fast": ratio, "median": medians, "runs": seen}


def main():
    import keras

    series = mackey_glass(STEPS + AHEAD)[:, None]
    compared = [compare(connectivity, series[:STEPS], series[AHEAD:]) for connectivity in CONNECTIVITIES]
    settings = {
        "steps": STEPS,
        "ahead": AHEAD,
        "washout": WASHOUT,
        "units": UNITS,
        "spectral_radius": RADIUS,
        "leak": LEAK,
        "bias_scaling": BIAS,
        "ridge": RIDGE,
        "reservoirpy": importlib.metadata.version("reservoirpy"),
    }
    record("echo_state", {"backend": keras.backend.backend(), "settings": settings, "compared": compared})


if __name__ == "__main__":
    main()
