"""A file of weights shown to people, and written anew in this project's own names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resnet_tasks.errors import DataError, ResnetTasksError, UsageError
from resnet_tasks.weights import files, layouts
from resnet_tasks.weights.checkpoint import Checkpoint
from resnet_tasks.weights.conventions.reading import HEAD, Reading
from resnet_tasks.weights.conversion import convert, fitting, read_names

WRITTEN = (".npz", ".safetensors")


def inspect(path: str | os.PathLike) -> str:
    """What is in a file: format, convention, the backbone it fits, every tensor and the variable that it fills.

    A file that fits no backbone is described too, with the reason.

    Raises:
        UsageError: There is no such file.
        DataError: It cannot be read.
    """
    checkpoint = files.read(path)
    size = sum(tensor.size for tensor in checkpoint.tensors.values())
    lines = [f"{path}: {checkpoint.format}, {len(checkpoint.tensors)} tensors, {size:,} values"]
    lines += [f"  {key}: {value}" for key, value in checkpoint.details.items() if isinstance(value, (str, int, float))]
    try:
        reading = read_names(checkpoint)
    except DataError as error:
        return "\n".join([*lines, f"  {_without_path(error, checkpoint)}", "", *_table(checkpoint, {})])
    names = fitting(checkpoint, reading)
    lines.append(f"  names of {reading.convention}")
    lines.append(f"  looks like {names[0]}" if names else "  fits no backbone of the catalogue")
    if len(names) > 1:
        lines.append(f"  fits, less well or as well: {', '.join(names[1:5])}")
    lines += _why_not(checkpoint, reading) if not names else _summary(reading, names[0])
    return "\n".join([*lines, "", *_table(checkpoint, reading.sources)])


def convert_file(path: str | os.PathLike, output: Path, name: str | None = None) -> str:
    """Writes the weights in our own names, with their preprocessing and their origin, so that they need no convention.

    Args:
        path: A file of weights.
        output: `.npz` or `.safetensors`; replaced only when the new file is whole.
        name: The catalogue's name; without one, what the weights look like.

    Returns:
        A sentence that says what was written.

    Raises:
        UsageError: A path or a name that does not exist, or an ending that is not written.
        DataError: The weights are not that backbone's.
    """
    output = Path(output)
    if output.suffix not in WRITTEN:
        raise UsageError(f"{output}: weights are written as {' or '.join(WRITTEN)}; name one of these")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}")
    checkpoint = files.read(path)
    if name is None:
        reading = read_names(checkpoint)
        # Without a name that fits, any other says what is wrong.
        name = next(iter(fitting(checkpoint, reading)), "resnet_50")
    converted = convert(checkpoint, name)
    tensors = dict(converted.values)
    tensors |= {HEAD + leaf: value for leaf, value in (converted.head or {}).items()}
    if converted.standardise is not None:
        mean, deviation = (np.array(values, np.float32) for values in converted.standardise)
        tensors |= {"standardise/mean": mean, "standardise/deviation": deviation}
    note = {"backbone": name, "convention": converted.convention, "source": Path(path).name}
    tensors["note"] = np.frombuffer(json.dumps(note).encode(), np.uint8)
    _write(output, tensors)
    found, every = len(converted.values), len(layouts.layout(name))
    head = f", a classifier of {len(converted.head['bias'])} classes" if converted.head else ""
    left = f"; {len(converted.unused)} tensors were not used" if converted.unused else ""
    return f"{output}: {name} from {converted.convention} weights, {found} of {every} variables{head}{left}"


def _without_path(error: ResnetTasksError, checkpoint: Checkpoint) -> str:
    return str(error).removeprefix(f"{checkpoint.path}: ")


def _why_not(checkpoint: Checkpoint, reading: Reading) -> list[str]:
    """Against the backbone that shares the most names with it."""
    shared = {name: len(layouts.layout(name).keys() & reading.values.keys()) for name in layouts.names()}
    likest = max(shared, key=lambda name: (shared[name], -len(layouts.layout(name))))
    try:
        convert(checkpoint, likest)
    except DataError as error:
        return [f"  {_without_path(error, checkpoint)}"]
    return []


def _summary(reading: Reading, name: str) -> list[str]:
    """By part of the network, how much of it is there; then the head and the preprocessing."""
    layout = layouts.layout(name)
    counts: dict[str, tuple[int, int]] = {}
    for path in layout:
        part = layouts.part_of(name, path)
        found, every = counts.get(part, (0, 0))
        counts[part] = (found + (path in reading.values), every + 1)
    lines = []
    for part, (found, every) in counts.items():
        amount = "whole" if found == every else "none" if not found else "part"
        lines.append(f"  {part + ':':14} {amount:5} ({found} of {every} variables)")
    shapes = ", ".join(f"{leaf} {value.shape}" for leaf, value in reading.head.items())
    lines.append(f"  {'head:':14} {shapes or 'none'}")
    if reading.standardise is not None:
        mean, deviation = (", ".join(f"{value:.3f}" for value in values) for values in reading.standardise)
        lines.append(f"  trained on RGB 0..255 less ({mean}) over ({deviation})")
    return lines


def _table(checkpoint: Checkpoint, sources: Mapping[str, str]) -> list[str]:
    """A line a tensor: their name, its shape, our variable or `-`."""
    rows = [("tensor", "shape", "fills")]
    rows += [
        (name, "x".join(map(str, tensor.shape)) or "scalar", sources.get(name, "-"))
        for name, tensor in checkpoint.tensors.items()
    ]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{name:{first}}  {shape:{second}}  {path}" for name, shape, path in rows]


def _write(output: Path, tensors: dict[str, np.ndarray]) -> None:
    """All or nothing: an older file stays until the new one is on the disk."""
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            if output.suffix == ".npz":
                np.savez(file, **tensors)  # type: ignore[arg-type]
            else:
                _write_safetensors(file, tensors)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(output)
    except OSError as error:
        raise ResnetTasksError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _write_safetensors(file, tensors: dict[str, np.ndarray]) -> None:
    """https://huggingface.co/docs/safetensors: the header's length, the header in JSON, the numbers."""
    header, begin = {}, 0
    for name, tensor in tensors.items():
        kind = {"float32": "F32", "uint8": "U8"}[tensor.dtype.name]
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": (begin, begin + tensor.nbytes)}
        begin += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.write(np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<")).tobytes())
