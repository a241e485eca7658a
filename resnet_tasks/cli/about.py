"""`resnet-tasks backbones`, `demo` and `doctor`."""

import click

from resnet_tasks.cli.options import echo_values
from resnet_tasks.cli.tasks import TASKS


@click.command()
def backbones() -> None:
    """Every backbone and its size.

    The parameters are the trainable ones, without a task's head.
    """
    from resnet_tasks.backbones import catalog

    rows = [("name", "parameters", "levels", "paper")]
    for one in map(catalog.describe, catalog.names()):
        rows.append((one.name, f"{one.parameters:,}", f"{one.levels[0]}..{one.levels[-1]}", one.paper))
    name, parameters, levels, _ = (max(len(row[column]) for row in rows) for column in range(4))
    for row in rows:
        click.echo(f"{row[0]:<{name}}  {row[1]:>{parameters}}  {row[2]:<{levels}}  {row[3]}")


@click.command()
@click.argument("task", type=click.Choice(list(TASKS)), default=next(iter(TASKS)))
def demo(task: str) -> None:
    """The whole way on embedded data.

    Train, evaluate, export, reload and predict, in minutes on a CPU; nothing is downloaded.
    """
    from resnet_tasks.demo import demo

    done = demo(task)
    measure = "accuracy" if done["measure"] == "top1" else done["measure"]
    echo_values({measure: f"{done['accuracy']:.2%}", "report": done["report"], "SavedModel": done["saved_model"]})


@click.command()
def doctor() -> None:
    """What this installation has and lacks."""
    from resnet_tasks.doctor import doctor

    for line in doctor():
        click.echo(line)
