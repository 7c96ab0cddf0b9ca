"""Around the score: alignments, figures as text and JSON, transcripts of other systems, comparisons, confidences."""
