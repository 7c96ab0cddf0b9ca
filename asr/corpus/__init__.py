"""Corpus: audio files, phone inventories, lexicons and manifests of utterances.

In:  any audio file; Lhotse manifests as `asr prepare` writes them; pronunciation lexicons.
Out: float32 samples at the model's sample rate, `Utterance`s, phone ids.
Start with `manifest.Utterance`, then `phones.PhoneInventory`.

    audio           audio file -> samples; broken files are refused
    manifest        utterances <-> Lhotse manifests, checked on reading
    phones          inventories, TIMIT folding tables, phone <-> id
    lexicon         lexicon files: word -> phones
    pronunciations  words as texts have them -> pronunciations, by a lexicon and a model
    notation        TIMIT and ARPAbet phones -> TIMIT, ARPAbet or IPA symbols
"""

__all__ = ["audio", "lexicon", "manifest", "notation", "phones", "pronunciations"]
