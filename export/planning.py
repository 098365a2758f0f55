"""Choose for every recurrent layer of a model the form in which it leaves."""

from dataclasses import dataclass, replace

from zoo import checks
from zoo.errors import ExportError, SettingError
from zoo.export.options import check_options
from zoo.export.rules import Unsuitable, find_rule, takes_steps

FORMS = ("native", "loop", "unrolled", "step")
MASKS = ("any", "right_padded")


@dataclass(frozen=True)
class Choice:
    """One row of a plan: the layer, the form it takes, and why."""

    layer: str
    kind: str
    form: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """The forms of all recurrent layers of a model for one format, target and scheme; `print(plan)` shows the table."""

    format: str
    target: str
    choices: tuple
    scheme: str = "float32"
    masks: str = "any"

    def form(self, use):
        """Return the form of the layer in `use`, a `Use`.

        A wrapper of two directions is one op or nothing of its own: None, as its layers then take its form. Likewise
        None is the form of what a native wrapper covers.
        """
        forms = {c.layer: c.form for c in self.choices}
        if use.path not in forms:
            around = forms.get(use.within)
            return None if around == "native" else around
        form = forms[use.path]
        return form if form == "native" or hasattr(use.layer, "cell") else None

    def override(self, forms):
        """Return a plan with other forms for some layers, {path: form}; an impossible form is an error at export."""
        known = [c.layer for c in self.choices]
        if not isinstance(forms, dict):
            raise SettingError(f"forms is {checks.shown(forms)}; expected a dict, the form of each layer by its path")
        for path, form in forms.items():
            if path not in known:
                raise SettingError(f"no recurrent layer {path!r} in this plan; it has {', '.join(known) or 'none'}")
            checks.choice(form, f"the form of {path}", FORMS)
        changed = (replace(c, form=forms[c.layer], reason="asked for") if c.layer in forms else c for c in self.choices)
        return replace(self, choices=tuple(changed))

    def __str__(self):
        rows = [("layer", "kind", "form", "reason")]
        rows += [(c.layer, c.kind, c.form, c.reason) for c in self.choices]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]) for row in rows]
        return "\n".join([f"{self.format} for {self.target}, {self.scheme}", *lines])


def plan(model, *, format, target="linux", scheme="float32", time_steps=None, state="reset", masks="any"):
    """Choose the form of every recurrent layer of `model`.

    The native form is taken where the format has an op with the same mathematics; else the loop, whose step is traced
    from the cell's own `call`, or one copy of the step for each time step where that was seen to be better. A sequence
    of one step needs neither.

    Args:
        model: any built Keras 3 model.
        format: "tflite" or "onnx".
        target: "linux", "android", "mcu" or "web".
        scheme: that the file is to be written in; see `zoo.export.rules.SCHEMES`.
        time_steps: length of the time axis, for models that leave it open; of a chunk, unless state is "reset".
        state: "reset", "internal" or "external", as the file is to be.
        masks: "any"; or "right_padded", your promise that masks only ever leave out the ends of sequences, as padding
            does, with which masked layers can be native ops too. No file checks it: where another mask comes, a native
            op takes as many steps as the mask has True, from the first on.

    Returns:
        A `Plan`.

    Raises:
        SettingError: an unknown format, target, scheme, state or kind of masks; a `time_steps` that cannot be.
        ExportError: a model that was never built, or that uses a stateful layer more than once.
    """
    from zoo.export.signature import fixed_batch, signature
    from zoo.export.trace import observe

    check_options(format=format, scheme=scheme, target=target, state=state)
    checks.choice(masks, "masks", MASKS)
    time_steps = checks.whole(time_steps, "time_steps", or_none=True)
    batch_size = None
    if format == "tflite":  # whose recurrent ops need a fixed batch; which one makes no difference to the plan
        batch_size = fixed_batch(model) or 1
    uses = observe(model, signature(model, batch_size=batch_size, time_steps=time_steps, state=state))
    return choose(uses, format=format, target=target, scheme=scheme, masks=masks)


def choose(uses, *, format, target, scheme="float32", masks="any"):
    """Return the `Plan` for the recurrent layers in `uses`, a list of `Use`."""
    choices, covered = [], set()
    for use in (replace(use, right_padded=masks == "right_padded", scheme=scheme) for use in uses):
        if use.within in covered:
            covered.add(use.path)
            continue
        form, reason = _form(use, format, target, scheme)
        wrapper = not hasattr(use.layer, "cell")
        if wrapper and form != "native":
            continue  # its two layers are planned one by one
        if form == "native":
            covered.add(use.path)
        choices.append(Choice(use.path, type(use.layer).__name__, form, reason))
    return Plan(format, target, tuple(choices), scheme, masks)


def _form(use, format, target, scheme):
    """Return the form that suits a layer best, and why."""
    reason = f"no native {format} op has a rule for this cell"
    found = find_rule(use, format=format)
    if found is not None:
        try:
            _check_native(found, use, target, scheme)
            reason = found.unless(use, target, scheme)
            if not reason:
                return "native", found.__doc__.strip().split("\n")[0]
        except Unsuitable as why:
            reason = str(why)
    if use.shape[1] == 1 and takes_steps(use.layer):
        return "step", "one step at a time"
    if format == "tflite" and takes_steps(use.layer):
        from zoo.export.tflite.rules import why_unrolled

        pays = why_unrolled(use, target, scheme)
        if pays:
            return "unrolled", pays
    return "loop", reason


def _check_native(found, use, target, scheme):
    """Return the `run` of the rule `found`, or raise `Unsuitable`."""
    if scheme not in found.schemes:
        raise Unsuitable(f"the op has no kernel for {scheme}")
    return found(use, target)


def check_plan(plan, *, format, target=None):
    """Raise SettingError unless `plan` is None, or was made for this format and target, None for any."""
    if plan is None:
        return
    if not isinstance(plan, Plan):
        raise SettingError(f"plan is a {type(plan).__name__}; expected what zoo.export.plan returns")
    target = target or plan.target
    if (plan.format, plan.target) != (format, target):
        raise SettingError(f"the plan is for {plan.format} on {plan.target}; expected one for {format} on {target}")


def check_planned(plan, uses, *, format, target):
    """Raise SettingError unless `plan` was made for the layers in `uses`."""
    planned = {choice.layer for choice in plan.choices}
    expected = {
        choice.layer
        for choice in choose(uses, format=format, target=target, scheme=plan.scheme, masks=plan.masks).choices
    }
    if planned != expected:
        odd = sorted(planned ^ expected)[0]
        raise SettingError(f"the plan is not of this model: only one of the two has a recurrent layer {odd!r}")


def native_run(use, plan):
    """Return the native `run` of the layer in `use` under `plan`, None if the plan says loop.

    Raises:
        ExportError: the plan asks for a native form that the layer cannot take.
    """
    if plan.form(use) != "native":
        return None
    found = find_rule(use, format=plan.format)
    try:
        if found is None:
            raise Unsuitable(f"no rule for {type(use.layer).__name__} in {plan.format}")
        use = replace(use, right_padded=plan.masks == "right_padded", scheme=plan.scheme)
        return _check_native(found, use, plan.target, plan.scheme)
    except Unsuitable as why:
        raise ExportError(f"{use.path} cannot be native: {why}; leave it out of the plan's overrides") from None
