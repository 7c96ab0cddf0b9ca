"""Model folders: what is saved is loaded, and damage is named."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asr.corpus.phones import PhoneInventory, inventory
from asr.errors import InputError
from asr.features.normalization import FeatureStatistics
from asr.inference.bundle import Bundle, build_model, load_bundle, save_bundle
from tests.conftest import TINY_MODEL, settings
from tests.faults.fuzz import limits


def make_bundle(*overrides: str, phones: PhoneInventory | None = None) -> Bundle:
    config = settings(*TINY_MODEL, *overrides)
    phones = phones or inventory("arpabet39")
    statistics = {"": FeatureStatistics(torch.randn(40), torch.rand(40) + 0.5)}
    model = build_model(config.model, config.features, phones).eval()
    return Bundle(model, config.model, config.features, phones, "plain", statistics)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_bundle(make_bundle(), tmp_path / "model", "# a card\n")
    return tmp_path / "model"


@pytest.mark.parametrize("overrides", [(), ("features=fbank_delta", "features.delta_order=0", "features.energy=false")])
def test_what_is_saved_is_loaded(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    bundle = make_bundle(*overrides)
    save_bundle(bundle, tmp_path / "model", "# a card\n")
    loaded = load_bundle(tmp_path / "model")
    assert (loaded.features, loaded.model_config) == (bundle.features, bundle.model_config)
    assert (loaded.inventory, loaded.convention) == (bundle.inventory, "plain")
    assert not loaded.model.training
    features, lengths = torch.randn(1, 50, 40), torch.tensor([50])
    torch.testing.assert_close(loaded.model(features, lengths), bundle.model(features, lengths), atol=0, rtol=0)
    if bundle.features.normalization == "global":
        torch.testing.assert_close(loaded.statistics[""].mean, bundle.statistics[""].mean)
        torch.testing.assert_close(loaded.statistics[""].std, bundle.statistics[""].std)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert (tmp_path / "model" / "phones.txt").read_text().startswith("<blank>\nAA\nAE\n")


def test_saving_again_replaces(saved: Path) -> None:
    (saved / "leftover").touch()
    save_bundle(make_bundle(), saved, "# another card\n")
    assert not (saved / "leftover").exists()
    assert (saved / "README.md").read_text() == "# another card\n"


def test_phones_of_ones_own(tmp_path: Path) -> None:
    own = PhoneInventory("clicks", ("<blank>", "!", "|"), {"!": "!", "|": "|"})
    save_bundle(make_bundle(phones=own), tmp_path / "model", "")
    assert load_bundle(tmp_path / "model").inventory == own


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_bundles_that_cannot_be_used(saved: Path) -> None:
    def damage_output(path: Path) -> None:
        weights = load_file(path / "model.safetensors")
        weights["output.weight"] = weights["output.weight"][:, :5].clone()
        weights["unexpected"] = weights.pop("output.bias")
        save_file(weights, path / "model.safetensors")

    cases = {
        r"no config\.yaml, expected a model folder": lambda path: (path / "config.yaml").unlink(),
        r"no phones\.txt": lambda path: (path / "phones.txt").unlink(),
        "not readable": lambda path: (path / "config.yaml").write_text("a: [1\n"),
        "format None, expected 1": lambda path: (path / "config.yaml").write_text("a: 1\n"),
        "format 2, expected 1": lambda path: edit(path / "config.yaml", "format: 1", "format: 2"),
        r"features\.binz": lambda path: edit(path / "config.yaml", "bins:", "binz:"),
        "layers is 0": lambda path: edit(path / "config.yaml", "layers: 1", "layers: 0"),
        "40 symbols, expected the 62 of timit61": lambda path: edit(path / "config.yaml", "arpabet39", "timit61"),
        "expected <blank> and then each phone once": lambda path: edit(path / "phones.txt", "AE\n", "AA\n"),
        "expected a safetensors file": lambda path: (path / "model.safetensors").write_bytes(b"x" * 99),
        r"output\.bias is missing; output\.weight is \[40, 5\], expected \[40, 32\]; unexpected is unknown": damage_output,
        r"recurrent\.weight_hh_l0 is \[64, 16\], expected \[32, 8\]": lambda path: edit(
            path / "config.yaml", "hidden: 16", "hidden: 8"
        ),
    }
    for message, damage in cases.items():
        path = saved.with_name("damaged")
        shutil.copytree(saved, path)
        (path / "checksums.txt").unlink()
        damage(path)
        with pytest.raises(InputError, match=message) as error:
            load_bundle(path)
        assert "damaged" in str(error.value)
        assert "\n" not in str(error.value)
        shutil.rmtree(path)
    with pytest.raises(InputError, match="expected a model folder"):
        load_bundle(saved / "nowhere")


def test_a_bit_that_has_changed_is_found(saved: Path) -> None:
    assert load_bundle(saved)
    for name in ("config.yaml", "model.safetensors", "phones.txt"):
        content = (saved / name).read_bytes()
        (saved / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(InputError, match=f"model/{name}: does not agree with its checksum"):
            load_bundle(saved)
        (saved / name).write_bytes(content)
    with (saved / "checksums.txt").open("a") as file:
        file.write(f"{'0' * 64}  ../../secret\n")
    with pytest.raises(InputError, match=r"secret', expected a checksum and one of config.yaml, "):
        load_bundle(saved)


def test_settings_cannot_ask_for_memory_that_no_weights_fill(saved: Path) -> None:
    (saved / "checksums.txt").unlink()
    edit(saved / "config.yaml", "hidden: 16", "hidden: 4096")
    edit(saved / "config.yaml", "layers: 1", "layers: 20")
    with limits(), pytest.raises(InputError, match="weights do not fit the model"):
        load_bundle(saved)


def test_weights_that_claim_more_than_there_is_are_refused(saved: Path) -> None:
    (saved / "checksums.txt").unlink()
    header = b'{"output.bias":{"dtype":"F32","shape":[536870912],"data_offsets":[0,2147483648]}}'
    for length in (len(header), 2**31, 2**63):
        (saved / "model.safetensors").write_bytes(length.to_bytes(8, "little") + header + b"\0" * 40)
        with (
            limits(),
            pytest.raises(InputError, match=r"model.safetensors: not readable .*, expected a safetensors file"),
        ):
            load_bundle(saved)


def test_links_out_of_a_bundle_are_refused(saved: Path, tmp_path: Path) -> None:
    load_bundle(saved)
    (saved / "phones.txt").rename(tmp_path / "elsewhere.txt")
    for target in (tmp_path / "elsewhere.txt", Path("../elsewhere.txt")):
        (saved / "phones.txt").symlink_to(target)
        with pytest.raises(
            InputError, match=r"phones.txt: a link to .*elsewhere.txt, expected a file in the model's folder"
        ):
            load_bundle(saved)
        (saved / "phones.txt").unlink()
    (tmp_path / "elsewhere.txt").rename(saved / "phones.txt")
    (tmp_path / "link").symlink_to(saved)
    load_bundle(tmp_path / "link")


def test_values_and_statistics_that_cannot_be_used(tmp_path: Path) -> None:
    save_bundle(make_bundle("features.normalization=global"), tmp_path / "model", "")
    (tmp_path / "model" / "checksums.txt").unlink()
    whole = load_file(tmp_path / "model" / "model.safetensors")
    save_file(whole | {"output.bias": torch.full((40,), torch.nan)}, tmp_path / "model" / "model.safetensors")
    with pytest.raises(InputError, match=r"output.bias has a value that is not finite"):
        load_bundle(tmp_path / "model")
    huge = {key: torch.full_like(tensor, 3e38) for key, tensor in whole.items()}
    save_file(huge, tmp_path / "model" / "model.safetensors")
    with pytest.raises(InputError, match="log-probabilities are not finite"):
        load_bundle(tmp_path / "model").log_probs(torch.randn(1, 50, 40), torch.tensor([50]))
    save_file({key: tensor.double() for key, tensor in whole.items()}, tmp_path / "model" / "model.safetensors")
    assert load_bundle(tmp_path / "model").model.output.bias.dtype == torch.float32
    save_file({"mean": torch.zeros(40), "std": torch.ones(39)}, tmp_path / "model" / "statistics.safetensors")
    with pytest.raises(InputError, match=r"statistics.safetensors: .* std is \[39\], expected \[40\]"):
        load_bundle(tmp_path / "model")
    save_file({"mean": torch.zeros(40)}, tmp_path / "model" / "statistics.safetensors")
    with pytest.raises(InputError, match=r"statistics.safetensors: .* std is missing"):
        load_bundle(tmp_path / "model")


def test_a_bundle_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        save_bundle(make_bundle(), tmp_path / "file" / "model", "")


def test_weights_are_no_part_of_the_file(saved: Path) -> None:
    """A model goes on working if its file is cut, as by a copy over it."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("NOT TESTED: this system does not list what is mapped")
    bundle = load_bundle(saved)
    assert str(saved) not in maps.read_text()
    assert all(parameter.isfinite().all() for parameter in bundle.model.parameters())
