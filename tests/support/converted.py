"""Weights of others, put into a backbone of ours, and the two compared."""

import keras
import numpy as np

from resnet_tasks import backbones
from resnet_tasks.weights.conversion import Conversion


def pyramid_with(name: str, conversion: Conversion):
    """A backbone that holds the values, every one of its variables, and their preprocessing."""
    pyramid = backbones.create(name)
    variables = {v.path: v for v in pyramid.variables if "seed_generator" not in v.path}
    assert conversion.values.keys() == variables.keys()
    for path, variable in variables.items():
        assert conversion.values[path].dtype == np.float32
        assert conversion.values[path].shape == tuple(variable.shape)
        variable.assign(conversion.values[path])
    if conversion.standardise is not None:
        mean, deviation = conversion.standardise
        layer = pyramid.get_layer("standardise")
        layer.scale = [1 / d for d in deviation]
        layer.offset = [-m / d for m, d in zip(mean, deviation)]
    return pyramid


def features(pyramid, pictures: np.ndarray) -> dict[str, np.ndarray]:
    return {level: keras.ops.convert_to_numpy(value) for level, value in pyramid(pictures, training=False).items()}


def logits(feature: np.ndarray, head: dict[str, np.ndarray]) -> np.ndarray:
    """What a linear classifier says of the mean feature."""
    return feature.mean((1, 2)) @ head["kernel"] + head["bias"]


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all() and np.abs(theirs).max() > 0
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def random_pictures(side: int, count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


def shake_keras(model, seed: int = 0) -> None:
    """Random values everywhere, moving statistics and biases too; kernels keep the scale of their initialiser."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        leaf, shape = variable.path.rpartition("/")[2], tuple(variable.shape)
        if leaf in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif leaf in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.3, shape))
        elif leaf == "alpha":
            variable.assign(rng.uniform(0.1, 0.4, shape))
