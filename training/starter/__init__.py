"""Builds the starter's training data and the seed gallery from packages of freely licensed art, by name and version."""
