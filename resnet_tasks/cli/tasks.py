"""The verbs, written once, and the tasks that have them: `resnet-tasks TASK VERB`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from resnet_tasks.cli import answers
from resnet_tasks.cli import faces as of_faces
from resnet_tasks.cli.options import (
    PictureSize,
    data_option,
    echo_json,
    echo_values,
    given_flags,
    json_option,
    map_option,
    only_answers_on_stdout,
    output_option,
    reading_options,
    recipe_flags,
    set_option,
)
from resnet_tasks.errors import DataError


class TaskWords(NamedTuple):
    """What the command line knows of a task: a sentence, and how it words one picture's answer."""

    help: str
    answer: Callable[[Mapping[str, Any]], str]
    verbs: tuple[click.Command, ...] = ()  # that only this task has


TASKS = {
    "classify": TaskWords("What a picture shows: one label a picture.", answers.classify),
    "detect": TaskWords("Where things are in a picture: a box and a label for each.", answers.detect),
    "segment": TaskWords("What every pixel shows: a mask of labels for each picture.", answers.segment),
    "faces": TaskWords(
        "Whose face it is: an embedding for each picture, to compare.",
        answers.faces,
        (of_faces.verify, of_faces.enroll, of_faces.identify),
    ),
}


def task_group(task: str) -> click.Group:
    """Returns the group of a task's commands; the commands find the task's name in `ctx.obj`."""
    return click.Group(
        task, commands=[*VERBS, *TASKS[task].verbs], help=TASKS[task].help, context_settings={"obj": task}
    )


@click.command()
@click.argument("recipe", required=False)
@data_option
@set_option
@click.option("--run", type=click.Path(), metavar="DIR", help="The run folder; runs/TASK/RECIPE where it is not given.")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint; start where there is none.")
@recipe_flags
@click.option("--print-recipe", is_flag=True, help="Print the whole recipe that would run, and end.")
@click.pass_obj
def train(task, recipe, data, sets, run, resume, print_recipe, **flags) -> None:
    """Train a model by a recipe.

    RECIPE is a name (`resnet-tasks recipes list`) or a file.  Without one, the task's recipe for a
    folder of your own pictures is taken.  What counts, from weak to strong: the defaults, the
    recipe, --set, the flags.
    """
    flags = given_flags(flags)
    if print_recipe:
        from resnet_tasks.recipes.load import load_recipe, to_yaml

        resolved = load_recipe(recipe, task, sets, {**flags, "data.where": data})
        click.echo(to_yaml(resolved, comments=True), nl=False)
        return
    from resnet_tasks import commands

    folder = Path(commands.train(task, recipe, data=data, run=run, set=list(sets), flags=flags, resume=resume))
    echo_values({"run": folder, "model": folder / "model.keras", "report": folder / "report.html"})


@click.command()
@click.argument("model")
@data_option
@reading_options
@click.option("--split", metavar="NAME", help="train, val or test; test where there is one, else val.")
@click.option("--name", metavar="NAME", help="The folder below evaluation/; the split's name where it is not given.")
@output_option
@map_option
@json_option
@click.pass_obj
def evaluate(task, model, data, data_format, images, data_dir, split, name, output, mapping, as_json) -> None:
    """Measure a model on known pictures.

    MODEL is a run folder, a .keras file or an exported artefact.
    """
    from resnet_tasks import commands

    with only_answers_on_stdout(as_json):
        metrics = commands.evaluate(
            model,
            task=task,
            data=data,
            data_format=data_format,
            images=images,
            data_dir=data_dir,
            split=split,
            name=name,
            output=output,
            mapping=mapping,
        )
    echo_json(metrics) if as_json else echo_values(metrics)


@click.command()
@click.argument("model")
@click.argument("what", nargs=-1, required=True)
@output_option
@click.option("--threshold", type=float, metavar="T", help="Leave out answers below this score, 0 to 1.")
@click.option("--tile", is_flag=True, help="See large pictures at full size, in overlapping windows (detect, segment).")
@click.option("--draw", is_flag=True, help="Draw the answers, also for more than 100 pictures.")
@json_option
@click.pass_obj
def predict(task, model, what, output, threshold, tile, draw, as_json) -> None:
    """Answer for pictures.

    MODEL is a run folder, a .keras file or an exported artefact; WHAT are pictures, folders of
    pictures, or @list.txt with a picture a line.
    """
    from resnet_tasks import commands

    with only_answers_on_stdout(as_json):
        answer = commands.predict(
            model, list(what), task=task, output=output, threshold=threshold, draw=draw, tile=tile
        )
    echo_json(answer) if as_json else _echo_pictures(task, answer)
    if not _any_answered(answer):
        raise DataError("none of the pictures could be answered")


@click.command()
@click.argument("model")
@output_option
@click.option("--format", "form", default="saved_model", show_default=True, metavar="FORMAT", help="saved_model.")
@click.pass_obj
def export(task, model, output, form) -> None:
    """Write a model to be served.

    The artefact needs TensorFlow alone.  Its answers are compared with the model's; where they
    disagree, the exit code is 4.
    """
    from resnet_tasks import commands

    echo_values({form: commands.export(model, task=task, output=output, format=form)})


@click.command()
@data_option
@reading_options
@click.option("--image-size", type=PictureSize(), metavar="SIDE|HxW", help="Pixels of the network's input to judge by.")
@output_option
@json_option
@click.pass_obj
def check(task, data, data_format, images, data_dir, image_size, output, as_json) -> None:
    """Look for what is wrong with the data.

    Changes no file.  Exit code 3 if there are errors, 0 if there are only warnings.
    """
    from resnet_tasks import commands

    if data is None:
        raise click.UsageError("missing option --data: name the data to look at", click.get_current_context())
    with only_answers_on_stdout(as_json):
        report = commands.check(
            task,
            data,
            output=output,
            data_format=data_format,
            images=images,
            data_dir=data_dir,
            image_size=image_size,
        )
        click.echo(report.text())
    if as_json:
        echo_json(report.to_json())
    if report.errors:
        click.get_current_context().exit(DataError.exit_code)


@click.command()
@click.argument("model_or_recipe")
@json_option
@click.pass_obj
def benchmark(task, model_or_recipe, as_json) -> None:
    """Measure speed.

    Pictures a second, percentiles of the latency, the share of time spent waiting for data.
    """
    from resnet_tasks import commands

    with only_answers_on_stdout(as_json):
        figures = commands.benchmark(task, model_or_recipe)
    echo_json(figures) if as_json else echo_values(figures)


@click.command("lr-find")
@click.argument("recipe", required=False)
@data_option
@set_option
@recipe_flags
@json_option
@click.pass_obj
def lr_find(task, recipe, data, sets, as_json, **flags) -> None:
    """Propose a learning rate."""
    from resnet_tasks import commands

    with only_answers_on_stdout(as_json):
        found = commands.lr_find(task, recipe, data=data, set=list(sets), flags=given_flags(flags))
    echo_json(found) if as_json else echo_values(found)


VERBS = [train, evaluate, predict, export, check, benchmark, lr_find]


def _echo_pictures(task: str, answer: Mapping[str, Any]) -> None:
    if not isinstance(answer["pictures"], list):
        echo_values(answer)
        return
    for picture in answer["pictures"]:
        broken = "error" in picture
        words = f"error: {picture['error']}" if broken else TASKS[task].answer(picture)
        click.echo(f"{picture['file']}: {words}", err=broken)


def _any_answered(answer: Mapping[str, Any]) -> bool:
    """Of `{"pictures": [...]}`, or of the counts `{"pictures": n, "errors": n, ...}`."""
    pictures = answer["pictures"]
    if isinstance(pictures, list):
        return any("error" not in picture for picture in pictures)
    return pictures > answer["errors"]
