"""Settings that follow the size of the batch: the published rules, with values worked out by hand."""

import pytest

from asr.cli.compose import compose
from asr.config import AdamWConfig, SgdConfig
from asr.errors import InputError
from tests.conftest import settings


@pytest.mark.parametrize(
    "batch", [["trainer.batch_seconds=320"], ["trainer.batch_seconds=80", "trainer.accumulation=4"]]
)
def test_four_times_the_batch_for_adam(batch: list[str]) -> None:
    """kappa = 4: the learning rate and the inverse of epsilon double, 1 - beta is four times as large."""
    optimizer = settings("optimizer=adamw_scaled", *batch).optimizer
    assert isinstance(optimizer, AdamWConfig)
    assert optimizer.learning_rate == pytest.approx(0.004)
    assert optimizer.betas == pytest.approx([0.6, 0.92])
    assert optimizer.epsilon == pytest.approx(5e-9)


def test_at_the_batch_where_they_were_found_settings_are_those_of_adamw() -> None:
    plain, scaled = settings("optimizer=adamw").optimizer, settings("optimizer=adamw_scaled").optimizer
    assert isinstance(plain, AdamWConfig)
    assert isinstance(scaled, AdamWConfig)
    assert vars(scaled) == pytest.approx(vars(plain) | {"betas": pytest.approx(plain.betas)})


def test_a_beta_does_not_become_negative() -> None:
    optimizer = settings("optimizer=adamw_scaled", "trainer.batch_seconds=1600").optimizer
    assert isinstance(optimizer, AdamWConfig)
    assert optimizer.betas == pytest.approx([0.0, 0.6])


def test_half_the_batch_for_sgd() -> None:
    optimizer = settings("optimizer=sgd_scaled", "trainer.batch_seconds=40").optimizer
    assert isinstance(optimizer, SgdConfig)
    assert optimizer.learning_rate == pytest.approx(0.00005)


def test_an_unknown_rule_is_one_line() -> None:
    with pytest.raises(InputError, match="configuration: .*cubic") as error:
        compose(["run_dir=x", "optimizer.learning_rate=${scaled:cubic,1,80}"])
    assert "\n" not in str(error.value)
