"""What the variables in a Keras file are called: files of Keras 3 number them by class, and name them in part."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_CONTAINERS = {"layers", "_layer_checkpoint_dependencies"}
_NORM = ("gamma", "beta")
_VARIABLES = {
    "dense": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "p_re_lu": ("alpha",),
    "normalization": ("mean", "variance", "count"),
    **{f"conv{n}d{kind}": ("kernel", "bias") for n in (1, 2, 3) for kind in ("", "_transpose")},
}
_AFFINE = {
    "batch_normalization": ("moving_mean", "moving_variance"),
    "group_normalization": (),
    "layer_normalization": (),
}
# Keras 1 said W, b, running_mean and running_std, the last of which held the variance.
_OLD = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
_OLD_NAME = re.compile(r"(?:.*_)?(W|b|gamma|beta|running_mean|running_std)(?:_\d+)?")


@dataclass(frozen=True)
class Group:
    """The variables of one layer in a file of Keras 3.

    Attributes:
        path: The groups that lead to it: `("layers", "conv2d_1")`.
        name: The layer's name; files of older versions lack it.
        variables: In the layer's order.
    """

    path: tuple[str, ...]
    name: str | None
    variables: Sequence[np.ndarray]


def named(groups: Sequence[Group], config: dict | None) -> tuple[dict[str, np.ndarray], bool]:
    """Names every variable `layer/variable`; a name that several layers bear gets the model's before it.

    Args:
        groups: Also those without variables: a model's own group carries its name.
        config: The model's, where the file has it.

    Returns:
        The arrays by name, and whether the layers' own names were known; else they are called by class and number.
    """
    names = {group.path: group.name for group in groups if group.name}
    if not names and config:
        names = dict(_counted(config, ()))
    layers = _described(config)
    holding = [group for group in groups if group.variables]
    chains = [_chain(group.path, names) for group in holding]
    scopes = [name.rsplit("/", 1) for name in _short(chains)]
    tensors: dict[str, np.ndarray] = {}
    for group, scope in zip(holding, scopes):
        kind = layers.get(names.get(group.path, ""), {})
        for name, value in zip(_variables(group, kind), group.variables, strict=True):
            tensors["/".join([*scope, name])] = value
    return tensors, all(group.path in names for group in holding)


def _chain(path: tuple[str, ...], names: dict[tuple[str, ...], str]) -> tuple[str, ...]:
    """The names of the models around a layer and its own, outermost first."""
    parts = [path[: n + 1] for n in range(len(path)) if path[n] not in _CONTAINERS]
    return tuple(names.get(part, part[-1]) for part in parts) or ("model",)


def _short(chains: Sequence[tuple[str, ...]]) -> list[str]:
    """The last part of each chain where that is enough to tell it from the others, else the whole of it."""
    bearers = Counter(chain[-1] for chain in set(chains))
    whole = ["/".join(chain) if bearers[chain[-1]] > 1 else chain[-1] for chain in chains]
    often, so_far = Counter(whole), Counter()
    for n, name in enumerate(whole):
        if often[name] > 1:
            whole[n] = f"{name}_{so_far[name]}"
            so_far[name] += 1
    return whole


def _snake(class_name: str) -> str:
    """`BatchNormalization` as Keras writes it in a path, `batch_normalization`."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _layers_in(config: Any) -> list[dict]:
    """The layers that a functional or sequential model's config lists, in its order."""
    listed = config.get("layers") if isinstance(config, dict) else None
    return [one for one in listed if isinstance(one, dict) and "class_name" in one] if isinstance(listed, list) else []


def _counted(entry: dict, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The groups' paths and the layers' names, by counting the classes of a config as Keras does when it saves."""
    used: Counter[str] = Counter()
    for layer in _layers_in(entry.get("config")):
        kind = _snake(layer["class_name"])
        group = (*path, "layers", f"{kind}_{used[kind]}" if used[kind] else kind)
        used[kind] += 1
        inner = layer.get("config") or {}
        yield group, inner.get("name") or layer.get("name") or group[-1]
        yield from _counted(layer, group)


def _described(config: Any, found: dict[str, dict] | None = None) -> dict[str, dict]:
    """`{layer's name: its entry in the config}`, wherever in the config it stands."""
    found = {} if found is None else found
    if isinstance(config, dict):
        settings = config.get("config")
        if "class_name" in config and isinstance(settings, dict) and isinstance(settings.get("name"), str):
            found.setdefault(settings["name"], config)
        config = list(config.values())
    if isinstance(config, list):
        for inner in config:
            _described(inner, found)
    return found


def _variables(group: Group, entry: dict) -> list[str]:
    """What the variables of one layer are called, by its class and its settings, or by their shapes."""
    count = len(group.variables)
    kind = _snake(entry["class_name"]) if entry else re.sub(r"_\d+$", "", group.path[-1] if group.path else "")
    if kind in _VARIABLES and count <= len(_VARIABLES[kind]):
        return list(_VARIABLES[kind][:count])
    affine = count - len(_AFFINE.get(kind, ()))
    if kind in _AFFINE and affine in (0, 2):
        return [*_NORM[:affine], *_AFFINE[kind]]
    if kind in _AFFINE and affine == 1 and entry:
        return ["gamma" if entry["config"].get("scale", True) else "beta", *_AFFINE[kind]]
    shapes = [np.shape(value) for value in group.variables]
    if count == 4 and len(set(shapes)) == 1 and len(shapes[0]) == 1:
        return [*_NORM, *_AFFINE["batch_normalization"]]
    if kind not in _AFFINE and len(shapes[0]) > 1 and (count == 1 or (count == 2 and shapes[1] == shapes[0][-1:])):
        return ["kernel", "bias"][:count]
    return [str(n) for n in range(count)]


def named_as_before(layers: Sequence[tuple[str, Sequence[tuple[str, np.ndarray]]]]) -> dict[str, np.ndarray]:
    """Names for the layers of an older file, `(layer's group, its (weight's name, array) pairs)`.

    Weights are called `conv/kernel:0` there, with the models around a layer before it; by Keras 1 `conv_W_1:0`.
    """
    chains, values = [], []
    for group, weights in layers:
        for weight, value in weights:
            *scope, variable = re.sub(r":\d+$", "", weight).split("/")
            if not scope or re.fullmatch(rf"{re.escape(group)}_\d+", scope[-1]):  # TensorFlow counted its scopes
                scope = [*scope[:-1], group]
            old = _OLD_NAME.fullmatch(variable)
            variable = _OLD.get(old[1], old[1]) if old else variable
            outer = () if scope[0] == group else (group,)
            chains.append((*outer, *scope))
            values.append((variable, value))
    shorts = dict(zip(dict.fromkeys(chains), _short(list(dict.fromkeys(chains)))))
    tensors = {f"{shorts[chain]}/{variable}": value for chain, (variable, value) in zip(chains, values)}
    separable = {name.rsplit("/", 1)[0] for name in tensors if name.endswith("/pointwise_kernel")}

    def today(name: str) -> str:
        layer, variable = name.rsplit("/", 1)
        return f"{layer}/kernel" if variable == "depthwise_kernel" and layer not in separable else name

    return {today(name): value for name, value in tensors.items()}
