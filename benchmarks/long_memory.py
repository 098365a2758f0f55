"""Memory over long sequences with IndRNN: the adding problem to 5,000 steps, and permuted digits against LSTM.

    KERAS_BACKEND=jax python benchmarks/long_memory.py adding
    pip install scikit-learn                                          # for its digits
    KERAS_BACKEND=jax python benchmarks/long_memory.py digits

Adding: at each step a number from [0, 1) and a mark, which is 1 at one step of the first half and at one of the second,
else 0; after the last step the sum of the two marked numbers is asked. To answer 1 always has an error of 1/6. Two
layers of 128 IndRNN units, new sequences in every batch. The sequences start short and become longer each time that
the running error falls under a bound, so that most batches are cheap; the weights are bounded for 5,000 steps from the
start. In the end the error is taken on fresh sequences of full length.

Digits: the 1,797 pictures of 8 x 8 pixels that ship with scikit-learn, a pixel a step, in one order drawn at random.
IndRNN layers against one LSTM of about as many weights, for as many epochs, each with the learning rate, of the same
few, that does best on the validation split with the first seed; the test split is looked at once for each seed, with
the weights of the last epoch.
"""

import argparse
import time

import numpy as np
from record import record

# Steps of the adding problem on the way, and in the end.
LENGTHS, FULL = (50, 100, 200, 400, 800, 1600, 2400, 3600), 5000
ENOUGH, AWHILE, MOST_STEPS = 0.005, 20, 10_000  # running error that lengthens, over so many batches; a bound on the run
# The learning rate is RATE / steps, so finely must a weight of T steps be set; after SETTLING batches it falls.
BATCH, UNITS, RATE, SETTLING = 50, 128, 0.1, 500
EPOCHS, BATCH_OF_DIGITS, RATES, SEEDS = 100, 32, (1e-3, 3e-3, 1e-2), 3
INDRNN_UNITS, INDRNN_LAYERS, LSTM_UNITS = 64, 4, 57  # 14,026 and 14,032 weights


def adding_problem(random, batch, steps):
    """Return sequences (batch, steps, 2) of numbers and marks, and the sums of the marked numbers, (batch, 1)."""
    x = np.zeros((batch, steps, 2), "float32")
    x[..., 0] = random.random((batch, steps), "float32")
    rows, half = np.arange(batch), steps // 2
    x[rows, random.integers(0, half, batch), 1] = 1
    x[rows, random.integers(half, steps, batch), 1] = 1
    return x, (x[..., 0] * x[..., 1]).sum(1, keepdims=True)


def adding(seed=0):
    import keras

    from zoo.layers import indrnn_stack

    keras.utils.set_random_seed(seed)
    random, test = np.random.default_rng(seed), np.random.default_rng(1000 + seed)
    inputs = keras.Input((None, 2))
    outputs = keras.layers.Dense(1)(indrnn_stack(inputs, UNITS, 2, steps=FULL)[:, -1])
    model = keras.Model(inputs, outputs)
    optimizer = keras.optimizers.Adam(global_clipnorm=1.0)
    model.compile(optimizer, "mse")
    start, taken, path = time.perf_counter(), 0, []
    for steps in (*LENGTHS, FULL):
        recent = []
        while taken < MOST_STEPS and (len(recent) < AWHILE or np.mean(recent[-AWHILE:]) > ENOUGH):
            optimizer.learning_rate = RATE / steps * min(1, SETTLING / (1 + len(recent)))
            recent.append(float(model.train_on_batch(*adding_problem(random, BATCH, steps))))
            taken += 1
            if taken % 50 == 0:
                passed = time.perf_counter() - start
                print(f"{passed:6.0f} s  T {steps}  batch {taken}  {np.mean(recent[-AWHILE:]):.5f}", flush=True)
        path.append({"steps": steps, "batches": len(recent), "running_mse": float(np.mean(recent[-AWHILE:]))})
        print(path[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
    train_s = time.perf_counter() - start
    errors = []
    for _ in range(20):
        x, y = adding_problem(test, BATCH, FULL)
        errors.append(np.square(model.predict_on_batch(x) - y).mean())
    result = {"mse": float(np.mean(errors)), "of_always_1": 1 / 6, "test_sequences": 20 * BATCH}
    print(result)
    settings = {"units": UNITS, "layers": 2, "batch": BATCH, "learning_rate_times_steps": RATE, "settling": SETTLING}
    settings["steps"] = FULL
    about = {"backend": keras.backend.backend(), "settings": settings, "seeds": [seed], "train_s": train_s}
    record("long_memory-adding", {**about, **result, "path": path})


def permuted_digits(seed=0):
    """Return (x, y) of train, validation and test: pixels (pictures, 64, 1) in [0, 1] in a random order, and digits."""
    from sklearn.datasets import load_digits

    digits, random = load_digits(), np.random.default_rng(seed)
    x = digits.data[:, random.permutation(64), None].astype("float32") / 16
    order = random.permutation(len(x))
    return [(x[rows], digits.target[rows]) for rows in np.split(order, [len(x) - 600, len(x) - 300])]


def classifier(name, steps):
    import keras

    from zoo.layers import indrnn_stack

    inputs = keras.Input((steps, 1))
    if name == "IndRNN":
        last = indrnn_stack(inputs, INDRNN_UNITS, INDRNN_LAYERS, steps=steps, batch_norm=True)[:, -1]
    else:
        last = keras.layers.LSTM(LSTM_UNITS)(inputs)
    return keras.Model(inputs, keras.layers.Dense(10)(last))


def accuracy(name, rate, seed, train, held_out):
    """Train for all epochs, the learning rate falling to zero in a line; return the share right, and the weights."""
    import keras

    keras.utils.set_random_seed(seed)
    model = classifier(name, train[0].shape[1])
    batches = EPOCHS * -(-len(train[0]) // BATCH_OF_DIGITS)
    falling = keras.optimizers.schedules.PolynomialDecay(rate, batches, end_learning_rate=0.0)
    model.compile(
        keras.optimizers.Adam(falling, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*train, batch_size=BATCH_OF_DIGITS, epochs=EPOCHS, verbose=0)
    right = float(model.evaluate(*held_out, verbose=0)[1])
    print(f"{name}  learning rate {rate}  seed {seed}: {100 * right:.2f}%", flush=True)
    return right, sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def digits():
    import keras

    train, validation, test = permuted_digits()
    result = {}
    for name in ("IndRNN", "LSTM"):
        on_validation = {rate: accuracy(name, rate, 0, train, validation)[0] for rate in RATES}
        rate = max(on_validation, key=on_validation.get)
        runs = [accuracy(name, rate, seed, train, test) for seed in range(SEEDS)]
        result[name] = {
            "learning_rate": rate,
            "validation_accuracy": on_validation,
            "test_accuracy": [right for right, _ in runs],
            "trainable_weights": runs[0][1],
        }
        print(name, result[name])
    split = {"train": len(train[0]), "validation": len(validation[0]), "test": len(test[0])}
    settings = {"epochs": EPOCHS, "batch": BATCH_OF_DIGITS, "indrnn_layers": INDRNN_LAYERS}
    about = {"backend": keras.backend.backend(), "settings": settings, "split": split, "seeds": list(range(SEEDS))}
    record("long_memory-digits", {**about, **result})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=("adding", "digits"))
    {"adding": adding, "digits": digits}[parser.parse_args().task]()


if __name__ == "__main__":
    main()
