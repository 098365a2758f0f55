"""Distillation: the loss against its formula, and a student that learns from a teacher alone."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo import export
from zoo.errors import SettingError

K = keras.layers
FEATURES, CLASSES = 5, 4


def classifier(activation="softmax", width=None, seed=0):
    layers = [] if width is None else [K.Dense(width, activation="tanh")]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers, K.Dense(CLASSES, activation=activation)])
    generator = np.random.default_rng(seed)
    model.set_weights([generator.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def softmax(z):
    exponentials = np.exp(z - z.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("activation", ["softmax", None], ids=["probabilities", "logits"])
def test_the_loss_is_its_formula(activation):
    student, teacher = classifier(activation, seed=1), classifier(activation, seed=2)
    x = np.random.normal(size=(6, FEATURES)).astype("float32")
    y = np.eye(CLASSES)[np.random.randint(0, CLASSES, 6)]
    learner = export.distil(student, teacher, temperature=3.0, weight=0.3, from_logits=activation is None)
    learner.compile(keras.optimizers.SGD(0.0), keras.losses.CategoricalCrossentropy(from_logits=activation is None))
    got = learner.fit(x, y, batch_size=6, verbose=0).history["loss"][0]
    ours, theirs = (x @ each.get_weights()[0] + each.get_weights()[1] for each in (student, teacher))
    p, q = softmax(ours / 3), softmax(theirs / 3)
    hard = -np.mean(np.sum(y * np.log(softmax(ours)), axis=-1))
    soft = np.mean(np.sum(q * np.log(q / p), axis=-1))
    # float32, and an epsilon of 1e-7 beside probabilities, whose smallest are near 1e-3
    assert got == pytest.approx(0.7 * hard + 0.3 * 9 * soft, rel=1e-3)
    assert learner.evaluate(x, y, verbose=0) == pytest.approx(hard, rel=1e-4)  # float32; no teacher in a score


def test_a_student_learns_from_the_teacher_alone_and_the_teacher_stays():
    student, teacher = classifier(seed=1), classifier(seed=2)
    before = teacher.get_weights()
    x = np.random.normal(size=(512, FEATURES)).astype("float32")
    nonsense = np.full((512, CLASSES), 1 / CLASSES)
    learner = export.distil(student, teacher, weight=1.0)
    learner.compile(keras.optimizers.Adam(0.05), "categorical_crossentropy")
    learner.fit(x, nonsense, batch_size=64, epochs=30, verbose=0)
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    taught, learnt = (ops.convert_to_numpy(each(x)) for each in (teacher, student))
    assert np.mean(taught.argmax(-1) == learnt.argmax(-1)) > 0.97  # the same kind of model can agree entirely
    assert len(learner.trainable_weights) == len(student.trainable_weights), "the teacher is no part of the learner"


def test_a_student_is_pruned_while_it_is_taught():
    student, teacher = classifier(width=12, seed=1), classifier(width=40, seed=2)
    x = np.random.normal(size=(128, FEATURES)).astype("float32")
    learner = export.distil(student, teacher)
    learner.compile("adam", "categorical_crossentropy")
    learner.fit(
        x, np.full((128, CLASSES), 0.25), batch_size=16, verbose=0, callbacks=[export.Pruning(0.5, frequency=1)]
    )
    assert export.sparsity_report(student).zeros == 0.5
    assert all(np.all(weight != 0) for weight in teacher.get_weights())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "temperature is 0; expected a number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"weight": 0}, "weight is 0; expected a share above 0"),
        ({"weight": 1.5}, r"weight is 1\.5"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        export.distil(classifier(), classifier(), **arguments)


def test_models_that_do_not_fit_are_refused():
    other = keras.Sequential([keras.Input((FEATURES,)), K.Dense(CLASSES + 1)])
    with pytest.raises(SettingError, match=r"\(None, 4\) and the teacher's \(None, 5\)"):
        export.distil(classifier(), other)
    with pytest.raises(SettingError, match="teacher is a str"):
        export.distil(classifier(), "the best")
