"""Putting converted weights into a backbone, all or nothing, and saying what was loaded.

Works on any Keras backend through the variables' own methods; imports no Keras.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.weights import conversion, files, layouts, sources
from resnet_tasks.weights.checkpoint import Checkpoint
from resnet_tasks.weights.conventions import model_config
from resnet_tasks.weights.conversion import Conversion

ENOUGH = 0.95  # of a backbone's values; less is taken only when asked for
Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of RGB 0..255


@dataclass(frozen=True)
class TransferReport:
    """What became of a backbone's variables.

    Attributes:
        source: The file.
        convention: Whose names it has.
        levels: By level of the pyramid, finest first: `(values loaded, values in all)`.
        reinitialised: Variables that the file has nothing for; they start at random.
        unused: Names in the file that no variable takes.
        head: What became of the classifier.
    """

    source: str
    convention: str
    levels: dict[str, tuple[int, int]]
    reinitialised: tuple[str, ...]
    unused: tuple[str, ...]
    head: str = "the head starts at random"

    @property
    def share(self) -> float:
        """Of the backbone's values, moving statistics too, how many were loaded: 0..1."""
        loaded, every = (sum(column) for column in zip(*self.levels.values()))
        return loaded / every

    def text(self) -> str:
        """For people: a line a level, then what was not loaded, then what was not used."""
        lines = [f"weights from {self.source} ({self.convention}): {self.share:.1%} of the backbone loaded"]
        for level, (loaded, every) in self.levels.items():
            part = f"{loaded:,} of {every:,} values loaded" if loaded else "re-initialised"
            lines.append(f"  {level}: {'loaded' if loaded == every else part}")
        lines.append(f"  re-initialised: {_some(self.reinitialised)}")
        lines.append(f"  unused: {_some(self.unused)}")
        return "\n".join([*lines, f"  {self.head}"])

    def to_json(self) -> dict:
        """The same as plain data."""
        levels = {level: {"loaded": loaded, "values": every} for level, (loaded, every) in self.levels.items()}
        return {
            "source": self.source,
            "convention": self.convention,
            "share": self.share,
            "levels": levels,
            "reinitialised": list(self.reinitialised),
            "unused": list(self.unused),
            "head": self.head,
        }


@dataclass(frozen=True)
class Transfer:
    """Weights that wait for their backbone.

    Attributes:
        source: The file they are from.
        conversion: Their values by our variables' names.
        class_names: Of the classifier in them, where that is known; `()` else.
        allow_partial: Whether less than 95 % of a backbone will do.
    """

    source: Path
    conversion: Conversion
    class_names: tuple[str, ...] = ()
    allow_partial: bool = False

    @property
    def standardise(self) -> Constants | None:
        """The mean and deviation that they were trained with; `None` for the backbone's own."""
        return self.conversion.standardise

    def is_whole(self, backbone: str) -> bool:
        """Whether they fill a backbone of the catalogue, as far as is asked for where nothing else is allowed."""
        sizes = {path: int(np.prod(shape)) for path, shape in layouts.layout(backbone).items()}
        filled = _with_statistics(self.conversion.values, sizes)
        return sum(size for path, size in sizes.items() if path in filled) >= ENOUGH * sum(sizes.values())

    def apply(self, pyramid) -> TransferReport:
        """Loads them; nothing is changed if that fails.

        Args:
            pyramid: A `Pyramid`.

        Raises:
            DataError: A shape differs, or less than 95 % of the backbone would be loaded and that is not allowed.
        """
        variables = {variable.path: variable for variable in pyramid.variables}
        values = _with_statistics(self.conversion.values, variables)
        for path in values.keys() & variables.keys():
            got, expected = values[path].shape, tuple(variables[path].shape)
            if got != expected:
                raise DataError(
                    f"{self.source}: {path} is {got}, and {pyramid.name} has {expected}; these are another network's"
                )
        counted = [path for path in variables if "seed_generator" not in path]
        levels: dict[str, tuple[int, int]] = {}
        of_layer = pyramid.layer_levels
        for path in counted:
            level, size = of_layer[path.rpartition("/")[0]], int(np.prod(variables[path].shape))
            loaded, every = levels.get(level, (0, 0))
            levels[level] = (loaded + size * (path in values), every + size)
        missing = tuple(path for path in counted if path not in values)
        dropped = self.conversion.values.keys() - (values.keys() & variables.keys())
        unused = (*self.conversion.unused, *sorted(dropped))
        report = TransferReport(str(self.source), self.conversion.convention, levels, missing, unused)
        if report.share < ENOUGH and not self.allow_partial:
            raise DataError(
                f"{self.source}: a partial set of weights, {report.share:.1%} of {pyramid.name}; lacking are "
                f"{_some(missing)}; pass --allow-partial (allow_partial=True) to start the rest at random"
            )
        for path in values.keys() & variables.keys():
            variables[path].assign(values[path])
        if self.standardise is not None:
            set_standardise(pyramid, self.standardise)
        return report

    def head_rows(self, class_names: tuple[str, ...]) -> dict[str, tuple[np.ndarray, float]]:
        """For the classes that the weights know by the same name: `{name: (kernel (features,), bias)}`."""
        head = self.conversion.head
        if head is None or len(self.class_names) != head["kernel"].shape[-1]:
            return {}
        known = {name: index for index, name in enumerate(self.class_names)}
        rows = {name: known[name] for name in class_names if name in known}
        return {name: (head["kernel"][:, row], float(head["bias"][row])) for name, row in rows.items()}


def find(weights: str | None, backbone: str, allow_partial: bool = False) -> Transfer | None:
    """Reads and converts what a user named.

    Args:
        weights: "none", a name of `weights list`, "imagenet", a file, or a run folder.
        backbone: The catalogue's name that they are for.
        allow_partial: Whether less than 95 % of a backbone will do.

    Raises:
        UsageError: There is no such name or path, or it has not been fetched.
        DataError: The file cannot be read, or its weights are another network's.
    """
    path = None if weights is None else sources.resolve(weights, backbone)
    if path is None:
        return None
    checkpoint = files.read(path)
    converted, row = conversion.convert(checkpoint, backbone), sources.published_as(path)
    if row and row.standardise:  # what a publisher's file cannot say of itself
        converted = replace(converted, standardise=row.standardise)
    return Transfer(path, converted, _class_names(checkpoint), allow_partial)


def set_standardise(pyramid, constants: Constants) -> None:
    """Lets a backbone's first layer normalise by this mean and deviation of RGB 0..255.

    Raises:
        UsageError: It has no such layer: its preprocessing is fixed.
    """
    layer = next((layer for layer in pyramid.layers if layer.name == "standardise"), None)
    if layer is None:
        raise UsageError(f"{pyramid.name} normalises its pictures in a way of its own, which cannot be changed")
    mean, deviation = constants
    layer.scale = [1 / d for d in deviation]
    layer.offset = [-m / d for m, d in zip(mean, deviation)]


def start(pyramid, transfer: Transfer | None, standardise: Constants | None) -> TransferReport | None:
    """A backbone as a run begins it: with its preprocessing, and with the weights if there are any."""
    if standardise is not None:
        set_standardise(pyramid, standardise)
    return transfer.apply(pyramid) if transfer else None


def _with_statistics(values: dict[str, np.ndarray], variables: Iterable[str]) -> dict[str, np.ndarray]:
    """The values less the norms without the moving statistics that the backbone has: a group norm's are others."""
    lacking = {
        path.rpartition("/")[0]
        for path in variables
        if path.endswith(("/moving_mean", "/moving_variance")) and path not in values
    }
    return {path: value for path, value in values.items() if path.rpartition("/")[0] not in lacking}


def _class_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The classes of a classifier of one's own, as its `.keras` file says them."""
    config = model_config.read(checkpoint.path).get("config", {}) if checkpoint.format == "keras" else {}
    return tuple(config.get("class_names", ())) if isinstance(config, dict) else ()


def _some(names: tuple[str, ...], count: int = 6) -> str:
    shown = ", ".join(names[:count]) or "nothing"
    return shown + (f" and {len(names) - count} more" if len(names) > count else "")
