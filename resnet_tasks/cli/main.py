"""`resnet-tasks`: the commands put together, and what becomes of their errors."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence

import click

from resnet_tasks.cli.about import backbones, demo, doctor
from resnet_tasks.cli.quiet import greet_nobody
from resnet_tasks.cli.recipes import recipes
from resnet_tasks.cli.tasks import TASKS, task_group
from resnet_tasks.cli.weights import weights
from resnet_tasks.errors import Interrupted, ResnetTasksError, UsageError
from resnet_tasks.kernels import prefer_onednn


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="resnet-tasks", prog_name="resnet-tasks")
def cli() -> None:
    """Residual networks as applications: train, evaluate, export; a group of commands a task."""


for _task in TASKS:
    cli.add_command(task_group(_task))
for _command in (recipes, backbones, weights, demo, doctor):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code and lets no exception out."""
    greet_nobody()
    prefer_onednn()
    _say_log_on_stderr()
    try:
        return cli.main(arguments, prog_name="resnet-tasks", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _say(error.format_message() + _help_of(error), UsageError.exit_code)
    except ResnetTasksError as error:
        return _say(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):  # outside of training, which would have written a checkpoint
        return _say("interrupted", Interrupted.exit_code)
    except OSError as error:
        return _say(_of_the_system(error), 1)
    except Exception as error:
        return _say(
            f"{type(error).__name__}: {error}\nthis is a defect of resnet-tasks; please report it, "
            "with the traceback that RESNET_TASKS_DEBUG=1 in front of the command shows",
            1,
        )


def _say(message: str, code: int) -> int:
    """Prints what went wrong, below its traceback if that was asked for."""
    if os.environ.get("RESNET_TASKS_DEBUG", "0") != "0":
        traceback.print_exc()
    click.echo(f"error: {message}", err=True)
    return code


def _say_log_on_stderr() -> None:
    logger = logging.getLogger("resnet_tasks")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)


def _help_of(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" (`{context.command_path} --help` shows what it takes)" if context else ""


def _of_the_system(error: OSError) -> str:
    """A full disk, no permission, ...: the file and what the system says of it."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{where}the disk is full; free some space and repeat (training: with --resume)"
    return f"{where}{error.strerror or error}"


if __name__ == "__main__":
    sys.exit(main())
