"""What a report shows: where the errors are, pictures, several runs side by side, utterances to look at."""
