"""Shards for training: read ahead in the background, kept on the local disk while in use, and named if they are bad."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from asr.config import SourcesConfig
from asr.corpus.manifest import Utterance, check_unique_ids
from asr.corpus.shards import BadShardError, LocalShard, Shards, read_utterances
from asr.corpus.spool import Spool
from asr.errors import InputError
from asr.training.sources import Source, choose

log = logging.getLogger("asr.training")


@dataclass(frozen=True)
class Visit:
    """A shard to read: ``count`` of its utterances, chosen by ``key`` if not all; its name for messages."""

    shards: Shards
    number: int
    count: int
    key: tuple[int, ...]
    name: str


@dataclass
class Loaded:
    """What was read: the utterances of each shard by its name, and the reason of each bad shard."""

    parts: list[tuple[str, list[Utterance]]] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    in_use: list[LocalShard] = field(default_factory=list)


class ShardReader:
    """Reads shards. While some are trained on, the next are read in the background."""

    def __init__(self, settings: SourcesConfig) -> None:
        folder = Path(settings.spool_dir) if settings.spool_dir else None
        self._spool = Spool(folder, int(settings.spool_gib * 2**30))
        self._skip_bad = settings.skip_bad
        self._ahead: tuple[Sequence[Visit], Future[Loaded]] | None = None
        self._in_use: list[LocalShard] = []
        self._kept: list[LocalShard] = []

    def read_whole(self, source: Source) -> list[Utterance]:
        """All utterances of a source. Its shards stay in place until the end.

        Raises:
            InputError: a shard cannot be read, or an id occurs twice.
        """
        if source.shards is None:
            return list(source.utterances)
        numbers = range(len(source.shards))
        self._spool.read_ahead(source.shards, numbers)
        shards = [self._spool.fetch(source.shards, number) for number in numbers]
        self._kept += shards
        utterances = [utterance for shard in shards for utterance in read_utterances(shard)]
        check_unique_ids(Path(source.location), utterances)
        return utterances

    def load(self, visits: Sequence[Visit], check: Callable[[Sequence[Utterance], str], None]) -> Loaded:
        """Read the utterances of shards; ``check`` refuses those that cannot be used, given the shard's name.

        Raises:
            InputError: a store does not answer, or an utterance cannot be used.
        """
        loaded = Loaded()
        for visit in visits:
            try:
                local = self._spool.fetch(visit.shards, visit.number)
                loaded.in_use.append(local)
                utterances = read_utterances(local)
            except BadShardError as error:
                loaded.bad[visit.name] = str(error)
                continue
            check(utterances, visit.name)
            loaded.parts.append((visit.name, choose(utterances, visit.count, visit.key)))
        return loaded

    def start(self, visits: Sequence[Visit], check: Callable[[Sequence[Utterance], str], None]) -> None:
        """Begin `load` in the background."""
        for visit in visits:
            self._spool.read_ahead(visit.shards, [visit.number])
        future: Future[Loaded] = Future()

        def work() -> None:
            try:
                future.set_result(self.load(visits, check))
            except BaseException as error:
                future.set_exception(error)

        self._ahead = visits, future
        Thread(target=work, daemon=True).start()  # the program need not wait for it at its end

    def take(self, visits: Sequence[Visit], check: Callable[[Sequence[Utterance], str], None]) -> Loaded:
        """As `load`, from the background if it was started for these shards."""
        ahead, self._ahead = self._ahead, None
        if ahead and [visit.key for visit in ahead[0]] == [visit.key for visit in visits]:
            return ahead[1].result()
        return self.load(visits, check)

    def report(self, bad: dict[str, str]) -> None:
        """Name each bad shard.

        Raises:
            InputError: there is one, and ``sources.skip_bad`` is off.
        """
        for reason in bad.values():
            if not self._skip_bad:
                raise InputError(f"{reason}; sources.skip_bad=true leaves such shards out")
            log.warning("%s; the shard is left out", reason)

    def use(self, shards: list[LocalShard]) -> None:
        """Keep these shards in their place, and no longer those before."""
        for shard in self._in_use:
            shard.close()
        self._in_use = shards

    def close(self) -> None:
        """Stop reading ahead, and let go of all shards."""
        self.use([])
        for shard in self._kept:
            shard.close()
        self._spool.close()
