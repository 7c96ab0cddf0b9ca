"""Inference: a trained model and audio -> transcripts, alignments and evaluations.

In:  a model folder; audio files or arrays, or a manifest to evaluate on.
Out: `Transcript`s with times and confidences, files in five formats, error rates.
Start with `recognizer`, which follows one recording from audio to transcript.

    bundle              a model folder: save, load, verify; log-probabilities in any precision
    catalog             the models that ship with the package, by name
    encoder_checkpoint  a pretrained encoder's checkpoint: find, read, load
    weights             safetensors files, checked against a model
    windows             log-probabilities of recordings of any length, in windows and batches
    forced_alignment    the times of known phones: frame classifier and Viterbi search
    align_corpus        a corpus to tiers of words and phones, resumable (behind `asr align`)
    align_utterance     one utterance of it: words with several pronunciations to intervals
    align_long          a long recording and its whole text, cut at words recognized with confidence
    align_anchors       where these words are (internal)
    align_sequences     two long sequences of symbols: what belongs together (internal)
    align_pronunciations  the most probable pronunciations of words, and their frames
    align_tiers         aligned utterances to a TextGrid
    align_recordings    the utterances of some recordings, or of a shard, to their tiers (internal)
    align_shards        shards: a tar file for each, with the TextGrid of each utterance
    realign             a manifest: the pronunciation of each word that fits its audio best
    verify              a manifest: which transcripts do not match their audio
    transcript_formats  `Phone`, `Transcript`, and their file formats
    recognizer          one recording: audio to transcript, step by step
    streaming           one recording while it is spoken: samples to phones, final and pending
    utterances          a stream of speech and silence, cut into utterances
    transcribe          many recordings, in batches
    transcribe_corpus   manifests and shards to transcripts, a file for each unit
    units               bulk work in units, done here or on a cluster (`asr.cluster`)
    sources             manifests and shards as units of utterances
    result_files        the output folder of bulk work: what is done, what could not be used
    hours_progress      hours of audio done, speed and time left (internal)
    write_transcripts   many recordings to files: patterns, folders, formats (behind `asr transcribe`)
    evaluate            a dataset: hypotheses, phone error rate, which phones are correct
    calibrate           dev sets: the temperature of confidences, and what is usual
    evaluate_corpus     a manifest or shards: the same as units of work
    evaluate_g2p        a lexicon: error rates of a grapheme-to-phoneme model
    evaluate_words      a manifest: word error rate with a lexicon and a word n-gram
    tune_decoder        weight and bonus of the beam search from a dev set
"""

__all__ = [
    "align_corpus",
    "align_shards",
    "align_utterance",
    "bundle",
    "calibrate",
    "catalog",
    "encoder_checkpoint",
    "evaluate",
    "evaluate_corpus",
    "evaluate_g2p",
    "evaluate_words",
    "forced_alignment",
    "realign",
    "recognizer",
    "result_files",
    "sources",
    "streaming",
    "transcribe",
    "transcribe_corpus",
    "transcript_formats",
    "tune_decoder",
    "units",
    "utterances",
    "verify",
    "weights",
    "windows",
    "write_transcripts",
]
