"""What goes wrong in recurrent training: how it is recognised, from where the limit comes, and what to do."""

from dataclasses import asdict, dataclass

SATURATED = (0.1, 0.9)  # a gate beyond these is saturated, as Karpathy, Johnson and Li count (2015, section 4.2)
RESOLUTION = 2.0**-23  # of float32: what is smaller, beside what it is added to, is lost

_KINDS = {  # kind: (what, with the figure and the limit; limit; from where it comes; remedy)
    "not_finite": (
        "{where} is no finite number in batch {figure:.0f}: {cause}",
        0.0,
        "a loss that is NaN or infinite teaches nothing from then on (IEEE 754)",
        "{remedy}; the weights are those before that batch",
    ),
    "exploding": (
        "the gradient grows to {figure:.3g} times its size, back through {where} (limit {limit:g})",
        10.0,
        "ten times the average is where Pascanu et al. end the range for clipping (2013, arXiv:1211.5063)",
        "clip by global norm, lower the learning rate, or take a gated or orthogonal recurrent layer",
    ),
    "vanishing": (
        "the gradient reaches {figure:.0%} of the steps of {where} before float32 loses it (limit {limit:.0%})",
        0.1,
        "2^-23 of the largest norm is the resolution of float32; the tenth of the steps is our choice",
        "take an LSTM, GRU or IndRNN, raise the forget bias, read shorter sequences, or pool over the steps",
    ),
    "saturated": (
        "{figure:.0%} of what a gate of {where} says lies below 0.1 or above 0.9 (limit {limit:.0%})",
        0.95,
        "0.1 and 0.9 as in Karpathy et al. (2015, arXiv:1506.02078); the share is our choice",
        "scale the inputs, lower the learning rate, or start with smaller weights and biases",
    ),
    "dead": (
        "{figure:.0%} of the units of {where} say the same whatever comes in (limit {limit:.0%})",
        0.5,
        "a unit that never changes gets no gradient, as Lu et al. show (2019, arXiv:1903.06733); half is our choice",
        "lower the learning rate, start with smaller weights, or take another activation than relu",
    ),
    "unscaled": (
        "a feature that enters {where} has the size {figure:.3g} (limit {limit:g})",
        10.0,
        "means near 0 and variances near 1 are what LeCun et al. ask for (1998, Efficient BackProp, section 4.3)",
        "divide by the training data's deviation, as keras.layers.Normalization does",
    ),
    "short_look_back": (
        "the oldest tenth of the steps of {where} counts {figure:.0%} of the newest tenth (limit {limit:.0%})",
        0.5,
        "what still counts at the edge counts beyond it; half is our choice",
        "raise look_back: the model would use more of the past",
    ),
    "overfitting": (
        "the validation loss is {figure:.0f}% above its best, while the training loss falls (limit {limit:g}%)",
        5.0,
        "the generalization loss GL at 5, as Prechelt measures it (1998, Early stopping - but when?)",
        "more data, augmentation or dropout, a smaller network, or fewer epochs",
    ),
    "stalled": (
        "the validation loss has had no new best for {figure:.0f} epochs (limit {limit:g})",
        5.0,
        "Prechelt's strips of five epochs (1998, Early stopping - but when?)",
        "stop here, or change what limits it: learning rate, size of the network, data",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that goes wrong: what, its figure beside the limit, where that comes from, and what to do."""

    kind: str
    what: str
    figure: float
    limit: float
    source: str
    remedy: str
    where: str  # the layer
    epoch: int  # counted from 1; 0 before the first

    def __str__(self):
        return f"{self.kind.replace('_', ' ')}: {self.what}. {self.remedy[0].upper()}{self.remedy[1:]}."

    def as_dict(self):
        """Return what JSON can hold."""
        return asdict(self)


def find(kind, figure, *, where="", epoch=0, limit=None, **words):
    """Return the `Finding` of a kind with the figure that was measured; `words` fill in its sentences."""
    what, usual, source, remedy = _KINDS[kind]
    limit = usual if limit is None else limit
    words = {"where": where, "figure": figure, "limit": limit, **words}
    return Finding(kind, what.format(**words), float(figure), limit, source, remedy.format(**words), where, epoch)


def limit(kind):
    """Return the figure from which a kind is found."""
    return _KINDS[kind][1]
