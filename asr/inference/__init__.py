"""What was recognized, in the notations and file formats of others."""
