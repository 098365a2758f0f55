"""The hash of a data set: equal for equal data, and another for any change of it."""

from dataclasses import dataclass, replace

import numpy as np

from zoo.train.fingerprint import fingerprint


@dataclass(frozen=True)
class Set:
    rows: tuple
    names: tuple = ("a", "bc")
    times: object = None


def test_any_change_changes_the_hash():
    rows = (np.arange(6.0).reshape(2, 3), np.array(["x", "yz"]))
    changed = np.arange(6.0).reshape(2, 3)
    changed[1, 2] = np.nextafter(5, 6)
    sets = [
        Set(rows),
        Set(rows[:1]),
        Set((changed, rows[1])),
        Set((rows[0].astype("float32"), rows[1])),
        Set((rows[0].reshape(3, 2), rows[1])),
        Set((rows[0].T.copy().T[::-1], rows[1])),
        replace(Set(rows), names=("ab", "c")),
        replace(Set(rows), names=("a", "b", "c")),
        replace(Set(rows), times=np.array(["2020-01-01"], "datetime64[s]")),
        replace(Set(rows), times=np.array([None, "a"], object)),
    ]
    assert len({fingerprint(one) for one in sets}) == len(sets)


def test_equal_data_has_an_equal_hash_whatever_its_layout_in_memory():
    rows = np.random.default_rng(0).normal(size=(5, 4))
    assert fingerprint([rows[::2], "a"]) == fingerprint([np.ascontiguousarray(rows[::2]), "a"])
    assert fingerprint(Set((np.asfortranarray(rows),))) == fingerprint(Set((rows,)))
