"""Reports: self-contained HTML pages about a corpus, an evaluation, training runs, or one recording inside a model.

In:  evaluations, model folders, manifests, run folders.
Out: DIR/index.html, with figures as SVG and tables as CSV beside it.
Start with `evaluation.write_report`, then `error_analysis.findings`.

    corpus_report      the report about a corpus
    corpus_audio       what is measured in audio, and clips (internal)
    corpus_tally       one pass over manifests and audio (internal)
    corpus_suspicions  utterances to look at, and why (internal)
    corpus_statistics  the figures as plain values (internal)
    corpus_tables, corpus_sections, corpus_speakers, corpus_listening, corpus_figures, corpus_model   its parts (internal)
    error_analysis     errors by phone and group, confusions, what to fix first
    evaluation         the report of an evaluation
    model_report       evaluates a model and writes that report with example utterances
    run_comparison     the report that compares training runs
    explain            the report that looks inside an LSTM model on one recording
    gradient_reach     gradient norm by lag: the effective context of a model
    model_input        pictures of features, and the pretrained encoder in words (internal)
    tracks             the page of `explain`: strips along time (internal)
    figures            all figures, as SVG (internal)
    page               sections, tables and figures to an HTML page (internal)
"""

__all__ = [
    "corpus_report",
    "error_analysis",
    "evaluation",
    "explain",
    "gradient_reach",
    "model_report",
    "run_comparison",
]
