"""`resnet-tasks recipes list|show|copy`."""

import click


@click.group()
def recipes() -> None:
    """The recipes that come with the package."""


@recipes.command("list")
@click.argument("task", required=False)
def list_recipes(task: str | None) -> None:
    """Name every recipe, or those of TASK."""
    from resnet_tasks.recipes import find
    from resnet_tasks.recipes.schema import task_called

    names = find.names(None if task is None else task_called(task))
    width = max(map(len, names), default=0)
    for name in names:
        click.echo(f"{name:<{width}}  {find.summary(find.find(name))}")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe as it is written."""
    from resnet_tasks.recipes import find

    click.echo(find.find(name).read_text(encoding="utf-8"), nl=False)


@recipes.command()
@click.argument("name")
@click.argument("to", required=False, type=click.Path())
def copy(name: str, to: str | None) -> None:
    """Copy a recipe to the file or folder TO, to change it."""
    from resnet_tasks.recipes import find

    click.echo(find.copy(name, to))
