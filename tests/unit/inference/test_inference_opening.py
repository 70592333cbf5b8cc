"""Opening runs: the same net to the bit, and one line for whatever is wrong with a folder."""

import json
import os
import pickle
import shutil
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from spikeloom.base.errors import ConfigError, DataError, SpikeloomError
from spikeloom.data import DATA, Scaling
from spikeloom.data.base import DataInfo
from spikeloom.inference.evaluate import evaluate
from spikeloom.inference.opening import (
    describe_inputs,
    find_run,
    fit_data,
    is_finished,
    open_inputs,
    open_run,
)
from spikeloom.nets.module.net import SpikingNet
from spikeloom.records import checkpoint, storage
from spikeloom.records.files import open_record
from spikeloom.records.run import RunRecord
from spikeloom.train.loop import train
from trainkit import recipe, registered, same, tiny

NETS = {
    "plain": {},
    "ann": {"stages.0.rule": "ann"},
    "norm": {"net": 'c4{norm = "batch_step"} P f3', "head": "stochmax"},
    "theta": {"net.unit": {"name": "lif", "learn": ["v_th", "alpha"], "per_channel": True}},
    "double": {"precision": "64-true", "stages.0.select": "best"},
    "feedback": {
        "net": '{feedback = [{source = 1, target = 0, layers = "f4{unit = \\"none\\"}", '
        "mask = {density = 0.5}, restrict = 1.0}]} f4 f6 f3"
    },
}


@pytest.fixture(scope="module", autouse=True)
def tiny_data():
    """The tiny set as registered data, so that a recipe can name it."""
    info = DataInfo("tiny", (1, 4, 4), 3, lambda root=None, seed=0: tiny(seed))
    with registered(DATA, "tiny", info):
        yield


@pytest.fixture(scope="module", params=NETS, ids=str)
def run(request, tmp_path_factory):
    """A finished run with its outcome; tests that change the folder copy it."""
    folder = tmp_path_factory.mktemp("run") / "a"
    return folder, trained(folder, NETS[request.param])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "a"
    trained(folder)
    return folder


@pytest.fixture
def broken(plain, tmp_path):
    """A copy of a run, to be damaged."""
    return shutil.copytree(plain, tmp_path / "run")


def trained(folder, changes=None):
    outcome = train(recipe({"data": "tiny"} | (changes or {})), folder)
    storage.write_record(folder / "inputs.json", describe_inputs(outcome.bench.splits))
    return outcome


def refused(folder, *parts, kind=DataError, **options):
    """Check that a folder is refused in one line that holds these parts."""
    with pytest.raises(kind) as caught:
        open_run(folder, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    assert all(part in message for part in parts), message


class TestOpened:
    def test_weights_and_scores_are_those_of_the_run(self, run):
        folder, outcome = run
        bench = open_run(folder)
        assert same(bench.modules().state_dict(), outcome.bench.modules().state_dict())
        score = evaluate(bench, bench.splits.test, "test")
        record = open_record(folder / "result.json", RunRecord)
        assert score.accuracy == record.test_accuracy
        assert score.loss == pytest.approx(record.test_loss, rel=1e-6)

    def test_without_the_data(self, run):
        folder, outcome = run
        known = open_run(folder, data=False)
        assert same(known.modules().state_dict(), outcome.bench.modules().state_dict())
        assert known.splits.shape == outcome.bench.splits.shape
        assert known.splits.scaling == outcome.bench.splits.scaling

    def test_without_inputs_the_data_are_asked(self, broken):
        (broken / "inputs.json").unlink()
        assert same(
            open_run(broken).net.state_dict(), open_run(broken, data=False).net.state_dict()
        )
        assert open_inputs(broken).in_shape == (1, 4, 4)

    def test_data_that_are_absent(self, broken, monkeypatch):
        def absent(root=None):
            raise DataError("data.tiny: expected files, found none; put them there.")

        monkeypatch.setitem(DATA._members, "tiny", DataInfo("tiny", None, None, absent))
        refused(broken, "found none")
        assert open_run(broken, data=False).splits.classes == 3
        (broken / "inputs.json").unlink()
        refused(broken, "found none", data=False)

    def test_an_unfinished_run(self, broken):
        assert is_finished(broken)
        (broken / "result.json").unlink()
        assert not is_finished(broken)
        assert open_run(broken).recipe.name == "tiny"

    def test_an_older_format(self, broken):
        for name in ("inputs.json", "result.json"):
            table = storage.read_json(broken / name)
            (broken / name).write_text(json.dumps(table | {"format": 1}))
        assert open_run(broken).splits.classes == 3

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_a_run_from_a_gpu(self, broken):
        table = storage.read_json(broken / "recipe.json")
        (broken / "recipe.json").write_text(json.dumps(table | {"device": "cuda"}))
        assert open_run(broken).fabric.device.type == "cpu"
        refused(broken, "expected a CUDA device", kind=ConfigError, device="cuda")


class TestOtherData:
    def test_is_normalised_as_in_training(self, plain):
        inputs = open_inputs(plain)
        scaled = inputs.model_copy(
            update={"scaling": inputs.scaling.model_copy(update={"mean": (0.5,), "std": (2.0,)})}
        )
        fitted = fit_data(tiny(1), scaled)
        assert fitted.scaling == Scaling(1.0, (0.5,), (2.0,))
        index = torch.arange(3)
        x = tiny(1).test.take(index)[0]
        assert torch.equal(fitted.test.take(index)[0], (x - 0.5) / 2.0)
        assert open_run(plain, splits=tiny(1)).splits.scaling == Scaling()

    def test_of_another_kind(self, plain):
        refused(plain, "samples [1, 4, 4] of 3", "[2, 4, 4] of 3", splits=tiny(shape=(2, 4, 4)))
        refused(plain, "of 4; choose", splits=replace(tiny(), classes=4))

    @pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
    def test_description_comes_back(self, kind, plain):
        splits = tiny()
        parts = {
            name: replace(
                part,
                store=(255 * part.x).to(kind),
                rows=None,
                scaling=Scaling(255.0, (0.1,), (0.3,)),
            )
            for name, part in splits.parts()
        }
        splits = replace(splits, **parts, labels=("a", "b", "ü"))
        table = json.loads(json.dumps(describe_inputs(splits)))
        storage.write_record(plain.parent / "b" / "inputs.json", table)
        back = open_inputs(plain.parent / "b").stand_in()
        assert describe_inputs(back) == describe_inputs(splits)
        assert back.scaling == splits.scaling and back.train.x.dtype == kind


class TestFind:
    def test_the_folder_itself_and_the_only_one_below(self, broken, tmp_path):
        assert find_run(broken) == broken
        assert find_run(tmp_path) == broken
        (tmp_path / "x" / "y" / "z").mkdir(parents=True)
        assert find_run(tmp_path) == broken

    def test_several(self, broken, tmp_path):
        shutil.copytree(broken, tmp_path / "other" / "seed1")
        with pytest.raises(DataError, match="expected one run, found 2: .*other/seed1.*run; name"):
            find_run(tmp_path)

    def test_none(self, tmp_path):
        (tmp_path / "file").touch()
        for place, came in (("no", "got none"), ("file", "got a file"), (".", "no recipe.json")):
            with pytest.raises(DataError, match=came):
                find_run(tmp_path / place)

    def test_links_are_not_followed_and_depth_is_bounded(self, tmp_path):
        (tmp_path / "loop").symlink_to(tmp_path)
        deep = tmp_path.joinpath(*"abcde")
        deep.mkdir(parents=True)
        (deep / "recipe.json").touch()
        with pytest.raises(DataError, match=r"no recipe\.json"):
            find_run(tmp_path)


def rewritten(folder, change):
    """Store changed weights."""
    tensors = checkpoint.read_tensors(folder / "weights.safetensors")[0]
    change(tensors)
    save_file(
        {name: one.contiguous() for name, one in tensors.items()}, folder / "weights.safetensors"
    )


def header(text):
    return struct.pack("<Q", len(text)) + text


class TestWeights:
    NAME = "net.plan.synapses.0_0.weight"

    def test_a_missing_one(self, broken):
        rewritten(broken, lambda them: them.pop(self.NAME))
        refused(broken, f"expected a weight '{self.NAME}' [4, 1, 3, 3], found none")

    def test_one_too_many(self, broken):
        rewritten(broken, lambda them: them.update({"net.more": torch.zeros(2)}))
        refused(broken, "expected no weight 'net.more'")

    def test_a_wrong_shape(self, broken):
        rewritten(broken, lambda them: them.update({self.NAME: torch.zeros(4, 3, 3, 1)}))
        refused(broken, f"expected '{self.NAME}' as [4, 1, 3, 3], got [4, 3, 3, 1]")

    def test_a_wrong_type(self, broken):
        rewritten(broken, lambda them: them.update({self.NAME: them[self.NAME].double()}))
        refused(broken, f"expected '{self.NAME}' in torch.float32, got torch.float64")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_not_finite(self, broken, value):
        rewritten(broken, lambda them: them[self.NAME].view(-1)[5].fill_(value))
        refused(broken, f"expected finite weights, got NaN or infinity in '{self.NAME}'")

    def test_none(self, broken):
        (broken / "weights.safetensors").unlink()
        refused(broken, "expected the weights of a run, found none")
        (broken / "weights.safetensors").mkdir()
        refused(broken, "expected the weights of a run, found none")

    @pytest.mark.parametrize(
        ("net", "words"),
        [
            ("f9999 f3", "bytes or more, got a file of"),
            ("f300000 f300000 f3", "expected weights that fit into the"),
            ("c9k999999 f3", "expected weights that fit into the"),
            ("c99999999999 f3", "expected 2147483647 at most, got 99999999999"),
        ],
    )
    def test_a_net_far_beyond_them(self, broken, net, words):
        table = storage.read_json(broken / "recipe.json")
        (broken / "recipe.json").write_text(json.dumps(table | {"net": net}))
        refused(broken, words, kind=SpikeloomError)

    def test_of_another_net(self, broken):
        net = SpikingNet("c8 P f3", (1, 4, 4))
        save_file(
            {f"net.{k}": v for k, v in net.state_dict().items()}, broken / "weights.safetensors"
        )
        refused(broken, "expected 'net.", "weights and recipe are of different runs")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            pickle.dumps({"a": os.system}),
            b"\xff" * 100,  # a header of 2^64 - 1 bytes
            struct.pack("<Q", 90_000_000) + b'{"a":',
            struct.pack("<Q", 200_000) + b'{"a":' * 40_000,  # nested deep
            header(b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}') + b"1234",
            header(b'{"a":{"dtype":"F32","shape":[9999999999,9999999999],"data_offsets":[0,4]}}'),
        ],
        ids=["empty", "pickle", "long", "cut", "deep", "large", "overflow"],
    )
    def test_hostile_files(self, broken, content):
        (broken / "weights.safetensors").write_bytes(content)
        refused(broken, "weights.safetensors: expected")
        (broken / "weights.safetensors").write_bytes(content + bytes(9999))
        refused(broken, "weights.safetensors: expected a safetensors file")

    def test_a_pipe_does_not_block(self, broken):
        (broken / "recipe.json").unlink()
        os.mkfifo(broken / "recipe.json")
        refused(broken, "recipe.json: expected a JSON record, found none")


class TestRecords:
    @pytest.mark.parametrize("name", ["result.json", "inputs.json"])
    def test_a_newer_library(self, broken, name):
        table = storage.read_json(broken / name)
        (broken / name).write_text(json.dumps(table | {"format": storage.FORMAT + 1}))
        (broken / "recipe.json").write_text('{"warp": 9}')
        refused(broken, f"got {storage.FORMAT + 1} from a newer spikeloom; update spikeloom")

    def test_newer_weights(self, broken):
        tensors = checkpoint.read_tensors(broken / "weights.safetensors")[0]
        save_file(tensors, broken / "weights.safetensors", metadata={"format": "99"})
        refused(broken, "weights.safetensors: expected format", "update spikeloom")

    @pytest.mark.parametrize("version", [None, 0, True, "two", 1.5])
    def test_a_format_that_is_none(self, broken, version):
        table = storage.read_json(broken / "inputs.json")
        storage.write_record(broken / "inputs.json", table | {"format": version})
        refused(broken, "expected a format of 1 or more")

    @pytest.mark.parametrize("name", ["recipe.json", "result.json", "inputs.json"])
    @pytest.mark.parametrize("content", ["", "[1]", '{"a": ', "[" * 100_000, '{"a":' * 100_000])
    def test_damaged_files(self, broken, name, content):
        (broken / name).write_text(content)
        refused(broken, f"{name}: expected a JSON record")

    def test_a_recipe_nested_to_the_limit(self, broken):
        table = storage.read_json(broken / "recipe.json")
        for depth in (100, 900):
            nest: dict = {}
            for _ in range(depth):
                nest = {"a": nest}
            text = json.dumps(table | {"net": {"table": nest}})
            (broken / "recipe.json").write_text(text)
            refused(broken, "recipe.json: ", kind=SpikeloomError)

    def test_a_file_without_end(self, broken):
        with (broken / "result.json").open("wb") as file:
            file.truncate(2**40)  # sparse
        refused(broken, "expected a record of 67108864 bytes at most, got 1099511627776")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"stages": []}, "stages: expected 1 stage or more"),
            ({"name": "../../etc"}, "name: expected letters, digits"),
            ({"stages": [{"rule": "os.system"}]}, "unknown learning rule 'os.system'"),
            ({"encoder": "nope"}, "encoder: unknown encoder 'nope'"),
            ({"warp": 9}, "unknown key 'warp'"),
        ],
    )
    def test_a_wrong_recipe(self, broken, changes, message):
        table = storage.read_json(broken / "recipe.json")
        (broken / "recipe.json").write_text(json.dumps(table | changes))
        refused(broken, "recipe.json: ", message, kind=ConfigError)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"in_shape": [10**6, 10**6]}, "values at most, got [1000000, 1000000]"),
            ({"in_shape": [1, -4, 4]}, "in_shape.1: expected 1 or more, got -4"),
            ({"in_shape": []}, "in_shape: expected"),
            ({"classes": 1}, "classes: expected 2 or more"),
            ({"classes": "3"}, "classes: expected a whole number"),
            ({"scaling": {"peak": 0.0}}, "scaling.peak: expected a number above 0"),
            ({"scaling": {"mean": [0.5], "std": []}}, "mean and std of the same length"),
            ({"labels": [1, 2]}, "labels.0: expected a text"),
            ({"more": 1}, "unknown key 'more'"),
        ],
    )
    def test_wrong_inputs(self, broken, changes, message):
        table = storage.read_json(broken / "inputs.json")
        storage.write_record(broken / "inputs.json", table | changes)
        refused(broken, "", message, data=False)

    def test_inputs_of_another_net(self, broken):
        table = storage.read_json(broken / "inputs.json")
        storage.write_record(broken / "inputs.json", table | {"in_shape": [2, 4, 4]})
        refused(broken, "expected 'net.plan.synapses.0_0.weight' as [4, 2, 3, 3]", data=False)
