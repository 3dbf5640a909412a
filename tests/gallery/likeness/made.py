"""Features of posts, made by hand."""

import numpy as np

from gallery.likeness import features
from gallery.models import Feature, Post, Release
from tests.gallery.making import make_post

WIDTH = 16


def make_features(release: Release, count: int, seed: int = 0) -> tuple[list[Post], np.ndarray]:
    """Posts with random directions, float32 [count, WIDTH]."""
    vectors = np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
    posts = [make_post() for _ in range(count)]
    features.store(release.pk, {post.pk: vector for post, vector in zip(posts, vectors, strict=True)})
    return posts, np.stack([features.unpack(features.pack(vector)) for vector in vectors])


def add(release: Release, vector: np.ndarray) -> Post:
    post = make_post()
    Feature.objects.create(post=post, release=release, codes=features.pack(vector))
    return post
