"""Data preparation: a corpus as it was downloaded, or synthetic speech -> manifests. Only `asr prepare` imports it.

In:  the folder of a corpus; for synthetic speech, numbers of speakers and utterances, and a seed.
Out: ``cuts_SPLIT.jsonl.gz`` for each split and ``stats.json``, written by `asr.corpus.manifest.write_corpus`.
Start with `timit.prepare_timit`; `checking` has the checks that every corpus needs.

    timit            TIMIT
    speechocean762   speechocean762
    synth            a synthetic corpus in TIMIT's layout, with phone boundaries
    made             synthetic speech for pretraining, from the words of a corpus
    checking         audio, sample rates, standard counts, speaker lists
    speakers         speakers of `synth`: voices, recordings, label files
    readers          readers of `made`: voices of adults and children, recordings
    sentences        a grammar for the sentences of `synth`
    espeak           espeak-ng: text -> samples and phoneme events
    segments         phoneme events -> TIMIT phones with boundaries
    rooms            simulated rooms, noise and microphones
"""

__all__ = [
    "checking",
    "espeak",
    "made",
    "readers",
    "rooms",
    "segments",
    "sentences",
    "speakers",
    "speechocean762",
    "synth",
    "timit",
]
