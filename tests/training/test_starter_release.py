"""The shipped starter release: small enough, honest about itself, and sensible on the seed gallery."""

import json
from pathlib import Path

from PIL import Image

from tagger import release as releases
from tagger.inference import Predictor
from tagger.thresholds import site_profiles

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "tagger" / "releases" / "starter"
SEED = ROOT / "gallery" / "seed"


def test_it_is_at_most_15_megabytes_and_holds_no_pickle() -> None:
    files = [file for file in STARTER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 15e6
    assert {file.suffix for file in files} - {".png", ".webp"} == {".json", ".md", ".safetensors"}


def test_it_says_what_it_is() -> None:
    starter = releases.read(STARTER)
    assert starter.title == "starter 2 (clipart, emoji, avatars)" and starter.config["licence"] == "CC-BY-SA-4.0"
    for words in ("cannot do", "5-NN", "1-NN", "tag frequency", "linear", "strange style", "seen", "CC-BY-SA-4.0"):
        assert words in starter.card
    assert "OpenMoji" in (STARTER / "CREDITS.md").read_text("utf-8")


def test_it_predicts_no_rating() -> None:
    assert "rating" not in releases.read(STARTER).vocabulary.categories


def test_its_default_profile_leaves_years_out() -> None:
    profiles = {profile.key: profile for profile in site_profiles(releases.read(STARTER).thresholds)}
    assert profiles["category-specific"].threshold("year") == 1.0 > profiles["high-recall"].threshold("year")


def test_it_beats_every_baseline_on_subjects_it_never_saw() -> None:
    metrics = releases.read(STARTER).metrics
    for group in ("overall", "general"):
        own = metrics["splits"]["test"]["refined"]["micro_opt"][group]["micro_f1"]
        for name, found in metrics["baselines"].items():
            assert own > found["test"][group]["micro_f1"], name


def test_it_tags_seed_pictures_sensibly() -> None:
    """Every sixth picture: half of what people tagged (of the tags it knows) is on, and most of what is on is right."""
    predictor = Predictor(STARTER, device="cpu", threads=1)
    vocabulary, profile = predictor.release.vocabulary, site_profiles(predictor.release.thresholds)[2]
    pictures = json.loads((SEED / "seed.json").read_text("utf-8"))["pictures"][::6]
    found = predictor.predict([Image.open(SEED / picture["file"]) for picture in pictures])
    right = said = true = 0
    for picture, (tags, confidences, _) in zip(pictures, found, strict=True):
        on = {
            vocabulary.names[tag]
            for tag, confidence in zip(tags, confidences, strict=True)
            if confidence >= profile.threshold(vocabulary.categories[tag])
        }
        wanted = {name for names in picture["tags"].values() for name in names if name in vocabulary}
        right, said, true = right + len(on & wanted), said + len(on), true + len(wanted)
    assert right / true > 0.5 and right / said > 0.5
