import math

import pytest
import torch
from torch import nn

from asr.training.optimization import (
    MovingAverage,
    Schedule,
    average_weights,
    copy_weights,
    gradient_norms,
    make_optimizer,
)
from tests.conftest import settings


def schedule(*overrides: str) -> Schedule:
    return Schedule(settings(*overrides).schedule)


def test_one_cycle_rises_and_falls() -> None:
    one_cycle = schedule("schedule.warmup_fraction=0.25", "schedule.start_factor=0.1", "schedule.final_factor=0.01")
    assert one_cycle.factor(0) == pytest.approx(0.1)
    assert one_cycle.factor(0.125) == pytest.approx(0.55)
    assert one_cycle.factor(0.25) == pytest.approx(1)
    assert one_cycle.factor(0.625) == pytest.approx((1 + 0.01) / 2)
    assert one_cycle.factor(1) == pytest.approx(0.01)


def test_warmup_cosine_and_constant() -> None:
    warmup = schedule("schedule=warmup_cosine", "schedule.warmup_fraction=0.5", "schedule.final_factor=0.0")
    assert [warmup.factor(x) for x in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [schedule("schedule=constant").factor(x) for x in (0, 0.3, 1)] == [1, 1, 1]


def test_plateau_waits_for_its_patience() -> None:
    plateau = schedule("schedule=plateau", "schedule.patience=1", "schedule.factor=0.5", "schedule.threshold=1")
    factors = []
    for per in (0.5, 0.4, 0.395, 0.394, 0.3, 0.3, 0.3):
        plateau.epoch_done(per)
        factors.append(plateau.factor(0.5))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_newbob_halves_from_the_first_small_gain_on() -> None:
    newbob = schedule("schedule=newbob", "schedule.factor=0.5", "schedule.threshold=1")
    factors = []
    for per in (0.5, 0.4, 0.395, 0.3, 0.2):
        newbob.epoch_done(per)
        factors.append(newbob.factor(0.5))
    assert factors == [1, 1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adadelta", torch.optim.Adadelta), ("sgd", torch.optim.SGD)]
)
def test_every_optimizer_learns_and_spares_vectors_from_decay(name: str, kind: type) -> None:
    model = nn.Linear(3, 2)
    config = settings(f"optimizer={name}", "optimizer.weight_decay=0.1", "optimizer.learning_rate=0.1").optimizer
    optimizer = make_optimizer(model, config)
    assert isinstance(optimizer, kind)
    assert [(len(g["params"]), g["weight_decay"], g["lr"]) for g in optimizer.param_groups] == [
        (1, 0.1, 0.1),
        (1, 0, 0.1),
    ]
    inputs = torch.randn(8, 3)
    losses = []
    for _ in range(20):
        loss = (model(inputs) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_averages_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, decay=0.5)
    first = float(model.weight.detach())
    with torch.no_grad():
        model.weight.fill_(5.0)
    average.update(model)
    decay = 2 / 11
    assert float(average.weights["weight"]) == pytest.approx(decay * first + (1 - decay) * 5)
    for _ in range(60):
        average.update(model)
    assert float(average.weights["weight"]) == pytest.approx(5)
    sets = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 8.0])}]
    assert average_weights(sets)["w"].tolist() == [2, 5]
    copied = copy_weights(model)
    with torch.no_grad():
        model.weight.zero_()
    assert float(copied["weight"]) == 5


def test_gradient_norms_by_layer() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = nn.LSTM(2, 3, 2, bidirectional=True)
            self.output = nn.Linear(6, 1)

    model = Both()
    model.output(model.stack(torch.randn(4, 1, 2))[0]).sum().backward()
    norms = gradient_norms(model)
    assert set(norms) == {"stack_l0", "stack_l1", "output"}
    squares = [float(p.grad.square().sum()) for n, p in model.named_parameters() if p.grad is not None and "_l1" in n]
    assert norms["stack_l1"] == pytest.approx(math.sqrt(sum(squares)))
