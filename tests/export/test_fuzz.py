"""Random models in every form of both formats answer as Keras does."""

import keras
import litert_runs
import onnx_runs
import pytest
from litert_runs import model_answers
from random_models import random_model

from zoo import export
from zoo.errors import ExportError

KEPT = ()  # seeds that found bugs
STEPS = 6
ATOL = 1e-5  # float32 sums of up to four layers in another order

pytestmark = pytest.mark.on_tensorflow


def check(seed, folder):
    """Export the model of a seed in each form that all its layers can take, and run each file."""
    model, inputs = random_model(seed)
    expected = model_answers(model, inputs)
    for format, write, runs in (
        ("tflite", export.to_tflite, litert_runs),
        ("onnx", export.to_onnx, onnx_runs),
    ):
        chosen = export.plan(model, format=format, time_steps=STEPS)
        for form in (None, "loop", "unrolled"):
            plan = chosen
            if form:
                plan = chosen.override({choice.layer: form for choice in chosen.choices})
                if plan == chosen:
                    continue
            path = folder / f"{seed}-{form}.{format}"
            try:
                write(model, path, time_steps=STEPS, plan=plan)
            except ExportError as error:
                assert form == "unrolled" and "a loop of its own" in str(error), f"seed {seed}, {format}: {error}"
                continue
            try:
                runs.assert_same(path, inputs, expected, ATOL)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {format}, {form or 'as planned'}:\n{plan}\n{error}") from error
            path.unlink()
    keras.backend.clear_session()


@pytest.mark.parametrize("seed", [*KEPT, *range(3)])
def test_a_random_model_answers_as_keras_does_in_every_form(seed, tmp_path):
    check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(5))
def test_five_hundred_random_models_answer_as_keras_does_in_every_form(hundred, tmp_path):
    failed = {}
    for seed in range(100 * hundred, 100 * hundred + 100):
        try:
            check(seed, tmp_path)
        except (AssertionError, ExportError) as error:
            failed[seed] = str(error)
    assert not failed, "\n\n".join(failed.values())
