"""Checks of arguments that all rooms share. They import nothing that takes its time."""

from numbers import Integral

from zoo.errors import SettingError

_LONGEST = 100  # letters of a value in a message


def whole(value, name, *, least=1, most=None, or_none=False):
    """Return `value` as an int if it is a whole number, NumPy's included, from `least` to `most`; None where it may be.

    Raises:
        SettingError: it is not.
    """
    if value is None and or_none:
        return None
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if not fits or value < least or (most is not None and value > most):
        extent = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise SettingError(
            f"{name} is {shown(value)}; expected a whole number {extent}{', or None' if or_none else ''}"
        )
    return int(value)  # no JSON takes NumPy's


def seed(value, name="seed"):
    """Return `value` as an int if every random generator takes it as a seed; None, for another one each time."""
    return whole(value, name, least=0, most=2**32 - 1, or_none=True)


def choice(value, name, allowed):
    """Return `value` if it is one of the names in `allowed`, else raise SettingError."""
    if not isinstance(value, str) or value not in allowed:
        raise SettingError(f"{name} is {shown(value)}; expected one of {', '.join(allowed)}")
    return value


def choices(values, name, allowed):
    """Return the list `values` without repetitions if all are names in `allowed`, else raise SettingError."""
    if not isinstance(values, (list, tuple, set, frozenset)) or not values:
        raise SettingError(f"{name} is {shown(values)}; expected a list of some of {', '.join(allowed)}")
    return list(dict.fromkeys(choice(value, name, allowed) for value in values))


def shown(value):
    """Return `value` as messages show it: on one line, and cut where it is long."""
    line = " ".join(repr(value).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
