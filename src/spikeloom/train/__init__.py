"""Training: recipes, the loop, evaluation, run folders, comparisons."""

from typing import TYPE_CHECKING

from spikeloom.base.lazy import lazily, moved

if TYPE_CHECKING:
    from spikeloom.inference.opening import open_run
    from spikeloom.program.recipe import Recipe, build_recipe, read_recipe
    from spikeloom.train.loop import train

__all__ = ["Recipe", "build_recipe", "open_run", "read_recipe", "train"]

__getattr__ = lazily(
    __name__,
    {
        "Recipe": "program.recipe",
        "build_recipe": "program.recipe",
        "open_run": "inference.opening",
        "read_recipe": "program.recipe",
        "train": "train.loop",
    },
)

moved(
    __name__,
    {
        "compare": "compare.run",
        "controls": "compare.controls",
        "files": "inference.files",
        "health": "measure.health",
        "opening": "inference.opening",
        "over_time": "inference.over_time",
        "plan": "compare.plan",
        "progress": "records.progress",
        "recipe": "program.recipe",
        "setup": "program.setup",
        "stage": "program.stage",
    },
)
