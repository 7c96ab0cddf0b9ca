import pytest
import torch

from asr.config import config_dir
from asr.errors import InputError
from asr.features.filterbanks import feature_dim
from asr.nn.acoustic_model import AcousticModel, ConvolutionFrontEnd, count_parameters
from tests.conftest import settings

MODELS = sorted(path.stem for path in (config_dir() / "model").glob("*.yaml"))


def make(*overrides: str) -> AcousticModel:
    config = settings(*overrides)
    return AcousticModel(config.model, feature_dim(config.features), 40).eval()


def test_the_zoo_is_what_the_documentation_says() -> None:
    assert {"blstm", "cnn_blstm", "cnn_blstm_attention", "graves2013", "gru", "lstm"} <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("reduction", [1, 2, 3, 4])
def test_the_output_of_an_utterance_does_not_depend_on_its_batch(name: str, reduction: int) -> None:
    model = make(f"model={name}", "model.hidden=24", f"model.time_reduction={reduction}")
    lengths = torch.tensor([57, 1, 110, 8])
    features = torch.randn(4, 113, 40)
    for row, length in enumerate(lengths):
        features[row, length:] = 0
    with torch.inference_mode():
        together, out_lengths = model(features, lengths)
        assert out_lengths.tolist() == [-(-length // reduction) for length in lengths.tolist()]
        torch.testing.assert_close(together.exp().sum(-1), torch.ones(together.shape[:2]))
        for row, length in enumerate(lengths.tolist()):
            alone, own = model(features[row : row + 1, :length], lengths[row : row + 1])
            assert own == out_lengths[row]
            assert alone.shape[1] == own
            torch.testing.assert_close(together[row, :own], alone[0], atol=1e-4, rtol=0)


def test_every_input_frame_affects_the_output() -> None:
    for reduction in (1, 2, 3, 4, 5):
        model = make("model=cnn_blstm", "model.hidden=8", "model.layers=1", f"model.time_reduction={reduction}")
        features = torch.randn(1, 40, 40, requires_grad=True)
        model(features, torch.tensor([40]))[0].square().sum().backward()
        assert features.grad is not None
        assert (features.grad.abs().sum(dim=(0, 2)) > 0).all()


def test_the_first_convolution_is_in_channels_last_layout_and_its_gradient() -> None:
    # It computes most of the values. Mixed layouts give the same values, but computed element by element.
    front_end = ConvolutionFrontEnd(40, [8, 8], 3)
    maps: list[torch.Tensor] = []
    gradients: list[torch.Tensor] = []

    def record(_layer: object, _inputs: object, output: torch.Tensor) -> None:
        maps.append(output)
        output.register_hook(gradients.append)

    for layer in front_end.layers:
        layer.register_forward_hook(record)
    front_end(torch.randn(2, 30, 40), torch.tensor([30, 20]))[0].square().sum().backward()
    assert len(maps) == len(gradients) == 2
    for values in (maps[0], gradients[-1]):
        assert values.is_contiguous(memory_format=torch.channels_last)
        assert not values.is_contiguous()


def test_unidirectional_does_not_look_ahead() -> None:
    model = make("model=lstm", "model.hidden=8")
    features = torch.randn(1, 30, 40)
    changed = features.clone()
    changed[:, 20:] += 1
    lengths = torch.tensor([30])
    first, second = model(features, lengths)[0], model(changed, lengths)[0]
    torch.testing.assert_close(first[:, :20], second[:, :20])
    assert not torch.allclose(first[:, 20:], second[:, 20:])


def test_graves2013_is_the_published_network() -> None:
    config = settings("experiment=graves2013")
    model = AcousticModel(config.model, feature_dim(config.features), 62)
    assert model.recurrent.get_parameter("weight_ih_l0").shape == (1000, 123)
    assert model.recurrent.layers == 3
    # The paper counts 3.8 M weights.
    assert 3.7e6 < count_parameters(model) < 3.9e6
    for parameter in model.parameters():
        assert parameter.abs().max() <= 0.1
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("sgd", 1e-4)
    assert config.trainer.weight_noise == 0.075


def test_dropout_acts_in_training_alone() -> None:
    model = make("model=blstm", "model.layers=1", "model.hidden=8", "model.dropout=0.5")
    features, lengths = torch.randn(1, 9, 40), torch.tensor([9])
    torch.testing.assert_close(model(features, lengths)[0], model(features, lengths)[0])
    model.train()
    assert not torch.allclose(model(features, lengths)[0], model(features, lengths)[0])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(InputError, match="model.attention_heads is 5, expected a divisor of the width 48"):
        make("model=cnn_blstm_attention", "model.hidden=24", "model.attention_heads=5")
