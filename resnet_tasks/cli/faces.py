"""The verbs that only faces have: `resnet-tasks faces verify|enroll|identify`."""

from pathlib import Path

import click

from resnet_tasks.cli.options import echo_json, echo_values, json_option, only_answers_on_stdout
from resnet_tasks.errors import DataError, UsageError

threshold_option = click.option(
    "--threshold", type=float, metavar="T", help="The least similarity of two pictures of one person; the model's own."
)


@click.command()
@click.argument("model")
@click.argument("first")
@click.argument("second")
@threshold_option
@json_option
def verify(model, first, second, threshold, as_json) -> None:
    """Say whether two pictures show the same person.

    MODEL is a run folder, a .keras file or an exported artefact; each picture shows one aligned face.
    """
    from resnet_tasks import recognition

    with only_answers_on_stdout(as_json):
        answer = recognition.verify(model, first, second, threshold=threshold)
    echo_json(answer) if as_json else echo_values(answer)


@click.command()
@click.argument("model")
@click.argument("gallery")
@click.argument("folder")
@click.option(
    "--add",
    is_flag=True,
    help="Keep those whom GALLERY holds; a known person gets the new pictures too, and a picture called as one that "
    "is there takes its place.",
)
@json_option
def enroll(model, gallery, folder, add, as_json) -> None:
    """Write the faces that are to be known to a file.

    GALLERY is the file; one that is there is replaced, which is said. FOLDER holds a folder of
    pictures for each person.
    """
    from resnet_tasks import recognition

    with only_answers_on_stdout(as_json):
        answer = recognition.enroll(model, gallery, folder, add=add)
    echo_json(answer) if as_json else echo_values(answer)


@click.command()
@click.argument("model")
@click.argument("gallery")
@click.argument("pictures", nargs=-1, required=True)
@threshold_option
@json_option
def identify(model, gallery, pictures, threshold, as_json) -> None:
    """Say who of a gallery each picture shows, or "unknown".

    GALLERY is what `enroll` wrote with the same MODEL; PICTURES are files, folders of them, or
    @list.txt with a picture a line.
    """
    from resnet_tasks import recognition

    with only_answers_on_stdout(as_json):
        answer = recognition.identify(model, gallery, pictures, threshold=threshold)
    if as_json:
        echo_json(answer)
    else:
        for picture in answer["pictures"]:
            broken = "error" in picture
            words = picture["error"] if broken else f"{picture['name']} ({picture['similarity']:.3f})"
            click.echo(f"{picture['file']}: {words}", err=broken)
    if all("error" in picture for picture in answer["pictures"]):
        if not any(Path(picture["file"]).exists() for picture in answer["pictures"]):
            raise UsageError("none of the pictures is there")
        raise DataError("none of the pictures could be answered")
