"""Corpus: audio files, phone inventories, lexicons, manifests of utterances, and shards of audio and utterances.

In:  any audio file; Lhotse manifests as `asr prepare` writes them; shards as `asr shard` does; pronunciation lexicons.
Out: float32 samples at the model's sample rate, `Utterance`s, phone ids.
Start with `cuts.Utterance`, then `phones.PhoneInventory`; for shards with `shards`, which describes the files.

    audio            audio file -> samples; broken files are refused
    cuts             utterances and their lines in manifests and shards
    manifest         utterances <-> Lhotse manifests, checked on reading
    phones           inventories, TIMIT folding tables, phone <-> id
    lexicon          lexicon files: word -> phones
    pronunciations   words as texts have them -> pronunciations, by a lexicon and a model
    notation         TIMIT and ARPAbet phones -> TIMIT, ARPAbet or IPA symbols
    shards           the index of shards, and the utterances of one
    spool            shards of a store on the local disk: fetched ahead, checked, shared by processes
    stores           local folders and object stores, with repeated requests
    stored_features  features in shards
    tar_members      members of tar files as paths
    shard_writer     a manifest, or other shards -> shards, in several processes
    shard_source     what shards are written from (internal)
    shard_files      the two files of a shard (internal)
    shard_encoding   an utterance as FLAC, Opus or features
    store_lock       one writer at a time in a store (internal)
"""

__all__ = [
    "audio",
    "cuts",
    "lexicon",
    "manifest",
    "notation",
    "phones",
    "pronunciations",
    "shard_encoding",
    "shard_writer",
    "shards",
    "spool",
    "stored_features",
    "stores",
    "tar_members",
]
