"""Corpora in their download layout -> manifests: one module a corpus."""
