"""wav2vec 2.0, HuBERT, WavLM and XLS-R: encoders of waveforms, from Transformers (the extra ``pretrained``).

The network is Transformers' own; this module runs it one layer at a time and makes a ragged batch exact. Some of these
networks normalize over all samples of their input, so the convolutions see one utterance at a time.
"""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.errors import InputError
from asr.features.encoder_inputs import join_frames
from asr.nn.ragged import length_mask

FAMILIES = ("wav2vec2", "hubert", "wavlm")
"""Their ``model_type``; that of XLS-R is wav2vec2."""

OLD_NAMES = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}
"""Older checkpoints name the two parts of a normalized weight otherwise."""


class WaveformEncoder(nn.Module):
    """Overlapping frames of samples (batch, frames, window) -> hidden states (batch, frames, width), layer by layer."""

    max_frames: int | None = None
    time_reduction = 1

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        """``architecture`` is the ``config.json`` of a checkpoint.

        Raises:
            InputError: Transformers is not installed.
        """
        super().__init__()
        try:
            from transformers import AutoConfig, AutoModel
        except ImportError as error:
            missing = f"encoder: {architecture['model_type']} needs the package transformers, which is not installed"
            raise InputError(f"{missing}, expected pip install 'asr-phones[pretrained]'") from error
        config = AutoConfig.for_model(**architecture)
        config.mask_time_prob = config.mask_feature_prob = 0.0  # our own SpecAugment masks the encoder's output
        config.add_adapter = False
        self.is_wavlm = config.model_type == "wavlm"
        self.network = AutoModel.from_config(config, attn_implementation="eager" if self.is_wavlm else "sdpa")
        self.stable = bool(getattr(config, "do_stable_layer_norm", False))
        self.width, self.shift = config.hidden_size, window_and_shift(architecture)[1]

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers."""
        return self.network.encoder.layers

    def embed(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the first layer, (batch, frames, width), and its lengths."""
        network = self.network
        counts = lengths.clamp_min(1)  # an utterance without frames is masked below
        signals = [join_frames(frames[:count], self.shift) for frames, count in zip(features, counts, strict=True)]
        hidden = pad_sequence([network.feature_extractor(one[None])[0].T for one in signals], batch_first=True)
        projected = network.feature_projection(hidden)
        hidden = projected[0] if isinstance(projected, tuple) else projected
        hidden = hidden * length_mask(lengths, hidden.shape[1])[..., None]
        hidden = hidden + network.encoder.pos_conv_embed(hidden)
        if not self.stable:
            hidden = network.encoder.layer_norm(hidden)
        return network.encoder.dropout(hidden), lengths

    def layer(self, index: int, hidden: Tensor, inside: Tensor) -> Tensor:
        """Apply one layer to (batch, frames, width); ``inside`` (batch, frames) bool is true inside each utterance."""
        if not self.is_wavlm:
            return self.layers[index](hidden, attention_mask=inside[:, None, None])
        (batch, frames), first = hidden.shape[:2], cast(Any, self.layers[0])
        bias = first.attention.compute_bias(frames, frames)[None].expand(batch, -1, -1, -1).flatten(0, 1)
        return self.layers[index](hidden, attention_mask=inside, position_bias=bias, index=index)[0]

    def finish(self, hidden: Tensor) -> Tensor:
        """Normalize the output of the last layer, if the network does."""
        return self.network.encoder.layer_norm(hidden) if self.stable else hidden

    def quantizable(self) -> list[nn.Module]:
        """The modules whose linear layers may have 8-bit weights. WavLM's attention reads the weights of its own itself."""
        return [cast(Any, layer).feed_forward for layer in self.layers] if self.is_wavlm else [self.network]


def window_and_shift(architecture: Mapping[str, Any]) -> tuple[int, int]:
    """The samples that an output of the convolutions depends on, and those between two outputs."""
    window, shift = 1, 1
    for kernel, stride in zip(architecture["conv_kernel"], architecture["conv_stride"], strict=True):
        window, shift = window + (kernel - 1) * shift, shift * stride
    return window, shift


def waveform_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights out of those of a whole checkpoint, by the names of `WaveformEncoder`."""
    prefix = next((f"{family}." for family in FAMILIES if any(name.startswith(f"{family}.") for name in tensors)), "")
    parts = ("feature_extractor.", "feature_projection.", "encoder.")
    weights = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(prefix)
        for old, new in OLD_NAMES.items():
            name = name.replace(old, new)
        if name.startswith(parts):
            weights[f"network.{name}"] = tensor
    return weights
