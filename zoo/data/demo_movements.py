"""The built-in demo set of clips: synthetic, a coloured shape that moves one way and then another, with captions.

It shows that everything works, at once and without a network; it says nothing of films. As in `demo_scenes`, some pairs
of colour and shape are in test clips only, and so are some pairs of movements; others in those of validation.
"""

import itertools

import numpy as np

from zoo.data.demo_scenes import choose, draw

FRAMES, SIZE = 8, 40  # of a clip; pixels
WAYS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # rows, columns
HELD_OUT = {  # movements one after the other that training does not show
    "validation": (("up", "left"), ("right", "down")),
    "test": (("left", "down"), ("down", "up")),
}
_COUNTS = {"train": 4000, "validation": 200, "test": 400}
_RADIUS = (4.5, 6.5)  # pixels
_STEP = 3.5  # pixels from frame to frame
_SINGLES = 0.3  # share of clips with one movement


def load(seed=0):
    """Draw the demo set (synthetic).

    Returns:
        List of (uint8 (8, 40, 40, 3), captions, split).

    Example:
        >>> clip, captions, split = load()[0]
        >>> clip.shape, split
        ((8, 40, 40, 3), 'train')
    """
    random = np.random.default_rng(seed)
    return [(*_clip(random, split), split) for split, count in _COUNTS.items() for _ in range(count)]


def _clip(random, split):
    own = split in HELD_OUT
    new_thing = own and random.random() < 0.5
    thing = choose(random, split, new_thing)
    if random.random() < _SINGLES and (new_thing or not own):
        ways = [list(WAYS)[random.integers(len(WAYS))]]
    else:
        held = {pair for pairs in HELD_OUT.values() for pair in pairs}
        known = [pair for pair in itertools.permutations(WAYS, 2) if pair not in held]
        pairs = HELD_OUT[split] if own and not new_thing else known
        ways = pairs[random.integers(len(pairs))]
    steps = [WAYS[ways[frame * len(ways) // (FRAMES - 1)]] for frame in range(FRAMES - 1)]
    path = _STEP * np.concatenate([[(0, 0)], np.cumsum(steps, axis=0)])
    radius = random.uniform(*_RADIUS)
    start = random.uniform(radius - path.min(axis=0), SIZE - radius - path.max(axis=0))
    ground = random.uniform(20, 70, 3)
    frames = [draw([(*thing, *(start + place), radius)], random, SIZE, ground) for place in path]
    said = f"a {' '.join(thing)} moves {ways[0]}" + (f" then {ways[1]}" if len(ways) > 1 else "")
    return np.stack(frames), (said,)
