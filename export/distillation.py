"""Learn from a larger model's answers."""

from numbers import Real

import keras
from keras import ops

from zoo import checks
from zoo.errors import SettingError


def distil(student, teacher, *, temperature=2.0, weight=0.5, from_logits=False):
    """Return a model to compile and fit in the place of `student`, which learns from `teacher` as well as from labels.

    The teacher says more than the right class: how likely it finds each of the others. Its answers are computed batch
    by batch, on the very inputs that the student sees (what layers of the student change in training, the teacher does
    not see). After `fit` the student is trained; the returned model shares its weights and can be thrown away.

        loss = (1 - weight) L(y, p) + weight T^2 KL(softmax(z' / T) || softmax(z / T))

    with z the student's logits and z' the teacher's; from probabilities p, z = log p. L is the loss that the model is
    compiled with.

    Args:
        student: built Keras model with one output, probabilities or logits (batch, ..., classes).
        teacher: Keras model with the same inputs and output; it stays as it is.
        temperature: float above 0, T; higher values look more at the unlikely classes.
        weight: float in (0, 1], of the teacher's part of the loss.
        from_logits: bool, the outputs are logits instead of probabilities.

    Returns:
        A `keras.Model` that computes what the student does; compile it as the student.

    Raises:
        SettingError: an argument cannot be used, or the outputs differ in shape.

    Example:
        >>> learner = distil(pruned, model)
        >>> learner.compile("adam", "categorical_crossentropy", metrics=["accuracy"])

    Reference:
        G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015,
        https://arxiv.org/abs/1503.02531
    """
    for name, model in (("student", student), ("teacher", teacher)):
        if not isinstance(model, keras.Model):
            raise SettingError(f"{name} is a {type(model).__name__}; expected a Keras model")
    if isinstance(temperature, bool) or not isinstance(temperature, Real) or not 0 < temperature < float("inf"):
        raise SettingError(f"temperature is {checks.shown(temperature)}; expected a number above 0")
    if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 < weight <= 1:
        raise SettingError(f"weight is {checks.shown(weight)}; expected a share above 0 and at most 1")
    if not isinstance(from_logits, bool):
        raise SettingError(f"from_logits is {checks.shown(from_logits)}; expected True or False")
    shapes = [getattr(model, "output_shape", None) for model in (student, teacher)]
    if shapes[0] != shapes[1] or isinstance(shapes[0], (list, dict)):
        raise SettingError(
            f"the student's output has the shape {shapes[0]} and the teacher's {shapes[1]}; expected one output of the "
            "same shape"
        )
    return _Learner(student, lambda x: teacher(x, training=False), float(temperature), float(weight), from_logits)


class _Learner(keras.Model):
    def __init__(self, student, teach, temperature, weight, from_logits):
        super().__init__(name=f"{student.name}_learner")
        self.student = student
        self._teach = teach  # a function: Keras would train, save and count a model
        self._temperature, self._weight, self._from_logits = temperature, weight, from_logits

    def call(self, inputs, training=False):
        return self.student(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if not training:
            return loss
        taught = self._log_probabilities(ops.stop_gradient(self._teach(x)))
        learnt = self._log_probabilities(y_pred)
        divergence = ops.mean(ops.sum(ops.exp(taught) * (taught - learnt), axis=-1))
        return (1 - self._weight) * loss + self._weight * self._temperature**2 * divergence

    def _log_probabilities(self, outputs):
        logits = outputs if self._from_logits else ops.log(outputs + keras.config.epsilon())
        return ops.log_softmax(logits / self._temperature, axis=-1)
