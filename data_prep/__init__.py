"""Data preparation: a corpus as it was downloaded, or synthetic speech -> manifests. Only `asr prepare` imports it.

In:  the folder of a corpus; for synthetic speech, numbers of speakers and utterances, and a seed.
Out: ``cuts_SPLIT.jsonl.gz`` for each split and ``stats.json``, written by `asr.corpus.manifest.write_corpus`.
Start with `timit.prepare_timit`; `checking` has the checks that every corpus needs.

    timit            TIMIT
    speechocean762   speechocean762
    synth            a synthetic corpus in TIMIT's layout, with phone boundaries
    made             synthetic speech for pretraining, from the words of a corpus
    voices           synthetic speech of recorded voices for training, of open vocabulary
    checking         audio, sample rates, standard counts, speaker lists
    speakers         speakers of `synth`: voices, recordings, label files
    readers          readers of `made`: voices of adults and children, recordings
    sentences        a grammar for the sentences of `synth`
    espeak           espeak-ng: text -> samples and phoneme events
    segments         phoneme events -> TIMIT phones with boundaries
    rooms            simulated rooms, noise and microphones
    voices_speakers  speakers of `voices`: a voice, its rate, pitch and vocal tract, recordings
    voices_engines   synthesizers behind one interface: RHVoice, flite, Festival, SVOX Pico, Piper, espeak-ng
    voices_programs  flite and Festival
    voices_libraries RHVoice, SVOX Pico, Piper and espeak-ng
    voices_texts     sentences, words, numbers, letters and dates with CMUdict's pronunciations
    voices_channels  rooms, noise, clipping, telephones, lossy codecs
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
    "voices",
    "voices_channels",
    "voices_engines",
    "voices_libraries",
    "voices_programs",
    "voices_speakers",
    "voices_texts",
]
