"""Attention cells and the layer that runs them: what test_contract.py asks of a layer, with a memory, and more.

Against the papers' formulas, Keras' attention layers, the same cell stepped by hand, and finite differences.
"""

import cases
import keras
import numpy as np
import numpy_rnn
import pytest
from gradients import finite_differences, gradients
from keras import ops

from zoo.errors import SettingError
from zoo.layers import (
    AdditiveAttention,
    AttentiveRecurrent,
    DotAttention,
    GRUCell,
    LSTMCell,
    Recurrent,
    StackedCells,
    VariationalDropout,
    Zoneout,
)

BATCH, TIME, FEATURES = 3, 7, 4
STEPS, WIDTH = 6, cases.MEMORY_FEATURES
# float32 over a few steps: rounding of sums of about ten terms, twice.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}
MASK = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0]], bool)
MEMORY_MASK = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0]], bool)  # one row all masked

each_cell = pytest.mark.parametrize("case", cases.ATTENTION, ids=str)


def given(memory_mask=None, dtype="float32", rows=BATCH):
    """Random sequences, and the layer's other arguments."""
    x, memory = [np.random.normal(size=shape).astype(dtype) for shape in ((rows, TIME, FEATURES), (rows, STEPS, WIDTH))]
    return x, {"memory": memory, "memory_mask": memory_mask}


def randomised(layer, scale=0.5):
    """Build `layer` and give every weight a random value: zeros would hide what reads them."""
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([w + scale * np.random.normal(size=w.shape).astype(w.dtype) for w in layer.get_weights()])
    return layer


def twin(case, layer, **options):
    """The same layer, same weights, with other options."""
    other = case.make(**options)
    other.build((BATCH, TIME, FEATURES))
    other.set_weights(layer.get_weights())
    return other


def arrays(tensors):
    return [ops.convert_to_numpy(t) for t in keras.tree.flatten(tensors)]


ALL = {"return_sequences": True, "return_state": True, "return_attention": True}


@pytest.mark.parametrize("memory_mask", [None, MEMORY_MASK], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("kind", "formula", "more"),
    [
        (AdditiveAttention, numpy_rnn.bahdanau, {}),
        (AdditiveAttention, numpy_rnn.bahdanau, {"query_inputs": True}),
        (DotAttention, numpy_rnn.luong, {}),
    ],
)
def test_every_step_is_the_papers_formula(kind, formula, more, memory_mask):
    layer = randomised(AttentiveRecurrent(kind(LSTMCell(5), 4, WIDTH, **more), **ALL))
    x, call = given(memory_mask)
    values = [(weight, ops.convert_to_numpy(weight)) for weight in layer.weights]
    own = {weight.name: value for weight, value in values if "lstm_cell" not in weight.path}
    lstm = [value for weight, value in values if "lstm_cell" in weight.path]
    expected = formula(x, call["memory"], memory_mask, own, lstm)
    for ours, theirs in zip(arrays(layer(x, **call)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


def test_one_step_of_additive_attention_is_that_of_keras():
    cell = AdditiveAttention(GRUCell(5), 4, WIDTH)
    cell.build((None, FEATURES))
    cell.score_kernel.assign(np.random.normal(size=(4, 1)))
    peer = keras.layers.AdditiveAttention()
    peer.build([(None, 1, 4), (None, STEPS, WIDTH), (None, STEPS, 4)])
    peer.scale.assign(ops.convert_to_numpy(cell.score_kernel)[:, 0])
    x, call = given(MEMORY_MASK[[0, 0, 2]])  # Keras' attention has its own idea of a row that is all masked
    hidden = np.random.normal(size=(BATCH, 5)).astype("float32")
    query, keys = [
        ops.matmul(one, kernel) for one, kernel in ((hidden, cell.query_kernel), (call["memory"], cell.key_kernel))
    ]
    _, theirs = peer(
        [query[:, None], call["memory"], keys], mask=[None, call["memory_mask"]], return_attention_scores=True
    )
    _, _, ours = cell(x[:, 0], [hidden], cell.attend(**call))
    np.testing.assert_allclose(*arrays([ours, theirs[:, 0]]), **CLOSE)


def test_one_step_of_dot_attention_is_that_of_keras():
    cell = DotAttention(GRUCell(5), 4, WIDTH)
    x, call = given(MEMORY_MASK[[0, 0, 2]])
    cell.build((None, FEATURES))
    _, states, ours = cell(x[:, 0], cell.get_initial_state(BATCH), cell.attend(**call))
    keys = ops.matmul(call["memory"], cell.key_kernel)
    context, theirs = keras.layers.Attention()(
        [states[0][:, None], call["memory"], keys], mask=[None, call["memory_mask"]], return_attention_scores=True
    )
    np.testing.assert_allclose(*arrays([ours, theirs[:, 0]]), **CLOSE)
    joined = ops.concatenate([context[:, 0], states[0]], axis=-1)
    np.testing.assert_allclose(*arrays([states[-1], ops.tanh(ops.matmul(joined, cell.output_kernel))]), **CLOSE)


@each_cell
@pytest.mark.parametrize("memory_mask", [None, MEMORY_MASK], ids=["whole", "masked"])
def test_stepping_equals_the_whole_sequence(case, memory_mask):
    x, call = given(memory_mask)
    layer = randomised(case.make(**ALL))
    whole, *final, attention = arrays(layer(x, **call))
    attended = layer.cell.attend(**call)
    states = layer.cell.get_initial_state(BATCH)
    for t in range(TIME):
        output, states, looked = layer.cell(x[:, t], states, attended)
        np.testing.assert_allclose(*arrays([output, whole[:, t]]), **CLOSE)
        np.testing.assert_allclose(*arrays([looked, attention[:, t]]), **CLOSE)
    for stepped, state in zip(arrays(states), final, strict=True):
        np.testing.assert_allclose(stepped, state, **CLOSE)


@each_cell
def test_attention_is_a_mean_of_what_counts_and_nothing_of_nothing(case):
    x, call = given(MEMORY_MASK)
    *_, attention = arrays(randomised(case.make(**ALL))(x, **call))
    assert attention.shape == (BATCH, TIME, STEPS)
    assert (attention[~np.broadcast_to(MEMORY_MASK[:, None], attention.shape)] == 0).all()
    np.testing.assert_allclose(attention.sum(-1), MEMORY_MASK.any(1)[:, None].repeat(TIME, 1), atol=1e-6)  # float32


@each_cell
def test_a_masked_memory_changes_nothing_be_it_nan(case):
    x, call = given(MEMORY_MASK)
    layer = randomised(case.make(**ALL))
    other = {**call, "memory": np.where(MEMORY_MASK[..., None], call["memory"], np.nan)}
    for one, same in zip(arrays(layer(x, **call)), arrays(layer(x, **other)), strict=True):
        np.testing.assert_array_equal(one, same)


@each_cell
def test_masked_steps_leave_states_and_attention_alone(case):
    x, call = given(MEMORY_MASK)
    layer = randomised(case.make(**ALL))
    outputs, *final, attention = arrays(layer(x, mask=MASK, **call))
    for row in range(BATCH):
        kept = x[row : row + 1, MASK[row]]
        if kept.shape[1] == 0:
            assert all((part[row] == 0).all() for part in (outputs, attention, *final))
            continue
        own = {name: value[row : row + 1] for name, value in call.items()}
        short, *short_final, looked = arrays(layer(kept, **own))
        np.testing.assert_allclose(outputs[row, MASK[row]], short[0], **CLOSE)
        np.testing.assert_allclose(attention[row, MASK[row]], looked[0], **CLOSE)
        for state, short_state in zip(final, short_final, strict=True):
            np.testing.assert_allclose(state[row], short_state[0], **CLOSE)


@each_cell
def test_states_carry_on_forward_and_time_turns_around(case):
    x, call = given(MEMORY_MASK)
    layer = randomised(case.make(**ALL))
    whole = arrays(layer(x, **call))
    _, *middle, _ = layer(x[:, :3], **call)
    rest = arrays(layer(x[:, 3:], initial_state=middle, **call))
    np.testing.assert_allclose(rest[0], whole[0][:, 3:], **CLOSE)
    stateful = twin(case, layer, **ALL, stateful=True)
    stateful(x[:, :3], **call)
    np.testing.assert_allclose(arrays(stateful(x[:, 3:], **call))[0], rest[0], **CLOSE)
    back = twin(case, layer, **ALL, go_backwards=True)
    for one, other in zip(arrays(back(x[:, ::-1].copy(), **call)), whole, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
    unrolled = twin(case, layer, **ALL, unroll=True)
    for one, other in zip(arrays(unrolled(x, **call)), whole, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
    last = twin(case, layer, return_attention=True)
    for one, other in zip(arrays(last(x, **call)), (whole[0], whole[-1]), strict=True):
        np.testing.assert_allclose(one, other[:, -1], **CLOSE)


class Decoded(keras.layers.Layer):
    """An attentive layer as a function of one tensor, sequences and memory side by side in time, of equal width.

    Its results are joined too, so that the gradient of each is seen.
    """

    def __init__(self, layer, **call):
        super().__init__(dtype=layer.dtype_policy)
        self.layer, self.given = layer, call
        self.built = True

    def call(self, both, training=False):
        results = self.layer(both[:, :TIME], memory=both[:, TIME:], training=training, **self.given)
        rows = ops.shape(both)[0]
        return ops.concatenate([ops.reshape(result, (rows, -1)) for result in results], axis=-1)


def both_and_cotangent(layer, dtype="float32"):
    both = np.random.normal(size=(BATCH, TIME + STEPS, WIDTH)).astype(dtype)
    cotangent = np.random.normal(size=layer(both).shape).astype(dtype)
    return both, cotangent


MASKS = {"mask": MASK, "memory_mask": MEMORY_MASK}


@each_cell
@pytest.mark.parametrize(
    ("masks", "every"), [({}, None), (MASKS, None), (MASKS, 3)], ids=["whole", "masked", "checkpoints"]
)
def test_gradients_equal_automatic_differentiation(case, masks, every):
    """Of sequences, memory and all weights, through outputs, states and attention; the peer is unrolled, not ours."""
    layer, unrolled = [case.make(**ALL, **options) for options in ({"checkpoint_every": every}, {"unroll": True})]
    for one in (layer, unrolled):
        one.build((BATCH, TIME, WIDTH))
    unrolled.set_weights(layer.get_weights())
    ours, peer = [Decoded(one, **masks) for one in (layer, unrolled)]
    both, cotangent = both_and_cotangent(peer)
    close = {"rtol": 1e-4, "atol": 1e-5}  # sums over batch and time in another order
    for one, other in zip(*[gradients(decoded, both, cotangent) for decoded in (ours, peer)], strict=True):
        assert np.isfinite(other).all() and np.abs(other).max() > 1e-3
        np.testing.assert_allclose(one, other, **close)


@pytest.mark.on_tensorflow  # float64
@pytest.mark.parametrize("kind", [AdditiveAttention, DotAttention])
def test_gradients_of_memory_and_weights_equal_finite_differences(kind):
    import tensorflow as tf

    cell = kind(GRUCell(2, dtype="float64"), 3, WIDTH, dtype="float64")
    layer = AttentiveRecurrent(cell, **ALL, dtype="float64")
    layer.build((BATCH, TIME, WIDTH))
    layer.set_weights([np.random.normal(size=w.shape) for w in layer.get_weights()])
    decoded = Decoded(layer, mask=MASK, memory_mask=MEMORY_MASK)
    both, cotangent = both_and_cotangent(decoded, "float64")
    weights = layer.get_weights()

    value = tf.function(lambda both: tf.reduce_sum(decoded(both) * cotangent))

    def loss():
        layer.set_weights(weights)
        return float(value(tf.constant(both)))

    ours = gradients(decoded, both, cotangent)
    some = [np.s_[:2, TIME - 1 : TIME + 2], *[np.s_[:2]] * len(weights)]  # of the memory, too; all would take long
    for gradient, array, part in zip(ours, [both, *weights], some, strict=True):
        (differences,) = finite_differences(loss, [array[part]])  # a view: it changes the array
        # central differences of 1e-6 leave an error of 1e-12 and float64's rounding divided by the step, 1e-9
        np.testing.assert_allclose(gradient[part], differences, rtol=1e-6, atol=1e-8)


def test_noise_of_the_inner_cell_is_replayed():
    """Masks of inputs, states and zoneout, in training: with unrolled steps as the peer, from the same seeds."""

    def make(**options):
        inner = VariationalDropout(Zoneout(LSTMCell(5), {"cell": 0.3}, seed=1), 0.3, 0.3, seed=2)
        return AttentiveRecurrent(DotAttention(inner, 4, WIDTH), **ALL, **options)

    layers = [make(), make(unroll=True), make(checkpoint_every=2)]
    for layer in layers:
        layer.build((BATCH, TIME, WIDTH))
        layer.set_weights(layers[0].get_weights())
    both, cotangent = both_and_cotangent(Decoded(layers[0]))
    ours, theirs, again = [gradients(Decoded(layer), both, cotangent) for layer in layers]
    for one, other, third in zip(ours, theirs, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # sums in another order
        np.testing.assert_allclose(third, other, rtol=1e-4, atol=1e-5)
    calm, excited = [arrays(Decoded(layers[0])(both, training=training))[0] for training in (False, True)]
    assert np.abs(calm - excited).max() > 0.01


def functional(case, **options):
    """Encoder and decoder on masked tokens, any batch and lengths, with the attention as a second output."""
    seen, said = keras.Input((None,), name="seen"), keras.Input((None,), name="said")
    encoded = keras.layers.Embedding(9, WIDTH, mask_zero=True)(seen)
    x = keras.layers.Embedding(9, FEATURES, mask_zero=True)(said)
    layer = case.make(return_sequences=True, return_attention=True, name="decoder", **options)
    outputs, attention = layer(x, memory=encoded)
    return keras.Model([seen, said], {"outputs": outputs, "attention": attention})


@each_cell
def test_a_saved_model_answers_the_same(case, tmp_path):
    model = functional(case, zero_output_for_mask=True)
    for weight in model.weights:
        weight.assign(np.random.normal(size=weight.shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    tokens = [np.array([[3, 4, 5, 0], [7, 0, 0, 0]]), np.array([[1, 2, 0], [3, 0, 0]])]
    for name, value in model(tokens).items():
        np.testing.assert_allclose(*arrays([loaded(tokens)[name], value]), **CLOSE)
    config = loaded.get_layer("decoder").get_config()
    assert config["return_attention"]
    assert config["cell"]["config"]["units"] == model.get_layer("decoder").cell.units


@each_cell
def test_masks_come_with_their_tensors(case):
    """Keras hands on the masks of embeddings, of the sequences and of the memory."""
    model = functional(case)
    long, short = [
        model.predict([np.array(seen), np.array(said)], verbose=0)
        for seen, said in (([[3, 4, 5, 0, 0]], [[1, 2, 0]]), ([[3, 4, 5]], [[1, 2]]))
    ]
    np.testing.assert_allclose(long["outputs"][:, :2], short["outputs"], **CLOSE)
    np.testing.assert_allclose(long["outputs"][:, 2], short["outputs"][:, 1], **CLOSE)  # repeated
    np.testing.assert_allclose(long["attention"][:, :2, :3], short["attention"], **CLOSE)
    assert (long["attention"][:, :, 3:] == 0).all()


@each_cell
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_in_half_and_keeps_weights_in_float32(case, dtype):
    x, call = given(MEMORY_MASK)
    layer = randomised(case.make(**ALL), 0.2)
    half = twin(case, layer, **ALL, dtype=dtype)
    assert {v.dtype for v in half.weights} == {"float32"}
    for training in (False, True):
        for ours, expected in zip(half(x, training=training, **call), layer(x, training=training, **call), strict=True):
            assert keras.backend.standardize_dtype(ours.dtype) == dtype.removeprefix("mixed_")
            # bfloat16 has 8 bits of mantissa: steps of 1/256 near 1, a few of them after seven steps.
            np.testing.assert_allclose(*arrays([ops.cast(ours, "float32"), expected]), atol=0.04)


@each_cell
def test_compiled_training_lowers_the_loss_and_reaches_the_encoder(case):
    tokens = np.random.randint(1, 9, size=(16, 4))
    target = 0.5 * np.sin(tokens[:, ::-1])[..., None].repeat(case.make().cell.output_size, axis=2)
    model = functional(case)
    encoder = next(layer for layer in model.layers if getattr(layer, "output_dim", None) == WIDTH)
    before = encoder.get_weights()[0].copy()
    jit_compile = "auto" if keras.backend.backend() == "torch" else True  # which has no compiler here
    model.compile(keras.optimizers.Adam(0.05), {"outputs": "mse", "attention": None}, jit_compile=jit_compile)
    losses = model.fit([tokens, tokens], {"outputs": target}, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert (np.abs(encoder.get_weights()[0] - before)[np.unique(tokens)] > 1e-3).any(axis=1).all()


def layer_of(cell):
    layer = AttentiveRecurrent(cell)
    layer.build((BATCH, TIME, FEATURES))
    return layer


X = np.zeros((BATCH, TIME, FEATURES), "float32")


def memory(*shape):
    return np.zeros(shape, "float32")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: AdditiveAttention(GRUCell(3), 0, 4), "units is 0; expected a whole number"),
        (lambda: DotAttention(GRUCell(3), 4, 2.5), r"memory_features is 2\.5; expected a whole number"),
        (lambda: AdditiveAttention(keras.layers.GRUCell(3), 4, 4), "cell is a GRUCell; expected a zoo Cell"),
        (lambda: AttentiveRecurrent(GRUCell(3)), "cell is a GRUCell; expected AdditiveAttention or DotAttention"),
        (lambda: DotAttention(GRUCell(3), 4, 5).attend(memory(2, 3, 5)), "has no weights yet; build it first"),
        (lambda: layer_of(DotAttention(GRUCell(3), 4, 5))(X), "given no memory to read; .*called with memory"),
        (lambda: AttentiveRecurrent(DotAttention(GRUCell(3), 4, 5))(keras.Input((7, 4))), "given no memory to read"),
        (
            lambda: keras.layers.Bidirectional(AttentiveRecurrent(DotAttention(GRUCell(3), 4, 5)))(keras.Input((7, 4))),
            "given no memory to read",
        ),
        (lambda: Recurrent(DotAttention(GRUCell(3), 4, 5))(X), "given no memory to read; run it in .*Attentive"),
        (lambda: keras.layers.RNN(AdditiveAttention(GRUCell(3), 4, 5))(X), "given no memory to read"),
        (
            lambda: Recurrent(StackedCells([AdditiveAttention(GRUCell(3), 4, 5), GRUCell(2)]))(X),
            "given no memory to read",
        ),
        (
            lambda: layer_of(DotAttention(GRUCell(3), 4, 5))(X, memory=memory(3, 6, 4)),
            r"memory has the shape \(3, 6, 4\); expected .*\(batch, memory steps, 5\)",
        ),
        (lambda: layer_of(DotAttention(GRUCell(3), 4, 5))(X, memory=memory(3, 5)), r"memory has the shape \(3, 5\)"),
        (
            lambda: layer_of(DotAttention(GRUCell(3), 4, 5))(X, memory=memory(2, 6, 5)),
            "memory is of 2 rows; expected one for each of 3",
        ),
        (
            lambda: layer_of(DotAttention(GRUCell(3), 4, 5))(X, memory=memory(3, 6, 5), memory_mask=memory(3, 5)),
            r"memory_mask has the shape \(3, 5\); expected that of the memory's steps: \(3, 6\)",
        ),
    ],
)
def test_bad_settings_are_refused_by_name(act, message):
    with pytest.raises(SettingError, match=message):
        act()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AdditiveAttention, DotAttention])
def test_it_learns_to_reverse_by_looking_at_the_anti_diagonal(kind):
    """Sequences of eight tokens, said backwards: what to look for is known only from where it looked before."""
    steps, tokens = 8, 10
    rng = np.random.default_rng(0)

    def batch(rows):
        seen = rng.integers(2, tokens, size=(rows, steps))
        back = seen[:, ::-1]
        return [seen, np.concatenate([np.ones((rows, 1), int), back[:, :-1]], axis=1)], back

    seen, said = keras.Input((steps,)), keras.Input((steps,))
    encoded = keras.layers.Bidirectional(keras.layers.GRU(32, return_sequences=True))(
        keras.layers.Embedding(tokens, 16)(seen)
    )
    layer = AttentiveRecurrent(kind(GRUCell(48), 32, 64), return_sequences=True, return_attention=True)
    outputs, attention = layer(keras.layers.Embedding(tokens, 16)(said), memory=encoded)
    model = keras.Model([seen, said], keras.layers.Dense(tokens)(outputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3, clipnorm=1.0), loss, metrics=["accuracy"])
    model.fit(*batch(6400), batch_size=64, epochs=8, verbose=0)
    inputs, back = batch(256)
    assert model.evaluate(inputs, back, verbose=0, return_dict=True)["accuracy"] > 0.99
    looked = arrays(keras.Model(model.inputs, attention)(inputs))[0].mean(axis=0)
    anti_diagonal = np.arange(steps)[::-1]
    # a bidirectional encoder may keep a token beside its own place
    near = sum(looked[t, max(s - 1, 0) : s + 2].sum() for t, s in enumerate(anti_diagonal)) / steps
    assert near > 0.8
