"""Gradients and compilation, said once for every backend."""

import keras
import numpy as np
import pytest


@pytest.fixture
def gradient():
    """`gradient(function, x, *others)`: of the sum of what `function` returns, by `x`, as NumPy."""
    if keras.backend.backend() == "jax":
        import jax

        def by_jax(function, x, *others):
            return np.asarray(jax.jit(jax.grad(lambda x: function(x, *others).sum()))(jax.numpy.asarray(x)))

        return by_jax
    import tensorflow as tf

    def by_tensorflow(function, x, *others):
        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x, *others))
        return tf.convert_to_tensor(tape.gradient(total, x, unconnected_gradients="zero")).numpy()

    return by_tensorflow


@pytest.fixture
def ways():
    """`ways(function)`: the functions to try: as it stands, and by XLA, which wants static shapes.

    On JAX by XLA alone: as it stands is the same there, operation by operation, and slow to begin.
    """
    if keras.backend.backend() == "jax":
        import jax

        return lambda function: [jax.jit(function)]
    import tensorflow as tf

    return lambda function: [function, tf.function(function, jit_compile=True)]
