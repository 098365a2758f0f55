"""What devices read from a bundle's card, which may come from anywhere. Plain Python alone."""

if __package__:
    from zoo.errors import DataError
else:  # in a bundle
    from contents import DataError


def number(card, name, most):
    """Return the setting `name` of a card's recipe, a number above 0 and at most `most`.

    Raises:
        DataError: it is anything else.
    """
    value = card["settings"].get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise DataError(f"the card's {name} is {ascii(value)[:80]}; expected a number above 0, at most {most:g}")
    return value
