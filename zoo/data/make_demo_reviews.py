"""Make the demo set of texts: sentences about films from a small grammar, synthetic.

Run `python -m zoo.data.make_demo_reviews`: it makes the same bytes each time.
"""

import os
import random

from zoo.data.demo_reviews import EXAMPLE, REVIEWS

THINGS = (
    *("film", "plot", "cast", "music", "ending", "story", "dialogue", "camera work", "lead actor", "script"),
    *("opening", "second half", "humour", "editing", "direction", "villain", "romance", "soundtrack", "pace", "finale"),
)
VERBS = ("was", "is", "felt", "seemed")
ADJECTIVES = {
    "positive": ("good", "great", "funny", "moving", "clever", "charming", "gripping", "fresh", "honest", "lovely"),
    "negative": ("bad", "awful", "dull", "tired", "silly", "clumsy", "boring", "hollow", "dreadful", "annoying"),
}
KEEPING = ("", "very", "really", "so", "quite", "truly")
TURNING = ("not", "never", "hardly", "not very", "anything but", "not at all")
CONTRASTS = (  # which of the two halves the sentence comes down on
    ("{0} , but {1} .", 1),
    ("{0} , yet {1} .", 1),
    ("although {0} , {1} .", 1),
    ("{0} , even though {1} .", 0),
    ("despite the fact that {0} , {1} .", 1),
)
COUNTS = {"train": 1600, "validation": 300, "test": 300}
OPPOSITE = {"positive": "negative", "negative": "positive"}


def main():
    """Write the sentences and the example that `zoo run` shows."""
    chance = random.Random(0)
    pairs = _pairs(chance)
    rows, seen = [], set()
    for split, count in COUNTS.items():
        for _ in range(count):
            text, label = _sentence(chance, pairs[split], pairs["train"])
            while text in seen:
                text, label = _sentence(chance, pairs[split], pairs["train"])
            seen.add(text)
            rows.append((split, label, text))
    example = next(text for split, label, text in rows if split == "test" and "but" in text and label == "negative")
    _write(REVIEWS, "\n".join("\t".join(row) for row in [("split", "label", "text"), *rows]) + "\n")
    _write(EXAMPLE, example + "\n")
    print(f"{len(rows)} sentences, {REVIEWS.stat().st_size:,} bytes")


def _pairs(chance):
    """Return {split: [(modifier, adjective, what they say together)]}; no pair is in two splits."""
    together = [
        (modifier, adjective, label if modifier in KEEPING else OPPOSITE[label])
        for label, adjectives in ADJECTIVES.items()
        for adjective in adjectives
        for modifier in (*KEEPING, *TURNING)
    ]
    chance.shuffle(together)
    tenth = len(together) // 10
    return {"test": together[:tenth], "validation": together[tenth : 2 * tenth], "train": together[2 * tenth :]}


def _sentence(chance, deciding, others):
    """Return (text, label): one clause, or a contrast of two, of which one of `deciding` decides."""
    modifier, adjective, label = chance.choice(deciding)
    clause = _clause(chance, modifier, adjective)
    if chance.random() < 0.4:
        return f"{clause} .", label
    form, position = chance.choice(CONTRASTS)
    against = chance.choice([pair for pair in others if pair[2] != label])
    clauses = [_clause(chance, *against[:2]), _clause(chance, *against[:2])]
    clauses[position] = clause
    return form.format(*clauses), label


def _clause(chance, modifier, adjective):
    words = ("the", chance.choice(THINGS), chance.choice(VERBS), modifier, adjective)
    return " ".join(word for word in words if word)


def _write(target, text):
    unfinished = target.with_name(target.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, target)


if __name__ == "__main__":
    main()
