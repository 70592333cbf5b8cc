"""A recipe to start from: every setting with its default, and what it does."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spikeloom.base.docstrings import documented
from spikeloom.base.errors import ConfigError
from spikeloom.nets.spec.codec import inline
from spikeloom.program.recipe import Recipe, build_recipe
from spikeloom.program.stage import Optimizer, Schedule, Stage

_LEFT_OUT = {"name", "net", "data", "stages", "rule", "optimizer", "schedule", "paper", "published"}
"""Fields that the template writes by itself, or that a first recipe does not need."""

_SAID = {
    "task": "what is learned and how answers are judged: spikeloom list tasks",
    "head": "computes scores and loss from the last layer: spikeloom list heads",
    "encoder": "how a sample becomes time steps: spikeloom list encoders",
    "precision": '"32-true", "64-true" or "bf16-mixed"',
}
"""Comments on fields that their docstring describes together."""

_WIDE = 24
"""Characters of a setting; comments begin behind them, one below the other."""


def write_recipe(path: Path, *, net: str, data: str, rule: str) -> None:
    """Write a commented recipe; it trains as it stands, with the defaults.

    Args:
        path: of the file; its stem is the recipe's name.
        net: text or preset.
        data: name of the data set.
        rule: name of the rule.

    Raises:
        ConfigError: the file exists or cannot be written, or what is named does not exist.
    """
    text = recipe_text(path.stem, net=net, data=data, rule=rule)
    build_recipe(tomllib.loads(text), str(path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError.of(path, "a file that is not there", "one", "name another") from None
    except OSError as error:
        raise ConfigError.caused(
            path, "a file that can be written", error, "name another"
        ) from None


def recipe_text(name: str, *, net: str, data: str, rule: str) -> str:
    """Return the recipe that `write_recipe` writes."""
    return f"""# A recipe of spikeloom: spikeloom train {name}.toml
# A line that begins with # is a setting at its default. Remove the # to change it.
# spikeloom list rules {rule}: the options of a rule; so for nets, heads, encoders, units and data.

name = {inline(name)}
# a table names more: net = {{ text = "...", unit = {{ name = "lif", alpha = 0.5 }} }}
net = {inline(net)}
# a folder of pictures: data = {{ name = "images", path = "my_pictures" }}
data = {inline(data)}
{_settings(Recipe)}

# Stages run one after the other; most recipes have one.
[[stages]]
# a table sets options: rule = {{ name = "sltt", k_steps = 2 }}
rule = {inline(rule)}
{_settings(Stage)}
optimizer = {_table(Optimizer, "name", "lr")}
schedule = {_table(Schedule, "name")}
"""


def _settings(model: type[BaseModel]) -> str:
    """Return a line for every field of a model: its default, and what its docstring says."""
    about = documented(model) | _SAID
    lines = []
    for name, field in model.model_fields.items():
        if name not in _LEFT_OUT:
            value = field.get_default(call_default_factory=True)
            setting = f"# {name} =" if value is None else f"# {name} = {_inline(value)}"
            unset = "not set: " if value is None else ""
            lines.append(f"{setting.ljust(_WIDE)} # {unset}{about[name].rstrip('.')}")
    return "\n".join(lines)


def _table(model: type[BaseModel], *names: str) -> str:
    """Return some fields of a model at their defaults as a table, the others behind it."""
    fields = {name: _inline(field.default) for name, field in model.model_fields.items()}
    shown = ", ".join(f"{name} = {fields[name]}" for name in names)
    others = ", ".join(f"{name} = {text}" for name, text in fields.items() if name not in names)
    return f"{{ {shown} }}  # also: {others}"


def _inline(value: Any) -> str:
    if isinstance(value, BaseModel):
        return _inline(value.model_dump().get("name"))
    return inline(list(value) if isinstance(value, tuple) else value)
