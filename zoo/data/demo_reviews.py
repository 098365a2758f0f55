"""The built-in demo set of texts: synthetic sentences about films, whose label follows from how they are composed.

Negation turns an adjective over, an intensifier does not, and of a contrast the half counts that the sentence comes
down on. It shows that everything works, at once and without a network; it says nothing of what people write. The
adjective with its modifier that decides a sentence of validation or test is in no training sentence, each of its words
is. `make_demo_reviews.py` made it.
"""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "demo"
REVIEWS = _FOLDER / "reviews.tsv"
EXAMPLE = _FOLDER / "review.txt"  # one sentence of the test


@dataclass(frozen=True)
class DemoReview:
    """One synthetic sentence."""

    text: str
    label: str  # 'negative' or 'positive'
    split: str


def load():
    """Load the demo set (synthetic).

    Returns:
        List of DemoReview.

    Example:
        >>> reviews = load()
        >>> reviews[0].label
        'positive'
    """
    lines = REVIEWS.read_text(encoding="utf-8").splitlines()[1:]
    return [DemoReview(text, label, split) for split, label, text in (line.split("\t") for line in lines)]
