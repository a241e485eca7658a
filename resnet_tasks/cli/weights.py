"""`resnet-tasks weights list|fetch|inspect|convert`."""

from pathlib import Path

import click

from resnet_tasks.cli.options import echo_json, json_option


@click.group()
def weights() -> None:
    """Weights that others trained: fetch them, look into them, convert them."""


@weights.command("list")
@click.argument("backbone", required=False)
@json_option
def list_weights(backbone: str | None, as_json: bool) -> None:
    """Name what can be fetched, or what there is for BACKBONE.

    The accuracies are the publishers' own, in percent on the data named; the first of a backbone's rows is what
    `--weights imagenet` means for it.
    """
    from resnet_tasks.errors import UsageError, nearest
    from resnet_tasks.weights import sources

    rows = [row for row in sources.NAMED.values() if backbone in (None, row.backbone)]
    if not rows:
        known = {row.backbone for row in sources.NAMED.values()}
        raise UsageError(f"no weights of {backbone!r} are published at an address{nearest(str(backbone), known)}")
    if as_json:
        echo_json({"weights": [_as_json(row, sources.local(row.key)) for row in rows]})
        return
    table = [("name", "top-1", "on", "MB", "licence", "checked by", "here", "")]
    table += [
        (
            row.key,
            _number(row.top1),
            row.data,
            _number(row.megabytes),
            row.licence,
            "sha256" if row.sha256 else "md5" if row.md5 else "length",
            "yes" if sources.local(row.key) else "",
            row.note,
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = [f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)]
        cells[1], cells[3] = line[1].rjust(widths[1]), line[3].rjust(widths[3])
        click.echo("  ".join(cells).rstrip())


@weights.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch(names: tuple[str, ...]) -> None:
    """Bring weights by NAME, or the default ones of a backbone, to this machine.

    They are kept under RESNET_TASKS_HOME (~/.cache/resnet_tasks).  What was cut off goes on where it stopped.
    """
    from resnet_tasks.weights import sources

    for row in [sources.named(name) for name in names]:  # a name mistyped is told before anything is fetched
        click.echo(sources.fetch(row.key, say=lambda line: click.echo(line, err=True)))


@weights.command()
@click.argument("file", metavar="FILE|NAME|RUN")
def inspect(file: str) -> None:
    """Say what a file of weights holds, and which of our layers each would fill."""
    from resnet_tasks.weights import inspecting

    click.echo(inspecting.inspect(_file(file)))


@weights.command()
@click.argument("file", metavar="FILE|NAME|RUN")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="An .npz, ours.")
@click.option("--backbone", metavar="NAME", help="Instead of finding out what it fills.")
def convert(file: str, output: Path | None, backbone: str | None) -> None:
    """Write a file of weights anew, in this package's names and layout.

    Without --output beside where you stand, as NAME.resnet_tasks.npz.
    """
    from resnet_tasks.weights import inspecting

    path = _file(file)
    name = path.parent.resolve().name if path.name == "model.keras" else path.stem  # a run's by its folder
    click.echo(inspecting.convert_file(path, output or Path(f"{name}.resnet_tasks.npz"), backbone))


def _file(text: str) -> Path:
    from resnet_tasks.errors import UsageError
    from resnet_tasks.weights import sources

    path = sources.resolve(text)
    if path is None:
        raise UsageError(f"{text}: expected a file, a run folder or a name of `resnet-tasks weights list`")
    return path


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _as_json(row, path: Path | None) -> dict:
    names = ("key", "backbone", "publisher", "url", "sha256", "md5", "megabytes", "licence", "top1", "data", "note")
    return {**{name: getattr(row, name) for name in names}, "path": path}
