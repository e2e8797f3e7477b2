"""Labelled recordings: one file a corpus, how it is fetched, verified and decoded."""
