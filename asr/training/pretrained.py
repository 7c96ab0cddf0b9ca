"""The pretrained encoder of a training run: its checkpoint, and the outputs of its frozen layers, cached on disk."""

import hashlib
import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from asr.config import EncoderConfig, FeatureConfig, TrainConfig
from asr.errors import InputError
from asr.features.filterbanks import extract
from asr.features.normalization import normalize
from asr.inference.encoder_checkpoint import digest_of, find_checkpoint, load_encoder, read_architecture
from asr.inference.result_files import write_result
from asr.nn.pretrained_encoder import EncoderSpec, PretrainedEncoder, input_features, positions
from asr.system.files import make_folder

log = logging.getLogger("asr.training")


@dataclass(frozen=True)
class Checkpoint:
    """A pretrained encoder as the configuration names it."""

    folder: Path
    spec: EncoderSpec
    features: FeatureConfig
    digest: str

    @classmethod
    def of(cls, config: TrainConfig) -> "Checkpoint | None":
        """The checkpoint of a configuration, None if it has no pretrained encoder.

        Raises:
            InputError: features and encoder do not go together, or the checkpoint cannot be used.
        """
        name, features = config.encoder.checkpoint, config.features.name
        if not name and features == "pretrained":
            raise InputError(
                "configuration: encoder.checkpoint is empty, expected a checkpoint for features=pretrained"
            )
        if name and features != "pretrained":
            raise InputError(f"configuration: features are {features} with encoder.checkpoint, expected pretrained")
        if not name:
            return None
        folder = find_checkpoint(name)
        spec = EncoderSpec(read_architecture(folder), config.encoder.trained_layers, config.encoder.mix_layers)
        return cls(folder, spec, input_features(spec.architecture, config.features.padding_ms), digest_of(folder))

    @property
    def longest_s(self) -> float:
        """The longest utterance in seconds that the encoder sees at once."""
        frames = positions(self.spec.architecture)
        frames_s = math.inf if frames is None else frames * self.features.frame_shift_ms / 1000
        return frames_s - 2 * self.features.padding_ms / 1000

    def load_into(self, encoder: PretrainedEncoder) -> None:
        """Copy the checkpoint's weights into an encoder."""
        load_encoder(encoder, self.folder, dict(self.spec.architecture))


class FrozenLayers:
    """The output of the frozen layers for one utterance, computed once and kept on disk in float16.

    A file's name is the SHA-256 of the samples, of the checkpoint and of what is frozen, so it can never be out of date.
    """

    def __init__(self, checkpoint: Checkpoint, config: EncoderConfig, folder: Path, device: torch.device) -> None:
        """``folder`` is the cache; the files used least recently are removed if it exceeds ``config.cache_gib``."""
        self.features, self.device, self.folder = checkpoint.features, device, folder
        self.encoder = PretrainedEncoder(checkpoint.spec).eval()
        checkpoint.load_into(self.encoder)
        self.encoder.to(device)
        padding = f" {self.features.padding_ms:g}" if self.features.padding_ms else ""
        self._key = f"{checkpoint.digest} {self.encoder.first_trained} {checkpoint.spec.mix_layers}{padding}".encode()
        self._limit = config.cache_gib * 2**30
        make_folder(folder)
        self._size = float(self._remove_oldest())

    def __call__(self, samples: np.ndarray) -> Tensor:
        """(samples,) float32 -> (frames', dim) float16."""
        path = self.folder / f"{hashlib.sha256(self._key + samples.tobytes()).hexdigest()}.safetensors"
        with suppress(OSError, SafetensorError, KeyError):
            output = load_file(path)["output"]
            path.touch()  # used now
            return output
        inputs = normalize(extract(samples, self.features), self.features)
        if len(inputs) == 0:
            return torch.zeros(0, self.encoder.frozen_size, dtype=torch.float16)
        with torch.inference_mode():
            states, _ = self.encoder.frozen(
                inputs[None].to(self.device), torch.tensor([len(inputs)], device=self.device)
            )
        output = states[0].half().cpu().contiguous()
        content = save({"output": output})
        if self._size + len(content) <= self._limit:
            self._size += write_result(path, content)  # another thread or process may write the same
        return output

    def _remove_oldest(self) -> int:
        """Remove the files used least recently until the cache has its size; returns the bytes that remain."""
        files = []
        for path in self.folder.glob("*.safetensors"):
            with suppress(FileNotFoundError):  # another process has just removed it
                files.append((path.stat(), path))
        size = sum(status.st_size for status, _ in files)
        removed = 0
        for status, path in sorted(files, key=lambda file: file[0].st_mtime):
            if size <= self._limit:
                break
            size -= status.st_size
            path.unlink(missing_ok=True)
            removed += 1
        if removed:
            log.info("%s: %d files used least recently removed", self.folder, removed)
        return size


def frozen_layers(checkpoint: Checkpoint | None, config: TrainConfig, device: torch.device) -> FrozenLayers | None:
    """What the datasets apply to the samples of each utterance; None if no layer is frozen."""
    if checkpoint is None or checkpoint.spec.trained_layers == -1:
        return None
    folder = Path(config.encoder.cache_dir or Path(config.corpus.dir) / "encoder_outputs")
    return FrozenLayers(checkpoint, config.encoder, folder, device)
