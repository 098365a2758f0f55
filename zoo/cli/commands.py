"""All commands of `zoo` but `train`."""

import dataclasses
import importlib
import os
from pathlib import Path
from typing import Annotated

import typer

from zoo import __version__, checks, recipes
from zoo.cli import training
from zoo.cli.terminal import console, print_scores
from zoo.errors import DataError, SettingError, VerifyError
from zoo.export.rules import FORMATS, SCHEMES, TARGETS

app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.add_typer(training.app, name="train")


def _version(wanted):
    if wanted:
        print(f"recurrent-zoo {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def zoo(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, help="Print the version.")] = False,
):
    """Recurrent networks that reach the edge: train a recipe, export it, verify and run the files."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_recipes():
    """List the recipes."""
    width = max(map(len, recipes.names()))
    for name, line in recipes.names().items():
        print(f"{name:{width}}  {line}")


def _several(values):
    return typer.Option(help=f"One of {', '.join(values)}; repeat for several.")


_Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `zoo train` wrote.")]
_Bundle = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that `zoo export` wrote.")]
_Out = Annotated[Path | None, typer.Option(help="New folder for the files.")]


@app.command()
def evaluate(
    run: _Run,
    data: Annotated[str | None, typer.Option(help="Other data than the run's, named as for `zoo train`.")] = None,
):
    """Print the scores of a trained recipe on its test data."""
    from zoo.recipes.base import check_fits

    recipe, model = recipes.load(run)
    if data is not None:
        recipe = dataclasses.replace(recipe, data=data)
    check_fits(recipe, model)
    print_scores(recipe.evaluate(model))


@app.command()
def export(
    run: _Run,
    out: _Out = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print how each layer would leave; write nothing.")] = False,
    format: Annotated[list[str], _several(FORMATS)] = list(FORMATS),  # noqa: B006  typer copies it
    scheme: Annotated[list[str], _several(SCHEMES)] = ["float32", "dynamic_int8"],  # noqa: B006
    target: Annotated[list[str], _several(TARGETS)] = ["linux"],  # noqa: B006
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Also write files that read a clip in chunks.")
    ] = False,
):
    """Write a trained recipe as files for a device, verified."""
    from zoo import export
    from zoo.export import contents
    from zoo.recipes.base import check_fits, check_new

    for name, values, allowed in (
        ("format", format, FORMATS),
        ("scheme", scheme, SCHEMES),
        ("target", target, TARGETS),
    ):
        for value in values:
            checks.choice(value, name, allowed)
    if not plan:
        if out is None:
            raise SettingError("no folder to write to: name a new one with --out FOLDER, or say --plan to write none.")
        check_new(out)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # which the exporters trace with; it loads what any backend trained
    with console().status("loading the model") as status:
        recipe, model = recipes.load(run)
        if plan:
            models = recipe.parts(model).values() if hasattr(recipe, "parts") else [model]
            plans = [export.plan(m, format=one, target=where) for m in models for one in format for where in target]
        else:
            check_fits(recipe, model)
            status.update("writing and verifying the files")
            export.bundle(recipe, model, out, formats=format, schemes=scheme, targets=target, streaming=streaming)
    if plan:
        print("\n\n".join(map(str, plans)))
    else:
        _print_results(contents.read_card(out))
        print(f"wrote {out}")


def _print_results(card):
    """Print the size, speed and quality of every file of a bundle, as its card has them."""
    metric = card["metric"]
    rows = [("file", "KiB", "ms", metric["name"]), ("(the Keras model)", "", "", f"{metric['model']:.4f}")]
    for model in card["models"]:
        row = (model["name"], f"{model['bytes'] / 1024:.0f}", f"{model['latency_ms']:.3f}", f"{model['metric']:.4f}")
        rows.append(row)
    width = max(len(row[0]) for row in rows)
    for name, size, time, quality in rows:
        print(f"{name:{width}}  {size:>6}  {time:>7}  {quality:>{len(metric['name'])}}")


@app.command()
def diagnose(run: _Run):
    """Show what went wrong in training, by which measure, and what to do; of an unfinished run too."""
    from zoo.train import report

    print(report.read(run))


@app.command()
def doctor(
    path: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="A run's folder or a .keras file.")] = None,
):
    """Show libraries and devices, and which layers of a model run on cuDNN."""
    from zoo.train import doctor

    model = path and (recipes.load(path)[1] if path.is_dir() else recipes.read_model(path))
    report = doctor.surroundings_report()
    for topic, text in report.items():
        print(f"{topic:12}  {text}")
    if model:
        findings = doctor.cudnn_report(model)
        print("\nrecurrent layers, where there is a GPU:" if findings else "\nno recurrent layers")
        print("\n".join(map(str, findings)))


@app.command()
def verify(folder: _Bundle):
    """Run exported files and compare them with the trained model."""
    from zoo import export

    try:
        print(export.verify(folder))
    except VerifyError as error:
        print(error.report)
        raise


@app.command()
def run(
    folder: _Bundle,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A wav, for example.")],
    file: Annotated[str | None, typer.Option(help="One of the folder's model files.  [default: the first]")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Read FILE in chunks and answer after each.")] = False,
    draw: Annotated[Path | None, typer.Option(help="Draw the answer into this new PNG, where the recipe can.")] = None,
):
    """Run an exported file in the runtime that a device uses."""
    from zoo.export import contents, runner

    recipe = contents.read_card(folder)["recipe"]
    if recipe not in recipes.names():
        raise DataError(f"{folder} is for the recipe {recipe!r}, expected one of {', '.join(recipes.names())}.")
    task = importlib.import_module(f"zoo.recipes.{recipe}.device")
    if stream:
        for heard, answer in runner.run_in_chunks(folder, path, task, file):
            first, *_ = task.show(answer).splitlines()
            print(f"{heard:4.0%}  {first}")
        return
    answer = runner.run(folder, path, task, file)
    if draw:
        runner.draw(answer, path, task, draw)
    print(task.show(answer))
