"""The learning rate, by hand at its start, the end of its warm-up, its middle and its end."""

import math

import pytest

from resnet_tasks.engine.schedule import learning_rate
from resnet_tasks.engine.settings import TrainSettings

PER_EPOCH = 10
EPOCHS = 10  # 100 steps


def rates(schedule: str, **changes) -> list[float]:
    settings = TrainSettings(epochs=EPOCHS, batch_size=8, lr=2.0, schedule=schedule, **changes)
    return [learning_rate(step, PER_EPOCH, settings) for step in range(EPOCHS * PER_EPOCH + 1)]


@pytest.mark.parametrize(
    ("schedule", "changes", "expected"),
    [
        ("constant", {}, {0: 2.0, 50: 2.0, 100: 2.0}),
        ("linear", {}, {0: 2.0, 25: 1.5, 50: 1.0, 99: 0.02, 100: 0.0}),
        ("linear", {"final_lr_fraction": 0.1}, {0: 2.0, 50: 1.1, 100: 0.2}),
        ("linear", {"warmup_epochs": 2}, {0: 0.1, 9: 1.0, 19: 2.0, 20: 2.0, 60: 1.0, 100: 0.0}),
        ("cosine", {}, {0: 2.0, 25: 1 + math.sqrt(0.5), 50: 1.0, 75: 1 - math.sqrt(0.5), 100: 0.0}),
        ("cosine", {"final_lr_fraction": 0.5}, {0: 2.0, 50: 1.5, 100: 1.0}),
        ("cosine", {"warmup_epochs": 0.5}, {0: 0.4, 4: 2.0, 5: 2.0, 100: 0.0}),
        ("steps", {"milestones": (5, 7.5)}, {0: 2.0, 49: 2.0, 50: 0.2, 74: 0.2, 75: 0.02, 100: 0.02}),
        ("steps", {"milestones": (5,), "factor": 0.5, "warmup_epochs": 1}, {0: 0.2, 9: 2.0, 10: 2.0, 50: 1.0}),
        # Rises from 1/25 of the peak over 30 % of the steps, falls over the others; both are half cosines.
        ("one_cycle", {}, {0: 0.08, 15: 1.04, 30: 2.0, 65: 1.0, 100: 0.0}),
        ("one_cycle", {"final_lr_fraction": 0.1}, {30: 2.0, 65: 1.1, 100: 0.2}),
    ],
)
def test_by_hand(schedule, changes, expected):
    got = rates(schedule, **changes)
    assert {step: got[step] for step in expected} == pytest.approx(expected, abs=1e-12)


def test_the_last_step_of_a_schedule_is_near_its_end_and_no_rate_is_negative():
    for schedule in ("linear", "cosine", "one_cycle"):
        got = rates(schedule, warmup_epochs=1)
        assert min(got) >= 0 and max(got) <= 2.0 and got[99] < 0.03


def test_a_set_of_one_step_an_epoch_has_a_schedule_too():
    settings = TrainSettings(epochs=4, batch_size=8, lr=1.0, schedule="linear", warmup_epochs=1)
    assert [learning_rate(step, 1, settings) for step in range(4)] == pytest.approx([1.0, 1.0, 2 / 3, 1 / 3])
