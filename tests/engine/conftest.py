"""A network small enough to train in a test."""

import pytest


@pytest.fixture(scope="session")
def tiny_pyramid():
    """`build(side=8, filters=4, norm=True) -> Pyramid`: two convolutions, each with its batch norm if `norm`."""

    def build(side: int = 8, filters: int = 4, norm: bool = True):
        import keras
        from keras import layers

        from resnet_tasks.model import Pyramid

        image = keras.Input((side, side, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1.0, name="normalise")(image)
        features = {}
        for level in (0, 1):
            name = f"conv{level}"
            x = layers.Conv2D(filters * 2**level, 3, 1 + level, padding="same", use_bias=not norm, name=name)(x)
            if norm:
                x = layers.BatchNormalization(momentum=0.8, name=f"norm{level}")(x)
            x = layers.ReLU(name=f"relu{level}")(x)
            features[f"C{level}"] = x
        return Pyramid(image, features, name="tiny")

    return build
