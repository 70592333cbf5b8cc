"""Training: recipes, the loop, evaluation, run folders, comparisons."""

from typing import TYPE_CHECKING

from spikeloom.base.lazy import lazily

if TYPE_CHECKING:
    from spikeloom.train.loop import train
    from spikeloom.train.opening import open_run
    from spikeloom.train.recipe import Recipe, build_recipe, read_recipe

__all__ = ["Recipe", "build_recipe", "open_run", "read_recipe", "train"]

__getattr__ = lazily(
    __name__,
    {
        "Recipe": "recipe",
        "build_recipe": "recipe",
        "open_run": "opening",
        "read_recipe": "recipe",
        "train": "loop",
    },
)
