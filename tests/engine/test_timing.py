"""What is timed is sane, and the learning rate that is found follows from the losses."""

import itertools
import math
import types

import numpy as np
import pytest

import resnet_tasks
from resnet_tasks import commands
from resnet_tasks.engine import timing

TINY = {"model.backbone": "tiny_backbone:backbone", "model.image_size": 8, "train.batch_size": 32}


class FakeTrainer:
    """A trainer whose loss is a function of the learning rate."""

    def __init__(self, loss_of):
        self.tried = []
        self.settings = types.SimpleNamespace(accumulate=1, batch_size=4)
        self.strategy = types.SimpleNamespace(num_replicas_in_sync=1)
        self.batches = types.SimpleNamespace(stream=lambda *_, **__: itertools.repeat("batch"))

        def run(micro_batches, lr):
            assert micro_batches == ("batch",)
            self.tried.append(float(lr))
            return types.SimpleNamespace(losses={"loss": loss_of(float(lr))})

        self.step = types.SimpleNamespace(run=run)


def test_rates_grow_in_equal_ratios_and_a_tenth_of_the_best_is_suggested():
    trainer = FakeTrainer(lambda lr: 1 + (math.log10(lr) + 1) ** 2 / 8)  # least at 0.1, gently
    found = timing.find_learning_rate(trainer, steps=71)
    ratios = np.array(trainer.tried[1:]) / trainer.tried[:-1]
    np.testing.assert_allclose(ratios, 10**0.1, rtol=1e-9)
    assert (trainer.tried[0], trainer.tried[-1]) == pytest.approx((1e-6, 10.0))
    assert [point["lr"] for point in found["curve"]] == trainer.tried
    assert found["suggested"] == pytest.approx(0.1 / 10, rel=2.2)  # the smoothed loss lags a few steps of 26 % behind
    assert found["suggested"] >= 0.01


def test_the_search_ends_where_the_loss_explodes():
    trainer = FakeTrainer(lambda lr: 1.0 if lr < 1e-2 else 100.0)
    found = timing.find_learning_rate(trainer, steps=71)
    assert 1e-2 <= trainer.tried[-1] < 2e-2
    assert found["suggested"] < 1e-3
    trainer = FakeTrainer(lambda lr: 1.0 if lr < 1e-2 else math.nan)
    found = timing.find_learning_rate(trainer, steps=71)
    assert 1e-2 <= trainer.tried[-1] < 1.3e-2
    assert all(math.isfinite(point["loss"]) for point in found["curve"])
    assert len(found["curve"]) == len(trainer.tried) - 1


def test_the_first_losses_are_not_drawn_to_zero():
    found = timing.find_learning_rate(FakeTrainer(lambda lr: 2.0), steps=5)
    assert [point["loss"] for point in found["curve"]] == pytest.approx([2.0] * 5)


def test_lr_find_suggests_a_rate_that_trains_digits():
    found = commands.lr_find("classify", "quickstart/classify_digits", set=TINY)
    assert 1e-4 < found["suggested"] < 1
    losses = [point["loss"] for point in found["curve"]]
    assert losses[0] == pytest.approx(math.log(10), abs=1.0)
    assert min(losses) < 0.9 * losses[0]


def test_benchmark_of_a_recipe_counts_its_pictures(tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "task: classify\ndata: {where: digits}\nmodel: {backbone: 'tiny_backbone:backbone', image_size: 8}\n"
        "train: {batch_size: 32}\n"
    )
    timed = commands.benchmark("classify", recipe)
    assert (timed["batch_size"], timed["steps"]) == (32, 20)
    assert 10 < timed["images_per_second"] < 1e7
    assert 0 <= timed["data_wait"] <= 1


def test_benchmark_of_a_model_gives_ordered_percentiles(digits_model, monkeypatch):
    seconds = itertools.cycle([0.010, 0.020, 0.030, 0.040])
    monkeypatch.setattr(timing, "_timed", lambda function: next(seconds))
    single, eight = timing.time_answers(digits_model, side=50)["answers"]
    assert (single["batch"], eight["batch"]) == (1, 8)
    assert single["p50_ms"] == pytest.approx(25)
    assert single["p99_ms"] == pytest.approx(40, abs=1)
    assert single["images_per_second"] == pytest.approx(1 / 0.025)
    assert eight["images_per_second"] == pytest.approx(8 / 0.025)


def test_benchmark_times_real_answers_of_an_artefact(digits_artefact):
    timed = resnet_tasks.commands.benchmark("classify", digits_artefact)
    assert timed["picture"] == "JPEG 500x500"
    for row in timed["answers"]:
        assert 0.1 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["images_per_second"] == pytest.approx(row["batch"] * 1000 / row["p50_ms"], rel=1e-6)
