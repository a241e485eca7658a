"""The options that commands share, above all the flags that stand for one recipe key each."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click

SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


class LearningRate(click.ParamType):
    """A number, or `auto`."""

    name = "NUMBER|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value == "auto":
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"expected a number such as 0.1 or 1e-4, or auto; got {value!r}", param, ctx)


class PictureSize(click.ParamType):
    """A side in pixels, or height x width: `224`, `192x320`."""

    name = "SIDE|HEIGHTxWIDTH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | list[int]:
        try:
            sides = [int(side) for side in str(value).lower().split("x")]
        except ValueError:
            sides = []
        if len(sides) not in (1, 2) or min(sides) < 1:
            self.fail(f"expected pixels such as 224, or height x width such as 192x320; got {value!r}", param, ctx)
        return sides[0] if len(sides) == 1 else sides


class Flag(NamedTuple):
    """A flag of `train` that sets one recipe key; the schema checks its value."""

    option: str
    key: str
    type: Any
    metavar: str
    help: str


FLAGS = (
    Flag("--epochs", "train.epochs", int, "N", "Passes over the training pictures."),
    Flag("--batch-size", "train.batch_size", int, "N", "The global batch, over all devices."),
    Flag("--image-size", "model.image_size", PictureSize(), "SIDE|HxW", "Pixels of the network's input."),
    Flag("--lr", "train.lr", LearningRate(), "RATE|auto", "The highest learning rate."),
    Flag("--backbone", "model.backbone", str, "NAME", "See `resnet-tasks backbones`; or package.module:function."),
    Flag("--weights", "model.weights", str, "none|NAME|FILE|RUN", "What the backbone starts from; imagenet is a NAME."),
    Flag("--precision", "train.precision", str, "float32|bfloat16|float16|float64", "Of the arithmetic."),
    Flag("--seed", "train.seed", int, "N", "Of everything random."),
    Flag("--strategy", "train.strategy", str, "auto|one|mirrored|multiworker|tpu", "How devices work together."),
    Flag("--devices", "train.devices", str, "all|cpu:N|gpu:0,1", "cpu:N makes N logical devices of the CPU."),
    Flag("--on-nan", "train.on_nan", str, "stop|rollback", "On a loss that is not finite."),
    Flag("--cache", "data.cache", str, "off|ram|disk", "Where decoded pictures are kept."),
    Flag("--on-bad-image", "data.on_bad_image", str, "auto|skip|fail", "auto skips up to 1 % unreadable pictures."),
    Flag("--data-format", "data.format", str, "NAME", "Instead of finding out the format of the data."),
    Flag("--images", "data.images", str, "DIR", "Where the pictures of an annotation file lie."),
    Flag("--data-dir", "data.data_dir", str, "DIR", "Where TFDS keeps its data sets."),
)


SWITCHES = (
    Flag("--allow-partial", "model.allow_partial", bool, "", "Take weights that fill less than 95 % of the backbone."),
    Flag("--deterministic", "train.deterministic", bool, "", "The same numbers from the same command."),
)


def recipe_flags(command: Callable) -> Callable:
    """Adds all of `FLAGS`; `given_flags` turns what came into recipe keys."""
    for flag in reversed(FLAGS):
        option = click.option(flag.option, type=flag.type, metavar=flag.metavar, help=f"{flag.help}  [{flag.key}]")
        command = option(command)
    for switch in reversed(SWITCHES):
        help_text = f"{switch.help}  [{switch.key}]"
        command = click.option(switch.option, is_flag=True, default=None, help=help_text)(command)
    return command


def given_flags(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns dotted recipe keys to values, for the flags that were given."""
    keys = {flag.option.lstrip("-").replace("-", "_"): flag.key for flag in (*FLAGS, *SWITCHES)}
    return {keys[name]: value for name, value in parameters.items() if name in keys and value is not None}


def _where(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> str | dict[str, str] | None:
    """`--data X` is X; `--data train=X --data val=Y` is a mapping of splits."""
    named = [text.partition("=") for text in given]
    splits = {SPLITS[name]: where for name, equals, where in named if equals and name in SPLITS and where}
    if not given or (len(given) == 1 and not splits):
        return given[0] if given else None
    if len(splits) < len(given):
        raise click.BadParameter(
            f"got {', '.join(given)}; give one place, or one a split, each of train, val and test "
            "at most once: --data train=WHERE --data val=WHERE"
        )
    return splits


def _pairs(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, str] | None:
    """`--map A=B` as a mapping."""
    pairs = dict(text.rpartition("=")[::2] for text in given)
    if not all(name and to for name, to in pairs.items()):
        raise click.BadParameter(f"got {', '.join(given)}; expected NAME=NAME or NAME=ignore")
    return pairs or None


data_option = click.option(
    "--data",
    multiple=True,
    callback=_where,
    metavar="WHERE",
    help="A folder, an annotation file or tfds:NAME; train=WHERE, val=WHERE give splits apart.",
)
_READING = (
    click.option(
        "--data-format", metavar="NAME", default="auto", help="Instead of finding out the format of the data."
    ),
    click.option("--images", type=click.Path(), metavar="DIR", help="Where the pictures of an annotation file lie."),
    click.option("--data-dir", type=click.Path(), metavar="DIR", help="Where TFDS keeps its data sets."),
)


def reading_options(command):
    """How `--data` is read, for the verbs that take no recipe."""
    for option in reversed(_READING):
        command = option(command)
    return command


set_option = click.option("--set", "sets", multiple=True, metavar="KEY.PATH=VALUE", help="Any key of the recipe.")
map_option = click.option(
    "--map",
    "mapping",
    multiple=True,
    callback=_pairs,
    metavar="NAME=NAME|ignore",
    help="The model's name for a class of the data.",
)
output_option = click.option("--output", type=click.Path(), metavar="DIR", help="Where to write.")
json_option = click.option("--json", "as_json", is_flag=True, help="End with one line of JSON; logs go to stderr.")


def only_answers_on_stdout(as_json: bool) -> contextlib.AbstractContextManager:
    """Sends all that is printed inside to stderr, if the answer is to be JSON."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def echo_json(answer: Mapping[str, Any]) -> None:
    """Prints an answer as the one line of JSON; paths become text."""
    click.echo(json.dumps(answer, default=os.fspath, ensure_ascii=False))


def echo_values(values: Mapping[str, Any]) -> None:
    """Prints a mapping's plain values for people, a line each; nested ones stay in the files."""
    plain = {name: value for name, value in values.items() if not isinstance(value, dict | list)}
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        click.echo(f"{name:<{width}}  {f'{value:.6g}' if isinstance(value, float) else value}")
