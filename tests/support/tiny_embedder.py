"""The embedder on a backbone of a few channels, pictures of a few identities, and its loss in float64, row by row."""

import keras
import numpy as np
from keras import ops
from tiny_backbone import backbone

from resnet_tasks.faces import FaceEmbedder

NAMES = ("anna", "boris", "clara", "dmitri", "elena")


def embedder(size=(16, 16), spread: float = 0.0, **settings) -> FaceEmbedder:
    """A small one, with the same weights in every process and on every backend.

    Args:
        size: Height and width of the pictures.
        spread: A deviation that is added to all weights, so that none is 0 or 1.
        settings: Beside five identities and eight numbers.
    """
    chosen = {"class_names": NAMES, "image_size": size, "embedding": 8, "scale": 16.0, **settings}
    model = FaceEmbedder(backbone=backbone((*size, 3)), **chosen)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        value, shape = ops.convert_to_numpy(variable), tuple(variable.shape)
        if len(shape) > 1:
            deviation = 1.0 if variable is model.class_centres.embeddings else np.sqrt(2 / np.prod(shape[:-1]))
            value = random.normal(0, deviation, shape)
        variable.assign(value + random.normal(0, 1, shape) * spread)
    return model


def pictures(count: int, identities=(0, 1, 2, 3, 4), size=(16, 16), seed: int = 0) -> tuple[np.ndarray, dict]:
    """Each identity is a pattern of its own, lighter or darker, under noise.

    Returns:
        Images float32 `(count, height, width, 3)`, and targets: `label`, `weight`, `key`, `epoch` and `step`.
    """
    random = np.random.default_rng(seed)
    coarse = np.random.default_rng(99).normal(0, 50, (100, size[0] // 4, size[1] // 4, 3))
    label = np.resize(np.array(identities, np.int32), count)
    patterns = coarse.repeat(4, axis=1).repeat(4, axis=2)[label]
    noise = random.normal(0, 12, (count, *size, 3)) + random.normal(128, 20, (count, 1, 1, 1))
    return (patterns + noise).clip(0, 255).astype(np.float32), {
        "label": label,
        "weight": np.ones(count, np.float32),
        "key": random.integers(-(2**31), 2**31, (count, 2)).astype(np.int32),
        "epoch": np.zeros(count, np.int64),
        "step": np.zeros(count, np.int64),
    }


def hardened(angle: float, margins) -> tuple[float, float]:
    """What an angle in 0..pi counts as, and the slope of that."""
    times, plus, less = margins
    turned = times * angle + plus
    if times == 1 and turned > np.pi:
        return np.cos(angle) - plus * np.sin(plus) - less, -np.sin(angle)
    waves = int(turned // np.pi) if times != 1 else 0
    return (-1) ** waves * np.cos(turned) - 2 * waves - less, -((-1) ** waves) * times * np.sin(turned)


def margin_loss(embedding, centres, label: int, margins, scale: float, chosen=None) -> tuple:
    """One row's cross-entropy, and its slopes by hand.

    Args:
        embedding: `(d,)`, of any length.
        centres: `(classes, centres, d)`, of any length.
        label: The row's own class.
        margins: m1, m2, m3.
        scale: Of the cosines.
        chosen: The classes that it is compared with beside its own; all if not given.

    Returns:
        The loss, its slope `(d,)` by the embedding and `(classes, centres, d)` by the centres.
    """
    embedding, centres = np.float64(embedding), np.float64(centres)
    lengths = np.linalg.norm(embedding), np.linalg.norm(centres, axis=-1)
    e, w = embedding / lengths[0], centres / lengths[1][..., None]
    best = {}
    for c in sorted({label, *(range(len(w)) if chosen is None else map(int, chosen))}):
        best[c] = max(range(w.shape[1]), key=lambda k, c=c: e @ w[c, k])
    cosines = {c: e @ w[c, k] for c, k in best.items()}
    own = w[label, best[label]]
    sine = np.linalg.norm(e - cosines[label] * own)
    hard, slope = hardened(np.arctan2(sine, cosines[label]), margins)
    logits = {c: scale * (hard if c == label else cosine) for c, cosine in cosines.items()}
    peak = max(logits.values())
    total = sum(np.exp(logit - peak) for logit in logits.values())
    others = sum(np.exp(logit - logits[label]) for c, logit in logits.items() if c != label)
    by_e, by_w = np.zeros_like(e), np.zeros_like(w)
    for c, k in best.items():
        by_logit = np.exp(logits[c] - peak) / total - (c == label)
        # cos' is -sin: by the cosine, what is by the angle divided by it.
        by_cosine = scale * by_logit * ((-slope / sine if sine else 0.0) if c == label else 1.0)
        by_e += by_cosine * (w[c, k] - cosines[c] * e) / lengths[0]
        by_w[c, k] += by_cosine * (e - cosines[c] * w[c, k]) / lengths[1][c, k]
    return np.log1p(others), by_e, by_w


def drawn(step: int, classes: int, count: int) -> list[int]:
    """PartialFC's lots in Python's whole numbers: lowbias32 over the class, then over the step."""

    def scrambled(word: int) -> int:
        word = (word ^ (word >> 16)) * 0x7FEB352D % 2**32
        word = (word ^ (word >> 15)) * 0x846CA68B % 2**32
        return word ^ (word >> 16)

    lots = [scrambled(scrambled((c + 0x9E3779B9) % 2**32) ^ step) >> 8 for c in range(classes)]
    return sorted(range(classes), key=lambda c: (-lots[c], c))[:count]


def loss_and_gradients(model, targets: dict, embedding: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The sum over the batch, and its slopes by the embeddings and by the centres; TensorFlow."""
    import tensorflow as tf

    centres, embedding = model.class_centres.embeddings.value, tf.constant(embedding)
    with tf.GradientTape() as tape:
        tape.watch(embedding)
        total, _ = model.loss_terms(targets, {"embedding": embedding})["margin"]
    found = tape.gradient(total, [embedding, centres])
    return float(total), *(tf.convert_to_tensor(value).numpy() for value in found)


def float_of(tensor) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)
