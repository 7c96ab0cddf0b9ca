from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from asr.cli.compose import compose, quote
from asr.config import FeatureConfig, config_dir, from_mapping, to_yaml
from asr.corpus.phones import INVENTORIES, inventory, make_inventory
from asr.errors import InputError
from asr.inference.bundle import build_model
from asr.system.plain_yaml import read_yaml
from asr.training.optimization import Schedule, make_optimizer
from tests.conftest import settings

CHOICES = [
    f"{group.name}={file.stem}"
    for group in sorted(config_dir().iterdir())
    if group.is_dir()
    for file in sorted(group.glob("*.yaml"))
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds(choice: str) -> None:
    config = settings(choice)
    known = config.corpus.inventory in INVENTORIES  # others are tables beside the manifests
    phones = inventory(config.corpus.inventory) if known else make_inventory("phones.txt", {"a": "a", "ʃ": "ʃ"})
    model = build_model(config.model, config.features, phones)
    make_optimizer(model, config.optimizer)
    assert Schedule(config.schedule).factor(0.5) >= 0
    assert yaml.safe_load(to_yaml(config))["run_dir"] == "unused"


def test_the_promised_experiments_are_there() -> None:
    names = {choice.split("=")[1] for choice in CHOICES if choice.startswith("experiment=")}
    assert {"synth", "timit", "speechocean762", "speechocean762_small", "graves2013"} <= names


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.hiden=3"], "model.hiden"),
        (["+model.hiden=3"], "model.hiden: Key 'hiden' not in 'ModelConfig'"),
        (["+sede=3"], "unknown key sede"),
        (["model.hidden=wide"], "model.hidden: Value 'wide'"),
        (["model.hidden=0"], "model.hidden is 0, expected 1 to 4096"),
        (["model.dropout=1"], r"model.dropout is 1.0, expected 0 to 0.95"),
        (["model.cell=rnn"], "model.cell is 'rnn', expected one of lstm, gru"),
        (["augment.speeds=[1.0,3.0]"], "augment.speeds is 3.0, expected 0.5 to 2.0"),
        (["optimizer=adamm"], "optimizer/adamm"),
        (["optimizer.name=adamm"], "optimizer.name is 'adamm', expected one of adamw, adadelta, sgd"),
        (["optimizer=3"], "override must be a string"),
        ([f"optimizer{'.be' * 300}=1"], "File name too long"),
        (["trainer.trackers=[paper]"], "trainer.trackers is 'paper', expected one of tensorboard"),
        (["seed=one"], "seed is 'one', expected int"),
        (["seed=-1"], "seed is -1, expected 0 or more"),
        (["resume=1"], "resume is 1, expected bool"),
        (["features=null"], "override must be a string"),
        (["experiment=nothing"], "experiment/nothing"),
        (["corpus.inventory=klingon"], "corpus.inventory is 'klingon'"),
        (["~model.hidden"], "model.hidden"),
        (["model.hidden"], "model.hidden"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        settings(*overrides)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("configuration: ")


@pytest.mark.parametrize("path", ["/home/jürgen/corpus", "a folder [1]/(2)", "it's/a\\'b\\", "~/data", "plain", "日本"])
def test_a_path_may_have_characters_that_hydra_refuses(path: str) -> None:
    assert settings(f"corpus.dir={path}").corpus.dir == path


def test_a_sweep_is_not_quoted() -> None:
    assert quote("seed=1,2") == "seed=1,2"
    assert quote("corpus.dir=/ä,/ö") == "corpus.dir=/ä,/ö"
    with pytest.raises(InputError, match="^configuration: "):
        settings("corpus.dir=/ä,/ö")


def test_run_dir_has_no_default() -> None:
    with pytest.raises(InputError, match="run_dir has no value"):
        compose([])


def test_a_mapping_must_have_every_field() -> None:
    with pytest.raises(InputError, match="here.sample_rate_hz: .* missing mandatory"):
        from_mapping(FeatureConfig, {"name": "fbank"}, "here")
    with pytest.raises(InputError, match="here is 3, expected a group"):
        from_mapping(FeatureConfig, 3, "here")  # type: ignore[arg-type]


def test_the_schema_has_no_defaults_and_the_yaml_no_code() -> None:
    for path in config_dir().rglob("*.yaml"):
        assert "_target_" not in path.read_text(), path
    schema = (Path(__file__).parents[1] / "asr" / "config.py").read_text()
    assert "default=" not in schema


@pytest.mark.parametrize("text", ["4294967295", "- 5", "word", "--- ~"])
def test_yaml_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=r"x.yaml: a list or a single value, expected settings with a value each"):
        read_yaml(tmp_path / "x.yaml")


def test_yaml_that_refers_to_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: ${oc.env:HOME}")
    with pytest.raises(InputError, match=r"x.yaml: has the reference '\$\{oc.env:HOME\}', expected plain values"):
        read_yaml(tmp_path / "x.yaml")


def test_yaml_that_grows_out_of_a_few_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise("abcdefghi")]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"bomb.yaml: has the alias \*a, expected YAML without aliases"):
        read_yaml(path)
    path.write_text("a: " + "[" * 5000)
    with pytest.raises(InputError, match="nested more than 20 deep"):
        read_yaml(path)
    path.write_text("a: b\n" + "#" * 2**14)
    with pytest.raises(InputError, match="16389 bytes, expected settings of at most 16384"):
        read_yaml(path)
    path.write_text("")
    assert read_yaml(path) == {}
    path.write_text("!!python/object/apply:os.system [exit]")
    with pytest.raises(InputError, match="bomb.yaml"):
        read_yaml(path)
