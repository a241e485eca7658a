"""Keras's files: `.keras`, `.weights.h5`, and the HDF5 of Keras before 3; read by h5py, without Keras itself."""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_tasks.weights.bounds import Unreadable, check_unpacked, counted, from_bfloat16
from resnet_tasks.weights.checkpoint import Checkpoint
from resnet_tasks.weights.keras_names import Group, named, named_as_before

if TYPE_CHECKING:
    import h5py

MAGIC = b"\x89HDF\r\n\x1a\n"
CONFIG = "config.json"
_WEIGHTS = "model.weights.h5"
_NO_WEIGHTS = re.compile(r"optimizer$|.*seed_generator(_\d+)?$")  # groups of a training's state


def read_keras(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    """Reads `model.save("x.keras")`: the layers' names are those of the model."""
    import h5py

    if _WEIGHTS not in archive.namelist():
        raise Unreadable(f"is a zip archive with {CONFIG} and without {_WEIGHTS}: no whole model of Keras")
    size = path.stat().st_size
    check_unpacked(sum(entry.file_size for entry in archive.infolist()), size)
    config = _json(archive.read(CONFIG), CONFIG)
    with h5py.File(io.BytesIO(archive.read(_WEIGHTS)), "r") as file:
        tensors, details = _modern(file, config, size)
    if "metadata.json" in archive.namelist():
        details["keras version"] = str(_json(archive.read("metadata.json"), "metadata.json").get("keras_version", "?"))
    return Checkpoint(path, "keras", tensors, details)


def read_h5(path: Path) -> Checkpoint:
    """Reads HDF5: `save_weights("x.weights.h5")` of Keras 3, and what Keras 1 and 2 saved."""
    import h5py

    with h5py.File(path, "r") as file:
        size = path.stat().st_size
        root = _item(file, "model_weights") if "model_weights" in file else file
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            tensors, details = _before_3(file, root, size)
        else:
            tensors, details = _modern(file, None, size)
    return Checkpoint(path, "h5", tensors, details)


def _json(text: bytes, name: str) -> dict:
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"has a {name} that is no JSON ({error}): it is damaged") from error
    if not isinstance(value, dict):
        raise Unreadable(f"has a {name} that is no JSON object: it is damaged")
    return value


def _model(config: dict) -> dict[str, Any]:
    """The class and the name of the model that a config describes."""
    settings = config.get("config")
    found = {"class": config.get("registered_name") or config.get("class_name")}
    found["name"] = settings.get("name") if isinstance(settings, dict) else None
    return {key: value for key, value in found.items() if value}


def _modern(file: "h5py.File", config: dict | None, size: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The layout of Keras 3: each layer's variables numbered, in a group `vars`."""
    budget = _Budget(size)
    left_out: list[str] = []
    groups = [_group(holder, path, budget) for path, holder in _holders(file, (), set(), left_out)]
    if not any(group.variables for group in groups):
        raise Unreadable("is an HDF5 file without the layers' variables as any version of Keras writes them")
    tensors, own_names = named(groups, config)
    details: dict[str, Any] = _model(config) if config else {}
    if not own_names:
        details["names"] = "counted by class; the file does not say what its layers were called"
    if left_out:
        details["left out"] = left_out
    return tensors, details


def _holders(group: "h5py.Group", path: tuple[str, ...], seen: set[int], left_out: list[str]):
    """Every group `vars` below, with the path of the layer that it belongs to; a group that occurs twice comes once."""
    import h5py

    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        return
    seen.add(address)
    for name in sorted(group, key=_natural):
        inner = _item(group, name)
        if not isinstance(inner, h5py.Group):
            continue
        if name == "vars":
            yield path, inner
        elif _NO_WEIGHTS.match(name) and (path == () or "seed" in name):
            left_out.append("/".join((*path, name)))
        elif len(path) < 100:
            yield from _holders(inner, (*path, name), seen, left_out)


def _natural(name: str) -> list:
    """Sorts conv2d_2 before conv2d_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _group(holder: "h5py.Group", path: tuple[str, ...], budget: "_Budget") -> Group:
    variables = [budget.array(_item(holder, name), f"{'/'.join(path)}/{name}") for name in sorted(holder, key=_natural)]
    name = _text(holder.attrs.get("name"))
    return Group(path, name if path else None, variables)


def _before_3(file: "h5py.File", root: "h5py.Group", size: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The layout before Keras 3: attributes list the layers, and each layer's weights by name."""
    budget = _Budget(size)
    layers = []
    for layer in [*_listed(root, "layer_names"), "top_level_model_weights"]:
        if layer not in root:
            if layer == "top_level_model_weights":
                continue
            raise Unreadable(f"lists the layer {layer!r} and does not have it: it is damaged")
        group = _item(root, layer)
        weights = [(name, budget.array(_item(group, name), name)) for name in _listed(group, "weight_names")]
        layers.append((layer, weights))
    details: dict[str, Any] = {}
    if "model_config" in file.attrs:
        details |= _model(_json(_text(file.attrs["model_config"]).encode(), "model_config"))
    for place in (root, file):
        if "keras_version" in place.attrs:
            details["keras version"] = _text(place.attrs["keras_version"])
    return named_as_before(layers), details


def _listed(group: "h5py.Group", name: str) -> list[str]:
    """An attribute's names; a long list is cut into `name0`, `name1`, ..."""
    if name in group.attrs:
        return [_text(one) for one in group.attrs[name]]
    found: list[str] = []
    part = 0
    while f"{name}{part}" in group.attrs:
        found += [_text(one) for one in group.attrs[f"{name}{part}"]]
        part += 1
    return found


def _text(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value if value is None else str(value)


def _item(group: "h5py.Group", name: str) -> Any:
    """What lies at a path, following no link to another file."""
    import h5py

    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) and part in group else None
        if not isinstance(link, h5py.HardLink):
            what = "is not there" if link is None else "leads elsewhere, perhaps out of the file: refused"
            raise Unreadable(f"has {name!r}, which {what}")
        group = group[part]
    return group


class _Budget:
    """Reads data sets, and no more of them than the file can hold."""

    def __init__(self, file_size: int):
        self._file_size, self._read = file_size, 0

    def array(self, data: Any, name: str) -> np.ndarray:
        import h5py

        if not isinstance(data, h5py.Dataset) or data.shape is None:
            raise Unreadable(f"has no array where {name!r} should be")
        if data.is_virtual or data.external:
            raise Unreadable(f"keeps {name!r} in another file: refused")
        size = counted(int(side) for side in data.shape) * data.dtype.itemsize
        stored = data.id.get_storage_size()
        if size and (stored == 0 or (data.chunks is None and stored < size)):
            raise Unreadable(f"states {name!r} of {data.dtype} {data.shape} and does not hold its numbers")
        self._read += size
        check_unpacked(self._read, self._file_size)
        if data.attrs.get("dtype") == "bfloat16" and data.dtype.itemsize == 2:
            return from_bfloat16(np.asarray(data[()]).view("<u2"))
        if data.dtype.kind not in "biuf":
            raise Unreadable(f"has {name!r} of type {data.dtype}; numbers are expected")
        return np.array(data[()], data.dtype.newbyteorder("="))
