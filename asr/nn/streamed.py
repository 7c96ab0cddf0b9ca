"""The acoustic model while the features of a recording arrive.

In:  normalized features (frames, dim), in any pieces.
Out: float32 log-probabilities (frames', symbols) as soon as the look-ahead allows, those of the whole recording at once.
"""

import torch
from torch import Tensor

from asr.errors import InputError
from asr.nn.acoustic_model import AcousticModel, reduced_length

FORWARD_CHUNK = 8
"""Output frames that a unidirectional model, which needs no look-ahead, computes at once."""


class StreamedModel:
    """The state of an acoustic model in one stream. A model may have many streams."""

    def __init__(self, model: AcousticModel, look_ahead: int | None = None) -> None:
        """``look_ahead`` is in output frames, as the model was trained for it; by default the first of these.

        Raises:
            InputError: the model needs the whole recording.
        """
        stack = model.recurrent
        bidirectional = len(stack.suffixes) == 2
        if model.encoder or len(model.attention) or (bidirectional and not stack.chunk):
            raise InputError(
                "model: needs the whole recording, expected one trained with model.chunk_frames or model=lstm"
            )
        if look_ahead is None:
            look_ahead = stack.look_ahead[0] if bidirectional else 0
        if not 0 <= look_ahead <= max(0, *stack.look_ahead):
            limit = f"expected 0 to {max(0, *stack.look_ahead)}, for which the model was trained"
            raise InputError(f"look-ahead is {look_ahead} output frames, {limit}")
        if next(model.parameters()).device.type != "cpu":
            raise InputError(f"model: on {next(model.parameters()).device}, expected it on cpu for a stream")
        self.model, self.chunk, self.look_ahead = model, stack.chunk or FORWARD_CHUNK, look_ahead
        self._features: list[Tensor] = []
        self._first, self._frames = 0, 0  # the first feature frame that is kept, and how many have arrived
        self._outputs = 0  # output frames of the front end so far
        self._waiting = torch.zeros(0, 0)  # those of them that are in no chunk yet
        self._states: list[list[Tensor]] = []

    @torch.inference_mode()
    def accept(self, features: Tensor, ended: bool = False) -> Tensor:
        """Take the next features (frames, dim), the last ones if ``ended``; returns (frames', symbols), maybe none."""
        self._features.append(features)
        self._frames += len(features)
        hidden = self._run_front_end(ended)
        self._waiting = torch.cat([self._waiting, hidden]) if len(self._waiting) else hidden
        needed = 1 if ended else self.chunk + self.look_ahead
        parts = []
        while len(self._waiting) >= needed:
            block = self._waiting[: self.chunk + self.look_ahead]
            output, self._states = self.model.recurrent.run_block(block, self.chunk, self._states)
            parts.append(output)
            self._waiting = self._waiting[self.chunk :]
        joined = torch.cat(parts) if parts else hidden.new_zeros(0, self.model.recurrent.output_size)
        return self.model.output(joined).float().log_softmax(dim=-1)

    def _run_front_end(self, ended: bool) -> Tensor:
        """The front end's output (frames', size) for the features whose context has arrived."""
        front_end = self.model.front_end
        reduction, reach = front_end.reduction, front_end.reach
        complete = self._frames if ended else max(0, self._frames - reach)  # every output frame that begins in these
        outputs = reduced_length(complete, reduction)
        if outputs <= self._outputs:
            return torch.zeros(0, self.model.recurrent.input_size)
        kept = torch.cat(self._features)
        first = self._first // reduction
        hidden, _ = front_end(kept[None], torch.tensor([len(kept)]))
        new = hidden[0, self._outputs - first : outputs - first]
        self._outputs = outputs
        following = max(0, outputs - reduced_length(reach, reduction)) * reduction  # the context of the next one
        self._features, self._first = [kept[following - self._first :]], following
        return new
