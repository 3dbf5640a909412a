"""Likeness: near copies of a picture by its perceptual hash, look-alikes by what the tagger's backbone saw in it."""
