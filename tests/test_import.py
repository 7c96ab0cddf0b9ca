"""Import of the weights of plain torch models; pickles are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.cli import models as commands
from asr.corpus.phones import BLANK, inventory
from asr.errors import InputError
from asr.export.state_dict import import_state_dict
from asr.inference.bundle import load_bundle
from asr.inference.weights import load_weights, read_tensors
from tests.conftest import settings

SYMBOLS = inventory("arpabet39").symbols
FEATURES = ("features.bins=20", "features.normalization=utterance")


class Plain(nn.Module):
    """A recurrent stack and a linear layer, as in a tutorial."""

    def __init__(self, kind: type = nn.LSTM, width: int = 20, symbols: int = len(SYMBOLS), **options: Any) -> None:
        super().__init__()
        self.encoder = kind(width, 24, batch_first=True, **options)
        self.classifier = nn.Linear(48 if self.encoder.bidirectional else 24, symbols)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.encoder(features)[0]).log_softmax(dim=-1)
        return scores


def saved(model: nn.Module, path: Path, rename: dict[str, str] | None = None) -> Path:
    weights = model.state_dict()
    for old, new in (rename or {}).items():
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    save_file(weights, path)
    return path


def check(model: Plain, path: Path, rename: dict[str, str] | None = None) -> None:
    bundle, mapping = import_state_dict(saved(model, path, rename), settings(*FEATURES), None)
    features = torch.randn(3, 31, 20)
    with torch.no_grad():
        log_probs, lengths = bundle.log_probs(features, torch.tensor([31, 31, 31]))
        torch.testing.assert_close(log_probs, model(features), atol=1e-5, rtol=1e-5)
    assert lengths.tolist() == [31, 31, 31]
    assert {theirs for _, theirs, _ in mapping} - {"zeros"} == set(read_tensors(path))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 3, 12])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_any_stack_says_the_same(tmp_path: Path, kind: type, layers: int, bidirectional: bool, bias: bool) -> None:
    options = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias}
    check(Plain(kind, **options), tmp_path / "weights.safetensors")


def test_other_names_are_mapped_by_shape(tmp_path: Path) -> None:
    rename = {"encoder.weight_ih_l": "a.W", "encoder.weight_hh_l": "a.U", "classifier": "head.out"}
    rename |= {"encoder.bias_ih_l": "a.p", "encoder.bias_hh_l": "a.q", "_reverse": ".bw"}
    model = Plain(nn.LSTM, num_layers=2, bidirectional=True)
    path = saved(model, tmp_path / "weights.safetensors", rename)
    with pytest.raises(InputError, match="told apart by ih and hh in their names"):
        check(model, path, rename)  # nothing tells which two biases belong together
    check(model, path, rename | {"encoder.bias_ih_l": "a.ih_", "encoder.bias_hh_l": "a.hh_"})


def test_stacked_frames_and_an_own_order_of_phones(tmp_path: Path) -> None:
    order = [*SYMBOLS[20:], *SYMBOLS[:20]]
    phones = tmp_path / "phones.txt"
    phones.write_text("\n".join(order))
    model = Plain(width=60, num_layers=2, bidirectional=True)
    path = saved(model, tmp_path / "weights.safetensors")
    bundle, _ = import_state_dict(path, settings(*FEATURES), phones)
    assert bundle.model.time_reduction == 3
    assert bundle.inventory.symbols == SYMBOLS
    features = torch.randn(1, 30, 20)
    with torch.no_grad():
        log_probs, _ = bundle.log_probs(features, torch.tensor([30]))
        expected = model(features.reshape(1, 10, 60))
    for index, symbol in enumerate(order):
        torch.testing.assert_close(log_probs[..., SYMBOLS.index(symbol)], expected[..., index], atol=1e-5, rtol=1e-5)


def test_phones_of_an_inventory_of_ones_own(tmp_path: Path) -> None:
    phones = tmp_path / "vowels.txt"
    phones.write_text(f"a\ne\n{BLANK}\no\n")
    path = saved(Plain(symbols=4, bidirectional=True), tmp_path / "weights.safetensors")
    out = tmp_path / "imported"
    commands.import_lstm(path, out, list(FEATURES), phones)
    assert load_bundle(out).inventory.symbols == (BLANK, "a", "e", "o")
    assert "encoder.weight_hh_l0_reverse" in (out / "README.md").read_text()
    phones.write_text("a\ne\no\ni\n")
    with pytest.raises(InputError, match=r"vowels.txt: 4 symbols, 0 of them <blank>, expected it and each phone once"):
        commands.import_lstm(path, tmp_path / "other", list(FEATURES), phones)
    with pytest.raises(InputError, match="imported: already exists"):
        commands.import_lstm(path, out, list(FEATURES), phones)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    config, path = settings(*FEATURES), tmp_path / "weights.safetensors"
    for model, complaint in (
        (nn.Linear(24, 40), r"nothing beside a linear layer of 24 inputs, expected an LSTM or GRU stack"),
        (nn.LSTM(20, 24), r"0 matrices with 40 rows, expected one, a row for each symbol: .*weight_hh_l0 \[96, 24\]"),
        (nn.ModuleList([Plain(), nn.Conv1d(3, 4, 5)]), r"1.weight \[4, 3, 5\].* beside a linear layer"),
        (Plain(nn.RNN), r"encoder.weight_ih_l0 \[24, 20\].* beside a linear layer of 24 inputs"),
        (Plain(width=33), r"encoder.weight_ih_l0 takes 33 values a frame, expected a multiple of the features' 20"),
    ):
        saved(model, path)
        with pytest.raises(InputError, match=complaint):
            import_state_dict(path, config, None)
    weights = Plain(num_layers=2).state_dict()
    del weights["encoder.bias_hh_l1"]
    save_file(weights, path)
    with pytest.raises(InputError, match=r"encoder.bias_hh_l0 \[96\]"):
        import_state_dict(path, config, None)
    nameless = {f"x.{index}": tensor for index, tensor in enumerate(Plain(num_layers=2).state_dict().values())}
    save_file(nameless, path)
    with pytest.raises(InputError, match="told apart by ih and hh in their names"):
        import_state_dict(path, config, None)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_with_the_way_to_convert_them(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(Plain().state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=r"weights.pt: a pickle.*expected safetensors.*save_file\(torch.load\('weights.pt'"
    ):
        import_state_dict(path, settings(*FEATURES), None)
    with pytest.raises(InputError, match="a pickle"):
        load_weights(Plain(), path)
