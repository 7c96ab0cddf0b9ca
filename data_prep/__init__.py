"""Data preparation: a corpus in any layout, or synthetic speech -> manifests. Only the command line imports it.

In:  a corpus as it is, with options for splits and pronunciations; for synthetic speech, numbers and a seed.
Out: ``cuts_SPLIT.jsonl.gz`` for each split, ``stats.json``, and tables of the phones and of what was left out.
Start with `entries`, then `kaldi` (a reader) and `pipeline.prepare`, which does the same for the entries of all readers.

Layouts:

    entries           what a reader yields: utterances as the corpus describes them, and what it leaves out
    auto              which layout a corpus has
    folder            recordings beside texts or TextGrids, as for the Montreal Forced Aligner
    folder_texts      one recording of a folder and its texts to entries
    textgrid          Praat's TextGrid, and texts in UTF-8 or UTF-16
    tiers             tiers of words, phones and utterances to utterances
    kaldi             Kaldi data directories
    table             CSV, TSV, JSON lines, Parquet
    lhotse_cuts       Lhotse cuts of any origin
    librispeech       LibriSpeech and LibriTTS
    commonvoice       Common Voice
    l2arctic          L2-ARCTIC, perceived phones
    buckeye           the Buckeye corpus
    lines             text files of any size, a line or a row at a time
    fields            splits, sex, times and file names as corpora spell them

From entries to manifests:

    pipeline          entries to manifests: two passes, parts in processes, resumable
    listing           the first pass: speakers, equal ids
    splits            splits by speaker
    parts             a part in a worker: audio, phones, lines
    recordings        each recording checked once; places of utterances in it
    pronouncing       lexicon, grapheme-to-phoneme model, folding tables
    spelling          words to phones or graphemes
    espeak_g2p        pronunciations in IPA by espeak-ng
    tallies           counts for the statistics
    joining           parts to manifests and tables
    resuming          whether parts are of this request
    leaving_out       reasons and places of what is left out

Corpora with checks of their own:

    timit             TIMIT
    speechocean762    speechocean762
    checking          audio, sample rates, standard counts, speaker lists of these two

Synthetic speech of espeak-ng:

    spreading         speakers recorded in processes of this machine, or on a cluster
    synth             a synthetic corpus in TIMIT's layout, with phone boundaries
    speakers          its speakers: voices, recordings, label files
    sentences         a grammar for its sentences
    segments          phoneme events to TIMIT phones with boundaries
    synth_languages   a synthetic corpus in any language of espeak-ng, phones in IPA
    language_speakers its recordings
    language_texts    its sentences
    segments_ipa      phoneme events to IPA with boundaries
    espeak_ipa        espeak-ng's phonemes in IPA
    espeak_languages  espeak-ng's languages
    made              synthetic speech for pretraining, from the words of a corpus
    readers           its readers: voices of adults and children, recordings
    espeak            espeak-ng: text to samples and phoneme events
    rooms             simulated rooms, noise and microphones

Synthetic speech of recorded voices:

    voices            synthetic speech of recorded voices for training, of open vocabulary
    voices_speakers   its speakers: a voice, its rate, pitch and vocal tract, recordings
    voices_engines    synthesizers behind one interface: RHVoice, flite, Festival, SVOX Pico, Piper, espeak-ng, Kokoro
    voices_programs   flite and Festival
    voices_kokoro     Kokoro, whose neural voices read phones
    voices_libraries  RHVoice, SVOX Pico, Piper and espeak-ng
    voices_texts      sentences, words, numbers, letters and dates with CMUdict's pronunciations
    voices_channels   rooms, noise, clipping, telephones, lossy codecs
"""

__all__ = [
    "auto",
    "buckeye",
    "checking",
    "commonvoice",
    "entries",
    "espeak",
    "espeak_g2p",
    "espeak_ipa",
    "espeak_languages",
    "fields",
    "folder",
    "folder_texts",
    "joining",
    "kaldi",
    "l2arctic",
    "language_speakers",
    "language_texts",
    "leaving_out",
    "lhotse_cuts",
    "librispeech",
    "lines",
    "listing",
    "made",
    "parts",
    "pipeline",
    "pronouncing",
    "readers",
    "recordings",
    "resuming",
    "rooms",
    "segments",
    "segments_ipa",
    "sentences",
    "speakers",
    "speechocean762",
    "spelling",
    "splits",
    "spreading",
    "synth",
    "synth_languages",
    "table",
    "tallies",
    "textgrid",
    "tiers",
    "timit",
    "voices",
    "voices_channels",
    "voices_engines",
    "voices_libraries",
    "voices_programs",
    "voices_speakers",
    "voices_texts",
]
