from dataclasses import replace
from pathlib import Path

import pytest

from training import config, schedule
from training.config import RecipeError, Train

RECIPES = sorted(path.stem for path in config.RECIPES.glob("*.toml"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_reads_back_as_written(name: str, tmp_path: Path) -> None:
    recipe = config.read(name)
    (tmp_path / "config.toml").write_text(config.to_toml(recipe))
    assert config.read(tmp_path / "config.toml") == recipe


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("train.epoch=3", "no setting train.epoch"),
        ("trane.epochs=3", "no part trane"),
        ("train.epochs=0", "must be at least 1"),
        ("train.epochs=many", "must be of type int"),
        ("train.epochs=true", "must be of type int"),
        ("train.floor=0", "must be above 0"),
        ("loss.kind=hinge", "focal, bce, asymmetric"),
        ("model.heads=7", "multiple of heads"),
        ("data.size=100", "multiple of 16"),
        ("epochs", "not of the form"),
    ],
)
def test_a_wrong_setting_is_a_sentence(setting: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        config.read("tiny", [setting])


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="camie-v1, finetune, starter, starter-head, tiny"):
        config.read("huge")


def test_the_camie_recipe_is_the_published_model() -> None:
    recipe = config.read("camie-v1")
    assert recipe.model.architecture(70527).embedding_size == 1280
    assert (recipe.loss.gamma, recipe.loss.alpha, recipe.loss.lambda_initial) == (2.0, 0.25, 0.4)
    assert recipe.train.batch_size * recipe.train.accumulate == 32


def test_a_cosine_warms_up_falls_and_ends_at_its_floor() -> None:
    train = Train(schedule="cosine", warmup=0.1, floor=0.02)
    shares = [schedule.share(step / 100, train, 100) for step in range(101)]
    assert shares[0] == pytest.approx(0.02) and shares[-1] == pytest.approx(0.02)
    assert max(shares) == shares[10] == pytest.approx(1)
    assert shares[10:] == sorted(shares[10:], reverse=True)


def test_a_flat_schedule_stays_after_so_many_steps() -> None:
    train = replace(Train(), schedule="flat", warmup=25)
    assert schedule.share(0.125, train, 100) == pytest.approx(train.floor + (1 - train.floor) / 2)
    assert {schedule.share(p, train, 100) for p in (0.25, 0.6, 1)} == {1.0}
