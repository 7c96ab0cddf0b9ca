"""What cannot be trained on is refused: long utterances, speakers of the dev set, unknown phones, other stored features."""

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from asr.config import FeatureConfig
from asr.corpus.manifest import Utterance
from asr.corpus.phones import PhoneInventory
from asr.errors import InputError
from asr.training.sources import Source


@dataclass(frozen=True)
class UtteranceCheck:
    """What the utterances of a training and dev set must fulfil. ``longest_s`` is the longest that the encoder sees."""

    longest_s: float
    dev_speakers: Collection[str]
    phones: PhoneInventory

    def check_durations(self, utterances: Sequence[Utterance], where: str) -> None:
        """Refuse an utterance that is too long."""
        for utterance in utterances:
            if utterance.duration_s > self.longest_s:
                limit = f"expected at most {self.longest_s:g} s, what the encoder sees at once"
                raise InputError(f"{where}: utterance {utterance.id} lasts {utterance.duration_s:.2f} s, {limit}")

    def check_speakers(self, utterances: Sequence[Utterance], where: str) -> None:
        """Refuse speakers of the dev set."""
        shared = {utterance.speaker for utterance in utterances} & {*self.dev_speakers}
        if shared:
            raise InputError(f"{where}: speaker {min(shared)} is in train and dev, expected disjoint speakers")

    def __call__(self, utterances: Sequence[Utterance], shard: str) -> None:
        """Check the utterances of a shard of the training set."""
        self.check_durations(utterances, shard)
        self.check_speakers(utterances, shard)
        for utterance in utterances:
            self.phones.encode(utterance.phones, f"{utterance.id} of {shard}")


def check_index(source: Source, longest_s: float) -> None:
    """Refuse shards whose index has a longer utterance.

    Raises:
        InputError: it names the shard.
    """
    for shard in source.shards if source.shards is not None and longest_s < math.inf else ():
        if shard.longest_s > longest_s:
            limit = f"expected at most {longest_s:g} s, what the encoder sees at once"
            raise InputError(f"{source.location}: {shard.name}: an utterance of {shard.longest_s:.2f} s, {limit}")


def check_stored_features(source: Source, features: FeatureConfig, speeds: Sequence[float], encoded: bool) -> None:
    """Refuse shards of features, if training needs others or audio.

    Raises:
        InputError: it names the shards and what differs.
    """
    if source.shards is None or source.shards.features is None:
        return
    where = f"{source.location}: stored features"
    if encoded:
        raise InputError(f"{where}, expected audio for a pretrained encoder")
    if list(speeds) != [1.0]:
        raise InputError(f"{where} with augment.speeds {list(speeds)}, expected [1.0] or shards of audio")
    stored, wanted = dict(source.shards.features), asdict(features)
    # Normalization follows later; the running one alone changes what is stored, for digital silence.
    for settings in (stored, wanted):
        settings["normalization"] = settings.get("normalization") == "running"
    for key, value in wanted.items():
        if stored.get(key) != value:
            raise InputError(f"{where} with {key} {stored.get(key)}, expected {value} as in features.{key}")
