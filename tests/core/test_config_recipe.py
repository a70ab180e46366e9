"""Recipes: unknown keys are refused with the nearest known one, overrides apply, all is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from fledge.core import Config, InputError, load_recipe


class Stage(Config):
    rate: float = Field(default=0.1, gt=0)
    """Learning rate."""
    steps: int = 10
    """Steps."""
    seed: int = 0
    """Seed."""
    names: tuple[str, ...] = ()
    """Names."""


KINDS = {"pretrain": Stage, "sft": Stage}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_overrides_and_seed(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "demo"\nseed = 7\n[pretrain]\nsteps = 3\n[sft]\nseed = 9\n')
    recipe = load_recipe(path, KINDS, ["pretrain.rate=3e-4", "sft.names=['a', 'b']"])
    assert recipe.name == "demo"
    assert recipe.stages["pretrain"] == Stage(rate=3e-4, steps=3, seed=7)
    assert recipe.stages["sft"] == Stage(seed=9, names=("a", "b"))
    assert recipe.resolved()["pretrain"] == {"rate": 3e-4, "steps": 3, "seed": 7, "names": []}


def test_override_with_plain_text_and_new_table(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "[sft]\n"), KINDS, ["name=my-run", "pretrain.steps=5"])
    assert recipe.name == "my-run"
    assert recipe.stages["pretrain"].steps == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "overrides", "parts"),
    [
        ("[pretrian]\n", [], ["recipe.toml", "[pretrian]", "'pretrain'"]),
        ("[pretrain]\nstps = 3\n", [], ["[pretrain]", "'stps'", "'steps'"]),
        ("[pretrain]\nrate = -1.0\n", [], ["[pretrain]", "rate", "-1.0", "greater than 0"]),
        ("[pretrain]\nsteps = 'x'\n", [], ["steps", "'x'", "integer"]),
        ("[pretrain\n", [], ["recipe.toml", "not valid TOML"]),
        ("pretrain = 3\n", [], ["not a table", "[pretrain]"]),
        ("", [], ["no stage"]),
        ("[sft]\n", ["sft.steps"], ["--set", "stage.key=value"]),
        ("[sft]\n", ["sft.steps.x=1"], ["steps"]),
        ("name = 'a/b'\n[sft]\n", [], ["name", "'a/b'"]),
        ("seed = true\n[sft]\n", [], ["seed"]),
    ],
)
def test_bad_recipes_name_key_value_and_remedy(
    tmp_path: Path, text: str, overrides: list[str], parts: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, text), KINDS, overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_missing_recipe_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_recipe(tmp_path / "none.toml", KINDS)
    with pytest.raises(InputError, match="is a folder"):
        load_recipe(tmp_path, KINDS)


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Stage().steps = 3  # type: ignore[misc]


class Inner(Config):
    min_words: int = 1
    """Words."""


class Outer(Config):
    quality: Inner = Inner()
    """Nested."""


def test_a_nested_unknown_key_is_compared_with_its_own_table(tmp_path: Path) -> None:
    path = write(tmp_path, "[corpus.quality]\nmin_word = 3\n")
    with pytest.raises(InputError, match=r"'quality\.min_word'; did you mean 'min_words'"):
        load_recipe(path, {"corpus": Outer})
