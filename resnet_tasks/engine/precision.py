"""The arithmetic of a run."""

import contextlib
from collections.abc import Iterator

import keras

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16", "float64": "float64"}


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Keras's dtype policy and float type for a run, and back again after it."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64" if name == "float64" else "float32")
    keras.config.set_dtype_policy(POLICIES[name])
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
