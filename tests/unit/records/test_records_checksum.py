"""A value that changed on disk is refused by every reader, never taken for a good one."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spikeloom.base.errors import DataError, SpikeloomError, Stopped
from spikeloom.inference.evaluate import evaluate
from spikeloom.inference.opening import open_inputs, open_run
from spikeloom.program.recipe import fingerprint_as_written
from spikeloom.records import checkpoint, names, storage
from spikeloom.records.files import open_record
from spikeloom.records.run import EnvironmentRecord, RunRecord
from spikeloom.records.samples import SamplesRecord
from spikeloom.train import runs
from spikeloom.train.loop import train
from trainkit import recipe, same, tiny, without_times

CHANGES = {
    "stages.0.optimizer": {"name": "radam", "lr": 0.01},
    "stages.0.epochs": 2,
    "stages.0.select": "best",
}


def run(out, **options):
    return train(recipe(CHANGES), out, splits=tiny(), **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    asked = iter([False] * 6 + [True])
    with pytest.raises(Stopped):
        run(folder, stop=lambda: next(asked))
    return folder


@pytest.fixture
def copied(tmp_path):
    def copy(folder: Path) -> Path:
        shutil.copytree(folder, tmp_path / "copy", dirs_exist_ok=True)
        return tmp_path / "copy"

    return copy


def texts_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def with_texts(path: Path, change) -> None:
    """Rewrite the header's texts and leave the checksum as it was."""
    texts = texts_of(path)
    save_file(load_file(path), path, metadata=texts | change(texts))


POSITION = {
    "epoch": (r'"epoch": 1, "batch"', '"epoch": 0, "batch"'),
    "stage": (r'{"stage": 0, "epoch": 1', '{"stage": 1, "epoch": 1'),
    "batch": (r'"batch": (\d)', '"batch": 0'),
    "accuracy": (r'"val_accuracy": 0\.\d', '"val_accuracy": 0.9'),
    "warnings": (r'"warnings": \[', '"warnings": ["x", '),
}


class TestState:
    @pytest.mark.parametrize("name", POSITION)
    def test_a_position_that_changed(self, name, stopped, copied):
        folder = copied(stopped)
        old, new = POSITION[name]

        def change(texts):
            state, count = re.subn(old, new, texts["state"], count=1)
            assert count == 1 and state != texts["state"]
            return {"state": state}

        with_texts(folder / names.STATE, change)
        with pytest.raises(DataError, match="state.safetensors: .* by their checksum"):
            run(folder, resume=True)

    def test_a_number_of_the_optimizer(self, stopped, copied):
        folder = copied(stopped)
        with_texts(folder / names.STATE, lambda texts: {"optimizer": '{"0": {"step": 9}}'})
        with pytest.raises(DataError, match="by their checksum"):
            run(folder, resume=True)

    @pytest.mark.parametrize("format", ["2", "1"])
    def test_an_older_format_does_not_hide_it(self, format, stopped, copied):
        folder = copied(stopped)
        with_texts(folder / names.STATE, lambda texts: {"format": format})
        with pytest.raises(DataError, match="by their checksum"):
            run(folder, resume=True)

    def test_a_state_of_format_2_goes_on(self, stopped, copied):
        """Its checksum covers names and values of tensors."""
        folder = copied(stopped)
        tensors = load_file(folder / names.STATE)
        texts = texts_of(folder / names.STATE) | {"format": "2"}
        texts["digest"] = checkpoint.of_values(tensors)
        save_file(tensors, folder / names.STATE, metadata=texts)
        record = run(folder, resume=True).record
        assert without_times(record) == without_times(run(None).record)

    def test_a_state_of_a_library_with_fewer_settings_goes_on(self, stopped, copied):
        folder = copied(stopped)
        table = storage.read_json(folder / names.RECIPE)
        table.pop("augment")
        table["stages"][0].pop("clip")
        storage.write_record(folder / names.RECIPE, table)
        tensors, texts = checkpoint.read_tensors(folder / names.STATE)
        texts["recipe"] = fingerprint_as_written(runs.stored_recipe(folder))
        checkpoint.write_weights(folder / names.STATE, tensors, texts)
        record = run(folder, resume=True).record
        assert without_times(record) == without_times(run(None).record)

    def test_a_tensor_of_another_shape_or_type(self):
        x = torch.arange(6.0)
        digests = {
            checkpoint.of_tensors({"x": one}, {})
            for one in (x, x.view(2, 3), x.view(3, 2), x.view(torch.int32))
        }
        assert len(digests) == 4


class TestWeights:
    def test_a_single_bit_is_refused_by_every_reader(self, finished, copied):
        folder = copied(finished)
        path = folder / names.WEIGHTS
        content = bytearray(path.read_bytes())
        content[-2] ^= 1  # in the last weight, which stays finite
        path.write_bytes(content)
        for read in (checkpoint.read_tensors, lambda _: open_run(folder, splits=tiny())):
            with pytest.raises(DataError, match="weights.safetensors: .* by their checksum"):
                read(path)

    def test_without_a_checksum(self, finished, copied):
        """Older files open as they always did; one of this format must have it."""
        folder = copied(finished)
        path = folder / names.WEIGHTS
        tensors = load_file(path)
        for version in ("1", "2"):
            save_file(tensors, path, metadata={"format": version})
            assert same(checkpoint.read_tensors(path)[0], tensors)
        save_file(tensors, path, metadata={"format": "3"})
        with pytest.raises(DataError, match="by their checksum"):
            open_run(folder, splits=tiny())


class TestRecords:
    def test_a_digit(self, finished, copied):
        """Every number of every record, one after the other."""
        folder = copied(finished)
        readers = {
            names.RECIPE: runs.stored_recipe,
            names.INPUTS: open_inputs,
            names.RESULT: lambda folder: open_record(folder / names.RESULT, RunRecord),
            names.ENVIRONMENT: lambda folder: open_record(
                folder / names.ENVIRONMENT, EnvironmentRecord
            ),
            names.SAMPLES: lambda folder: open_record(folder / names.SAMPLES, SamplesRecord),
        }
        for name, read in readers.items():
            path = folder / name
            text = path.read_text()
            places = [one.start() for one in re.finditer(r"(?<=[:\[ ])\d", text)]
            for place in places[:: max(1, len(places) // 25)]:
                digit = str((int(text[place]) + 1) % 10)
                path.write_text(text[:place] + digit + text[place + 1 :])
                with pytest.raises(SpikeloomError, match=name):
                    read(folder)
            path.write_text(text)
            read(folder)

    def test_layout_and_order_are_free(self, finished, copied):
        folder = copied(finished)
        for name in (names.RECIPE, names.INPUTS):
            table = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(dict(reversed(table.items())), indent=7))
        assert open_run(folder, splits=tiny()).recipe == runs.stored_recipe(folder)

    def test_a_lost_checksum(self, finished, copied):
        path = copied(finished) / names.INPUTS
        table = json.loads(path.read_text())
        table.pop("digest")
        path.write_text(json.dumps(table))
        with pytest.raises(DataError, match="by their checksum"):
            storage.read_json(path)
        path.write_text(json.dumps(table | {"format": 2}))
        assert storage.read_json(path)["classes"] == 3

    def test_a_newer_library_names_itself(self, finished, copied):
        path = copied(finished) / names.INPUTS
        table = json.loads(path.read_text())
        path.write_text(json.dumps(table | {"format": 7, "written_by": "spikeloom 0.9.0"}))
        with pytest.raises(
            storage.NewerFormat,
            match="got 7 from spikeloom 0.9.0; update to spikeloom 0.9.0 or later",
        ):
            open_inputs(path.parent)

    @pytest.mark.parametrize("content", ["{", '{"classes": 4}', ""])
    def test_damaged_inputs_are_written_anew_by_a_resumed_run(self, content, stopped, copied):
        folder = copied(stopped)
        whole = storage.read_json(folder / names.INPUTS)
        text = (folder / names.INPUTS).read_text()
        damaged = (
            content if content != '{"classes": 4}' else text.replace('"classes": 3', content[1:-1])
        )
        (folder / names.INPUTS).write_text(damaged)
        record = run(folder, resume=True).record
        assert record.warnings[-1] == "inputs.json was damaged; it was written anew from the data."
        assert storage.read_json(folder / names.INPUTS) == whole
        bench = open_run(folder, splits=tiny())
        assert evaluate(bench, bench.splits.test, "test").accuracy == record.test_accuracy
