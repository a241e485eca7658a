"""The embedder: counts, its loss and slopes row by row, its file, and what it learns."""

import keras
import numpy as np
import pytest
from keras import ops
from other_process import computed
from tiny_detectors import compiled, gradient
from tiny_embedder import NAMES, drawn, embedder, float_of, loss_and_gradients, margin_loss, pictures

from resnet_tasks.faces import FaceEmbedder
from resnet_tasks.model import total_loss

MARGINS = {"arcface": (1.0, 0.5, 0.0), "cosface": (1.0, 0.0, 0.35), "combined": (0.9, 0.4, 0.15)}
RICH = {"margin": "combined", "margins": MARGINS["combined"], "centres": 3, "warm_up": 4, "sample_rate": 0.5}
WEIGHT = np.float32([1, 2, 0.5, 0, 1, 3, 1, 1])


def number(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


def drawn_outputs(count: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (count, 8)).astype(np.float32)


def truth(step: int = 0) -> dict[str, np.ndarray]:
    """Weights that differ, an identity that is not among the model's, one that is padding, and epochs that differ."""
    return {
        "label": np.int32([0, 3, 4, 1, 5, -1, 2, 3]),
        "weight": WEIGHT,
        "epoch": np.int64([0, 1, 2, 3, 4, 5, 9, 2]),
        "step": np.full(8, step, np.int64),
    }


def expected(model, targets: dict, outputs: np.ndarray, margins) -> tuple:
    """The sum, the normaliser, and the slopes by embeddings and centres; see `truth` for which rows count."""
    centres = number(model.class_centres.embeddings).reshape(len(NAMES), model.centres, -1)
    total, normaliser, by_rows, by_centres = 0.0, 0.0, np.zeros(outputs.shape), np.zeros(centres.shape)
    for row, (label, weight) in enumerate(zip(targets["label"], targets["weight"])):
        if not 0 <= label < len(NAMES):
            continue
        share = min(1.0, targets["epoch"][row] / model.warm_up) if model.warm_up else 1.0
        grown = (1 + (margins[0] - 1) * share, margins[1] * share, margins[2] * share)
        chosen = drawn(int(targets["step"][row]), 5, 3) if model.sample_rate < 1 else None
        loss, *slopes = margin_loss(outputs[row], centres, label, grown, model.scale, chosen)
        total, normaliser = total + weight * loss, normaliser + weight
        by_rows[row] = weight * slopes[0]
        by_centres += weight * slopes[1]
    return total, normaliser, by_rows, by_centres.reshape(-1, outputs.shape[-1])


def test_parameters_are_those_that_insightface_has():
    from resnet_tasks import backbones

    backbone = backbones.create("iresnet_18", input_shape=(112, 112, 3))
    model = FaceEmbedder(backbone=backbone, class_names=NAMES, centres=3)
    own = {name: backbones.describe(name).parameters for name in ("iresnet_18", "iresnet_50", "iresnet_100")}
    head = model.embedder_parameters() - own["iresnet_18"]  # they end alike
    assert {name: count + head for name, count in own.items()} == {
        "iresnet_18": 24_025_600,
        "iresnet_50": 43_590_848,
        "iresnet_100": 65_156_160,
    }
    assert tuple(model.class_centres.embeddings.shape) == (15, 512)
    assert model.output["embedding"].shape == (None, 512)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("iresnet_50", 43_590_848), ("iresnet_100", 65_156_160)])
def test_parameters_of_the_deeper_ones(name, count):
    from resnet_tasks import backbones

    backbone = backbones.create(name, input_shape=(112, 112, 3))
    assert FaceEmbedder(backbone=backbone, class_names=NAMES).embedder_parameters() == count


@pytest.mark.any_backend
@pytest.mark.parametrize("centres", [1, 3])
@pytest.mark.parametrize("margin", MARGINS)
def test_the_loss_is_that_of_every_row_alone(margin, centres):
    model = embedder(margin=margin, margins=MARGINS[margin], centres=centres)
    targets, outputs = truth(), drawn_outputs()
    total, normaliser, by_rows, _ = expected(model, targets, outputs, MARGINS[margin])
    plain = {name: targets[name] for name in ("label", "weight")}  # neither epoch nor step is asked for
    found = compiled(model.loss_terms)(plain, {"embedding": ops.convert_to_tensor(outputs)})["margin"]
    assert [float(value) for value in found] == pytest.approx([total, normaliser], rel=1e-5)
    slope = gradient(lambda value: model.loss_terms(plain, {"embedding": value})["margin"][0], outputs)
    np.testing.assert_allclose(slope, by_rows, atol=1e-5 * np.abs(by_rows).max())


@pytest.mark.parametrize("step", [0, 1, 7])
def test_the_loss_with_all_of_it_and_the_slopes_of_the_centres(step):
    model, targets, outputs = embedder(**RICH), truth(step), drawn_outputs(seed=step)
    total, _, by_rows, by_centres = expected(model, targets, outputs, MARGINS["combined"])
    loss, *slopes = loss_and_gradients(model, targets, outputs)
    assert loss == pytest.approx(total, rel=1e-5)
    for found, by_hand in zip(slopes, (by_rows, by_centres)):
        np.testing.assert_allclose(found, by_hand, atol=1e-5 * np.abs(by_hand).max())
    untouched = {c for c in range(5) if not by_centres.reshape(5, -1)[c].any()}
    assert untouched == set(range(5)) - set(drawn(step, 5, 3)) - {0, 2, 3, 4}


@pytest.mark.any_backend
def test_rows_without_weight_change_nothing_whatever_they_are():
    model, targets, outputs = embedder(**RICH), truth(), drawn_outputs()
    outputs[3:6] = np.float32([[np.nan], [np.inf], [0]])  # of weight 0, unknown, padding
    kept = np.array([0, 1, 2, 6, 7])

    def loss(value, rows=slice(None)):
        own = {name: values[rows] for name, values in targets.items()}
        return total_loss(model.loss_terms(own, {"embedding": value}))

    alone = float(loss(ops.convert_to_tensor(outputs[kept]), kept))
    assert float(loss(ops.convert_to_tensor(outputs))) == pytest.approx(alone, rel=1e-6)
    slope = gradient(loss, outputs)
    assert np.isfinite(slope).all() and not slope[3:6].any() and slope[kept].any(axis=1).all()
    targets["weight"] = np.zeros(8, np.float32)
    assert float(loss(ops.convert_to_tensor(outputs))) == 0 and not gradient(loss, outputs).any()


def test_the_halves_of_a_batch_add_up_and_weights_are_1_by_default():
    model, targets, outputs = embedder(**RICH), truth(), drawn_outputs()

    def terms(rows, **other):
        own = {name: values[rows] for name, values in {**targets, **other}.items()}
        found = model.loss_terms(own, {"embedding": ops.convert_to_tensor(outputs[rows])})["margin"]
        return np.array([float(value) for value in found])

    np.testing.assert_allclose(terms(slice(0, 4)) + terms(slice(4, 8)), terms(slice(0, 8)), rtol=1e-6)
    ones = terms(slice(0, 8), weight=np.ones(8, np.float32))
    del targets["weight"]
    np.testing.assert_allclose(terms(slice(0, 8)), ones, rtol=1e-6)


def test_the_margin_makes_it_harder_and_grows():
    """Embeddings that lie at their own centres' sides: without a margin there is little to learn."""
    model, targets = embedder(warm_up=4), {"label": np.arange(5, dtype=np.int32)}
    outputs = ops.convert_to_tensor(number(model.class_centres.embeddings) + 0.2 * drawn_outputs(5))
    losses = [
        float(total_loss(model.loss_terms({**targets, "epoch": np.full(5, epoch, np.int64)}, {"embedding": outputs})))
        for epoch in range(7)
    ]
    assert losses[0] < losses[1] < losses[2] < losses[3] < losses[4] == losses[5] == losses[6]
    bare = embedder(margin="combined", margins=(1, 0, 0))
    assert losses[0] == pytest.approx(float(total_loss(bare.loss_terms(targets, {"embedding": outputs}))), rel=1e-6)


def test_what_the_targets_lack_is_named():
    outputs, targets = {"embedding": drawn_outputs()}, {"label": np.zeros(8, np.int32)}
    with pytest.raises(ValueError, match="warm_up needs 'epoch'.*got label"):
        embedder(warm_up=2).loss_terms(targets, outputs)
    with pytest.raises(ValueError, match="sample_rate needs 'step'.*got label"):
        embedder(sample_rate=0.5).loss_terms(targets, outputs)


def test_centres_are_trained_decayed_and_frozen_as_a_heads_kernel():
    from resnet_tasks.engine.finetune import HEAD, freeze, levels, rates
    from resnet_tasks.engine.optimizers import decays
    from resnet_tasks.engine.settings import TrainSettings

    model = embedder()
    centres, kernel = model.class_centres.embeddings, model.get_layer("head_dense").kernel
    assert decays(centres) and decays(kernel) and not decays(model.get_layer("embedding").beta)
    assert levels(model)["class_centres"] == levels(model)["head_dense"] == HEAD
    slower = rates(model, TrainSettings(epochs=1, batch_size=4, lr=0.1, layer_decay=0.5))
    assert slower[centres.path] == slower[kernel.path] == 1.0 and slower["C2_conv/kernel"] == 0.5
    freeze(model, ("C1", "C2"), norms=False)
    trains = [variable.path for variable in model.trainable_variables]
    assert centres.path in trains and kernel.path in trains and "C2_conv/kernel" not in trains


@pytest.mark.parametrize("pool", ["flatten", pytest.param("mean", marks=pytest.mark.slow)])
def test_fit_learns_identities(pool):
    """Pictures that it has not seen of identities that it has: nearer to one another than to others'."""
    keras.utils.set_random_seed(0)
    model, (images, targets) = embedder(pool=pool, **RICH), pictures(80)
    model.compile(optimizer=keras.optimizers.Adam(0.01), jit_compile=False)
    losses = model.fit(images, targets, batch_size=20, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    images, targets = pictures(40, seed=1)
    found = number(model(images, training=False)["embedding"])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    same = targets["label"][:, None] == targets["label"][None]
    cosines = found @ found.T
    assert cosines[same].mean() > cosines[~same].mean() + 0.5


RELOAD = """
import keras
from keras import ops
import resnet_tasks.faces  # registers FaceEmbedder
from tiny_detectors import compiled
model = keras.models.load_model(str(given["path"]))
outputs = model(given["images"], training=False)
answer["embedding"] = ops.convert_to_numpy(outputs["embedding"])
targets = {name: given[name] for name in ("label", "weight", "epoch", "step")}
answer["loss"] = [float(value) for value in compiled(model.loss_terms)(targets, outputs)["margin"]]
answer["threshold"] = [model.threshold, model.far, model.flip]
answer["names"] = model.class_names
"""


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "jax"])
def test_a_fresh_process_gives_the_same_answers_and_the_same_loss(backend, tmp_path):
    if backend == "jax":
        pytest.importorskip("jax")
    model, (images, targets) = (
        embedder(spread=0.1, pool="flatten", dropout=0.2, flip=True, far=0.01, **RICH),
        pictures(5),
    )
    model.threshold = 0.31
    model.save(tmp_path / "model.keras")
    targets["epoch"] += 2
    given = {"path": str(tmp_path / "model.keras"), "images": images, **targets}
    # Half of the time would go into optimising what runs once.
    found = computed(RELOAD, given, KERAS_BACKEND=backend, XLA_FLAGS="--xla_backend_optimization_level=0")
    expected = number(model(images, training=False)["embedding"])
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-5 if backend == "tensorflow" else 1e-4)
    terms = model.loss_terms(targets, {"embedding": ops.convert_to_tensor(expected)})["margin"]
    np.testing.assert_allclose(found["loss"], [float(value) for value in terms], rtol=1e-4)
    assert found["threshold"].tolist() == [0.31, 0.01, 1.0] and found["names"].tolist() == list(NAMES)


def test_a_model_of_aligned_faces_says_where_their_landmarks_lie():
    assert embedder().alignment_template is None
    said = embedder(alignment="landmarks").alignment_template
    assert said["canvas"] == [16, 16] and len(said["order"]) == 5
    eye = (np.array([38.2946, 51.6963]) + 0.5) * 16 / 112 - 0.5  # insightface's left eye, from 112 pixels to 16
    np.testing.assert_allclose(said["points"][0], eye, atol=1e-4)
    assert said["points"][0][0] < said["points"][1][0] < 16  # the viewer's left comes first


def test_the_config_holds_every_argument():
    settings = {**RICH, "norm": "group", "pool": "mean", "dropout": 0.1, "flip": True, "far": 0.1, "threshold": 0.4}
    settings |= {"threshold_from": "far 0.1 on val"}
    model = embedder(name="mine", **settings)
    again = FaceEmbedder.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    for name, value in {
        **settings,
        "class_names": NAMES,
        "image_size": [16, 16],
        "embedding": 8,
        "scale": 16.0,
    }.items():
        held = again.get_config()[name]
        assert (list(held) if isinstance(value, tuple) else held) == (
            list(value) if isinstance(value, tuple) else value
        )
    kinds = (keras.layers.GroupNormalization, keras.layers.LayerNormalization)
    assert isinstance(again.get_layer("head_norm"), kinds[0]) and isinstance(again.get_layer("embedding"), kinds[1])
    assert again.get_layer("head_dropout").rate == 0.1


@pytest.fixture
def bfloat16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.any_backend
def test_under_mixed_bfloat16_head_centres_and_loss_are_float32(bfloat16, tmp_path):
    model, (images, targets) = embedder(**RICH), pictures(5)
    assert float_of(model.backbone.output["C2"]) == "bfloat16"
    outputs = model(images, training=False)
    found = model.loss_terms(targets, outputs)["margin"]
    assert {float_of(value) for value in (*outputs.values(), *found, model.class_centres.embeddings)} == {"float32"}
    low = {"embedding": ops.cast(outputs["embedding"], "bfloat16")}  # as another policy's model might give them
    again = model.loss_terms(targets, low)["margin"]
    assert {float_of(value) for value in again} == {"float32"}
    kept = {"embedding": ops.cast(low["embedding"], "float32")}
    assert float(again[0]) == float(model.loss_terms(targets, kept)["margin"][0])
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")  # as in the process that serves it
    opened = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(number(opened(images, training=False)["embedding"]), number(outputs["embedding"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_names": ["anna"]}, r"at least two identities, got \['anna'\]"),
        ({"embedding": 0}, "embedding: expected 1 or more, got 0"),
        ({"centres": 0}, "centres: expected 1 or more, got 0"),
        ({"scale": 0}, "scale: expected a number above 0, got 0"),
        ({"sample_rate": 0.0}, "sample_rate: expected a share above 0 and at most 1"),
        ({"sample_rate": 1.5}, "sample_rate: expected a share above 0 and at most 1"),
        ({"margin": "cosface", "margins": (1, 0.5, 0)}, "cosface has"),
        ({"pool": "flatten", "image_size": (32, 32)}, r"takes pictures of \(16, 16\), and here are \(32, 32\)"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    from tiny_backbone import backbone

    with pytest.raises(ValueError, match=message):
        FaceEmbedder(**{"backbone": backbone((16, 16, 3)), "class_names": NAMES, "image_size": (16, 16), **settings})
