"""Noise in the gradients, and that every recipe clips them."""

import keras
import numpy as np
import pytest

from zoo import recipes, train
from zoo.errors import SettingError


def stepped(optimizer, steps):
    """Return the weights after each of some steps without any gradient."""
    weights = keras.Variable(np.zeros((200, 100), "float32"))
    optimizer.build([weights])
    found = [np.zeros((200, 100))]
    for _ in range(steps):
        optimizer.apply([keras.ops.zeros((200, 100))], [weights])
        found.append(keras.ops.convert_to_numpy(weights))
    return found


def test_the_noise_has_the_variance_of_the_formula():
    moved = np.diff(stepped(train.NoisySGD(1.0, noise=0.3, decay=0.55), 3), axis=0)
    for step, each in enumerate(moved):
        assert each.var() == pytest.approx(0.3 / (1 + step) ** 0.55, rel=0.05)  # of 20,000 draws: 1%
        assert abs(each.mean()) < 0.02
    assert abs(np.corrcoef(moved[0].ravel(), moved[1].ravel())[0, 1]) < 0.03


def test_a_seed_gives_the_same_noise_again_and_another_other():
    one, two, three = (stepped(train.NoisySGD(1.0, noise_seed=seed), 2)[-1] for seed in (1, 1, 2))
    assert (one == two).all() and not np.allclose(one, three)


def test_without_noise_it_is_the_optimizer_of_keras():
    answers = []
    for optimizer in (
        train.NoisyAdam(0.01, noise=0.0, global_clipnorm=1.0),
        keras.optimizers.Adam(0.01, global_clipnorm=1.0),
    ):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile(optimizer, "mse")
        model.fit(np.ones((8, 4)), np.ones((8, 2)), epochs=2, shuffle=False, verbose=0)
        answers.append(model.get_weights()[0])
    np.testing.assert_array_equal(*answers)


def test_it_comes_back_from_its_settings():
    again = keras.optimizers.deserialize(
        keras.optimizers.serialize(train.NoisyAdam(0.1, noise=0.2, decay=0.3, noise_seed=4))
    )
    assert (type(again), again.noise, again.decay, again.noise_seed) == (train.NoisyAdam, 0.2, 0.3, 4)


def test_noise_below_zero_is_refused():
    with pytest.raises(SettingError, match="expected 0 or more"):
        train.NoisyAdam(noise=-1.0)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_clips_by_the_norm_of_all_gradients(name, monkeypatch):
    class Compiled(Exception):
        pass

    def compile(model, optimizer=None, *arguments, **options):
        raise Compiled(optimizer)

    monkeypatch.setattr(keras.Model, "compile", compile)
    with pytest.raises(Compiled) as caught:
        recipes.get(name)(epochs=1).train(verbose=0)
    assert caught.value.args[0].global_clipnorm == 1.0
