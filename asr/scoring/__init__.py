"""Scoring: phone error rates under every published convention, comparisons of systems, and calibrated confidences.

In:  reference and hypothesis phones of each utterance.
Out: error counts, rates with 95 % intervals, significance tests, as lines of text or JSON.
Start with `results.evaluate_hypotheses`, then `error_rate.score`.

    alignment           alignment of a hypothesis with its reference, and error counts (as NIST's sclite)
    calibration         confidences of recognized phones, with a temperature fitted on a dev set
    comparison          two systems on the same utterances: paired bootstrap and matched-pairs test
    conventions         the published scoring conventions; folding to 39 phones for scoring happens here alone
    error_rate          phone error rate of a set under a convention, with a bootstrap interval
    feature_error_rate  phone feature error rate (PFER): similar phones cost less
    results             an evaluation under all conventions, as text and as JSON
    transcripts         transcript files of other systems: NIST trn, or an id and its phones on each line
"""

__all__ = [
    "alignment",
    "calibration",
    "comparison",
    "conventions",
    "error_rate",
    "feature_error_rate",
    "results",
    "transcripts",
]
