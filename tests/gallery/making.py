"""Rows for the tests of the verbs, made as the site would have them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping

import numpy as np
from django.contrib.auth import get_user_model

from gallery.models import Category, Post, Prediction, Profile, Release, Tag, TaggingState
from gallery.profiles import to_bytes

_numbers = itertools.count(1)


def make_user(name: str = "", **fields):
    return get_user_model().objects.create_user(name or f"user{next(_numbers)}", password="correct-horse", **fields)


def make_post(**fields) -> Post:
    digest = hashlib.sha256(str(next(_numbers)).encode()).hexdigest()
    values = {
        "md5": digest[:32],
        "sha256": digest,
        "ext": "png",
        "file_size": 1,
        "width": 8,
        "height": 8,
        "tagging_state": TaggingState.TAGGED,
    }
    return Post.objects.create(**{**values, **fields})


def make_tag(name: str, category: Category = Category.GENERAL, **fields) -> Tag:
    return Tag.objects.create(name=name, category=category, **fields)


def make_release(name: str = "first", active: bool = True, tags: list[Tag] | None = None) -> Release:
    return Release.objects.create(
        name=name, title=name, folder="", config={}, active=active, tag_ids=[tag.id for tag in tags or []]
    )


def make_site_profiles(release: Release, **overall: float) -> dict[str, Profile]:
    """Site profiles by key (underscores become dashes), each with one overall threshold."""
    return {
        key: Profile.objects.create(release=release, key=key, name=key, position=position, overall=value)
        for position, (key, value) in enumerate((key.replace("_", "-"), value) for key, value in overall.items())
    }


def predict(post: Post, release: Release, confidences: Mapping[Tag, float]) -> Prediction:
    ordered = sorted(confidences, key=lambda tag: tag.id)
    return Prediction.objects.create(
        post=post,
        release=release,
        tag_ids=[tag.id for tag in ordered],
        confidences=to_bytes(np.array([confidences[tag] for tag in ordered])).tobytes(),
    )
