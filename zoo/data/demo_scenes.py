"""The built-in demo set of pictures: synthetic scenes of coloured shapes, drawn on the fly, with captions.

It shows that everything works, at once and without a network; it says nothing of photographs. Some pairs of colour and
shape are in test scenes only, and every test scene has one: to caption them takes what was learnt of the colour and of
the shape apart. So it is with validation, by other pairs.
"""

import numpy as np

COLOURS = {  # 0 to 255
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 215, 50),
    "purple": (160, 60, 190),
    "white": (240, 240, 240),
    "cyan": (40, 210, 220),
    "pink": (250, 150, 190),
    "grey": (130, 130, 130),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
HELD_OUT = {  # pairs that training does not show: an epoch is chosen by some, and tested on others
    "validation": (
        ("red", "circle"),
        ("green", "square"),
        ("blue", "triangle"),
        ("yellow", "ring"),
        ("purple", "cross"),
        ("cyan", "diamond"),
    ),
    "test": (
        ("red", "diamond"),
        ("green", "triangle"),
        ("blue", "cross"),
        ("yellow", "square"),
        ("grey", "circle"),
        ("cyan", "ring"),
    ),
}
SIZE = 48  # pixels of a picture's side
_COUNTS = {"train": 6000, "validation": 200, "test": 400}
_RELATIONS = {"left of": "right of", "above": "below"}  # and what the second thing is to the first
_RADIUS = (5.0, 8.0)  # pixels
_SINGLES = 0.2  # share of scenes that show one thing alone


def load(seed=0):
    """Draw the demo set (synthetic).

    Returns:
        List of (uint8 (48, 48, 3), captions, split): the captions are all that are true in the set's own words.

    Example:
        >>> picture, captions, split = load()[0]
        >>> picture.shape, split
        ((48, 48, 3), 'train')
    """
    random = np.random.default_rng(seed)
    return [(*_scene(random, split), split) for split, count in _COUNTS.items() for _ in range(count)]


def draw(things, random, size=SIZE, ground=None):
    """Return uint8 (size, size, 3) of things, each (colour, shape, row, column, radius) in pixels, on a dark ground."""
    points = np.arange(size) + 0.5
    scene = np.zeros((size, size, 3)) + (random.uniform(20, 70, 3) if ground is None else ground)
    for colour, shape, row, column, radius in things:
        covered = np.clip(0.5 - _outside(shape, points[:, None] - row, points[None, :] - column, radius), 0, 1)
        scene += covered[..., None] * (np.array(COLOURS[colour]) * random.uniform(0.8, 1) - scene)
    return np.clip(np.rint(scene + random.normal(0, 6, scene.shape)), 0, 255).astype(np.uint8)


def choose(random, split, new):
    """Return a colour and a shape, of those that a split has for itself if they are to be new, or of training's."""
    own = {pair for pairs in HELD_OUT.values() for pair in pairs}
    pairs = HELD_OUT[split] if new else [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in own]
    return pairs[random.integers(len(pairs))]


def _scene(random, split):
    new = split in HELD_OUT
    first, second = choose(random, split, new), choose(random, split, new and random.random() < 0.5)
    if random.random() < 0.5:
        first, second = second, first
    radii = random.uniform(*_RADIUS, 2)
    if random.random() < _SINGLES:
        held = first if not new or first in HELD_OUT[split] else second
        place = random.uniform(_RADIUS[1], SIZE - _RADIUS[1], 2)
        name = " ".join(held)
        return draw([(*held, *place, radii[0])], random), (f"a {name}", f"only a {name}")
    relation = list(_RELATIONS)[random.integers(len(_RELATIONS))]
    along = [
        random.uniform(_RADIUS[1], SIZE / 2 - _RADIUS[1]),
        random.uniform(SIZE / 2 + _RADIUS[1], SIZE - _RADIUS[1]),
    ]
    across = random.uniform(SIZE / 2 - 6, SIZE / 2 + 6) + random.uniform(-5, 5, 2)
    places = zip(across, along, strict=True) if relation == "left of" else zip(along, across, strict=True)
    things = [(*one, *place, radius) for one, place, radius in zip((first, second), places, radii, strict=True)]
    one, other = (f"a {' '.join(thing)}" for thing in (first, second))
    return draw(things, random), (f"{one} {relation} {other}", f"{other} {_RELATIONS[relation]} {one}")


def _outside(shape, down, right, radius):
    """Return how many pixels points lie outside a shape, negative within, from where they lie of its middle."""
    distance, across, along = (
        np.hypot(down, right),
        np.maximum(abs(down), abs(right)),
        np.minimum(abs(down), abs(right)),
    )
    if shape == "circle":
        return distance - radius
    if shape == "ring":
        return abs(distance - 0.78 * radius) - 0.22 * radius
    if shape == "square":
        return across - 0.85 * radius
    if shape == "diamond":
        return (across + along - radius) / np.sqrt(2)
    if shape == "cross":
        return np.maximum(along - 0.3 * radius, across - radius)
    return np.maximum(down - 0.75 * radius, 0.87 * abs(right) - 0.5 * (down + radius))  # a triangle, its tip up
