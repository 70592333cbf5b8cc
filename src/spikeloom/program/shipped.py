"""Recipes that come with the package, by name from any folder."""

from pathlib import Path

ROOM = "recipes"


def shipped_folder() -> Path | None:
    """Return the folder of these recipes; None where a copy of the package lacks it.

    A wheel has it inside the package, a checkout beside `src`.
    """
    package = Path(__file__).parents[1]
    checkout = package.parents[1]
    for folder, mark in ((package / ROOM, package), (checkout / ROOM, checkout / "pyproject.toml")):
        if mark.exists() and (folder / "demo.toml").is_file():
            return folder
    return None


def recipe_file(path: Path) -> Path:
    """Return the file that a path or a name stands for.

    A file that exists is meant before all others. A name is a path below the folder of shipped
    recipes, with or without that folder and the ending: `demo`, `bench/fashion_mlp`,
    `recipes/demo.toml`. What is neither stays as it is, for the reader to refuse.
    """
    folder = shipped_folder()
    if path.is_file() or path.is_absolute() or ".." in path.parts or folder is None:
        return path
    name = Path(*path.parts[1:]) if path.parts[:1] == (ROOM,) else path
    if name.suffix != ".toml":
        name = name.with_name(f"{name.name}.toml") if name.name else name
    return folder / name if (folder / name).is_file() else path


def shipped_recipes() -> list[tuple[str, Path]]:
    """Return name and file of every shipped recipe, by name."""
    folder = shipped_folder()
    if folder is None:
        return []
    files = sorted(folder.rglob("*.toml"))
    return [(file.relative_to(folder).with_suffix("").as_posix(), file) for file in files]
