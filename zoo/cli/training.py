"""`zoo train`: one command for each recipe, one option for each of its settings."""

import dataclasses
import inspect
import json
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from zoo import recipes
from zoo.cli.terminal import console, print_scores
from zoo.errors import Interrupted


class Recipes(TyperGroup):
    """A command for each recipe, made when it is asked for, as a recipe's module may import Keras."""

    def list_commands(self, context):
        return list(recipes.names())

    def get_command(self, context, name):
        return _command(name, recipes.get(name))

    def format_commands(self, context, formatter):
        with formatter.section("Recipes"):
            formatter.write_dl(list(recipes.names().items()))


app = typer.Typer(cls=Recipes, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def train(context: typer.Context):
    """Train a recipe; `zoo train RECIPE --help` shows its settings."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def _command(name, recipe):
    def command(out, checkpoint_every, tensorboard, devices, wait, **settings):
        with _shared_out(out, devices, wait) as (folder, cluster):
            _train(recipe(**settings), folder, cluster, every=checkpoint_every, tensorboard=tensorboard)

    parameters = dict(_OF_THE_RUN)
    for each in dataclasses.fields(recipe):
        parameters[each.name] = (Annotated[each.type, _option(each)], each.default)
    command.__doc__ = inspect.getdoc(recipe).partition("\n")[0]
    command.__signature__ = inspect.Signature(
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for key, (annotation, default) in parameters.items()
    )
    command.__annotations__ = {key: annotation for key, (annotation, _) in parameters.items()}
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(command)
    return typer.main.get_command(single)


def _option(each):
    """Return the option for one field of a recipe; its range and choices are checked by the recipe itself."""
    help = each.metadata["help"] + ('  [default: ""]' if each.default == "" else "")
    if each.type is bool:
        return typer.Option(help=help)
    metavar = "|".join(each.metadata["choices"]) or each.type.__name__.upper()
    return typer.Option(help=help, metavar=metavar, parser=_NUMBERS.get(each.type))


_OF_THE_RUN = {  # options of every recipe: (annotation, default)
    "out": (
        Annotated[Path, typer.Option(help="New folder for the run. If it was interrupted, the same command goes on.")],
        inspect.Parameter.empty,
    ),
    "checkpoint_every": (
        Annotated[int, typer.Option(min=0, help="Batches between checkpoints; 0 for one after each epoch alone.")],
        0,
    ),
    "tensorboard": (Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")], False),
    "devices": (
        Annotated[
            str,
            typer.Option(
                help="How many devices of this machine share each batch, all, or cluster for the machines that the "
                "environment describes.",
                metavar="NUMBER|all|cluster",
            ),
        ],
        "1",
    ),
    "wait": (Annotated[float, typer.Option(help="Seconds until all workers of a cluster must have come.")], 60.0),
}


def _parser(kind, expected):
    def parse(text):
        try:
            return kind(text)
        except ValueError:
            raise typer.BadParameter(f"received {text!r}, expected {expected}") from None

    return parse


_NUMBERS = {int: _parser(int, "a whole number"), float: _parser(float, "a number")}


@contextmanager
def _shared_out(out, devices, wait):
    """Share training out; yield the folder to write to and the cluster, if there is one.

    Workers but the chief write to a folder that is removed: all train alike, and one run is what stays.
    """
    from zoo.recipes.base import check_new
    from zoo.train.many_devices import distributed

    check_new(out)
    with distributed(int(devices) if devices.isdigit() else devices, wait=wait) as sharing:
        if sharing.chief:
            yield out, sharing.cluster
        else:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder, out.name), sharing.cluster


def _train(recipe, out, cluster, *, every, tensorboard):
    from zoo.recipes.base import write_run
    from zoo.train.run_folder import RunFolder

    with RunFolder(out, recipe, cluster=cluster) as run:
        finished = run.finished
        if cluster:
            finished, *_ = cluster.exchange(finished)
        if not finished:
            if run.resumable:
                console().print(f"going on from the last checkpoint in {run.path}", highlight=False, soft_wrap=True)
            try:
                with _progress() as bar:
                    kept = run.callbacks(every=every, tensorboard=tensorboard)
                    model, scores = recipe.train(callbacks=[bar, *kept], verbose=0)
                write_run(run.path, recipe, model, scores)
            except KeyboardInterrupt:
                if run.resumable:
                    raise Interrupted(f"interrupted; the same command goes on from {run.path}.") from None
                raise
        if cluster and not cluster.chief:
            return
        scores = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))
        run.finish()
    print_scores(scores)
    print(f"wrote {out}")


@contextmanager
def _progress():
    """Yield a Keras callback that shows how far training is: a bar on a terminal, else a line for each epoch."""
    import keras
    from rich import progress

    screen = console()
    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=None),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[speed]}"),
        progress.TextColumn("{task.fields[scores]}"),
        console=screen,
        disable=not screen.is_terminal,
    )

    class Progress(keras.callbacks.Callback):
        """Moves the bar batch by batch; without a terminal, prints one line for each epoch."""

        def on_train_begin(self, logs=None):
            steps = self.params["steps"]  # None when Keras cannot know
            self.task = bar.add_task("reading", total=steps and steps * self.params["epochs"], scores="", speed="")
            self.first = True

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch, self.start = f"epoch {epoch + 1}/{self.params['epochs']}", time.perf_counter()
            if self.first:  # a run that goes on has done some already, which tells nothing of its speed
                bar.reset(self.task, completed=epoch * (self.params["steps"] or 0))
            self.first = False
            bar.update(self.task, description=self.epoch)

        def on_train_batch_end(self, batch, logs=None):
            bar.advance(self.task)
            self.rate = (batch + 1) / (time.perf_counter() - self.start)
            bar.update(self.task, speed=f"{self.rate:.3g} batches/s")

        def on_epoch_end(self, epoch, logs=None):
            shown = [key for key in logs if key == "loss" or (key.startswith("val_") and key != "val_loss")]
            scores = "  ".join(f"{key} {logs[key]:.3f}" for key in shown)
            bar.update(self.task, scores=scores)
            if bar.disable:
                screen.print(f"{self.epoch}  {scores}  {self.rate:.3g} batches/s", highlight=False, soft_wrap=True)

    with bar:
        yield Progress()
