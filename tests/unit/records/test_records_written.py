"""What training writes has the keys and the kinds of values of the stored runs."""

import json
from pathlib import Path

import pytest

from spikeloom.program.recipe import read_recipe
from spikeloom.records.run import EpochRecord
from spikeloom.train.loop import train

FIXTURES = Path(__file__).parent / "fixtures"
NEW = {"task", "judged", "real"}
"""Keys that the stored runs do not have yet."""

MEASURED = ("ms_per_sample", "ms_per_step", "bytes_per_step")
"""Times that are null where the machine was too noisy, each with a text beside it that says so."""


def shape(value, name=""):
    """Keys and kinds of a record; of a list its first and last part."""
    if name.removesuffix("_doubt") in MEASURED:
        return "measured"
    if isinstance(value, dict):
        kinds = {key: shape(part, key) for key, part in value.items() if key not in NEW}
        return sorted(kinds.items())
    if isinstance(value, list):
        return [shape(part) for part in (value[0], value[-1])] if value else []
    return type(value).__name__


@pytest.mark.parametrize("name", ["plain", "stages"])
def test_keys_and_kinds_are_those_of_before(name, tmp_path):
    train(read_recipe(FIXTURES / f"{name}.toml"), tmp_path)
    stored = FIXTURES / name
    for file in ("result.json", "samples.json", "recipe.json", "environment.json", "inputs.json"):
        ours, theirs = (json.loads((folder / file).read_text()) for folder in (tmp_path, stored))
        assert shape(ours) == shape(theirs), file
    ours, theirs = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path, stored)
    )
    assert list(map(shape, ours)) == list(map(shape, theirs))


def test_a_record_is_read_by_key_as_its_file_is():
    epoch = EpochRecord.model_construct(loss=0.5)
    assert epoch["loss"] == 0.5 and "loss" in epoch and "nothing" not in epoch
    assert epoch.notes == {} and "notes" not in epoch and "notes" not in epoch.table()
    for key in ("nothing", "notes"):
        with pytest.raises(KeyError, match=key):
            epoch[key]
