"""Run folders and comparison folders become one list of entries, or one line of error."""

import json

import pytest
import reportkit as kit

from spikeloom.base.errors import ConfigError, DataError
from spikeloom.report.records import read_entries


def labels(*folders):
    return [entry.label for entry in read_entries(folders)]


class TestRuns:
    def test_a_finished_run(self, tmp_path):
        kit.write_run(tmp_path / "a", kit.run(seed=3), kit.samples())
        (entry,) = read_entries([tmp_path / "a"])
        assert entry.label == "demo" and entry.state == "done" and entry.single
        assert entry.seeds == {3} and entry.spiking and entry.data == "digits"
        assert entry.recipe["stages"][0]["steps"] == 4
        assert len(entry.samples.samples) == 8

    def test_an_unfinished_run_shows_its_curve(self, tmp_path):
        record = kit.run()
        record["curve"] = record["curve"][:5]
        kit.write_run(tmp_path, record, finished=False)
        (entry,) = read_entries([tmp_path])
        assert entry.state == "unfinished" and not entry.runs and entry.data == "digits"
        assert len(entry.unfinished[0].curve) == 5 and entry.unfinished[0].planned == 8

    def test_a_run_that_has_not_begun(self, tmp_path):
        kit.write(tmp_path / "recipe.json", kit.recipe())
        (entry,) = read_entries([tmp_path])
        assert entry.state == "unfinished" and not entry.drawn

    def test_seeds_of_one_recipe_are_one_entry(self, tmp_path):
        for seed in range(3):
            kit.write_run(tmp_path / f"seed{seed}", kit.run(seed=seed))
        (entry,) = read_entries([tmp_path / f"seed{seed}" for seed in range(3)])
        assert [run.seed for run in entry.runs] == [0, 1, 2]

    def test_a_folder_stands_for_the_runs_below_it(self, tmp_path):
        for seed in range(2):
            kit.write_run(tmp_path / "demo" / f"seed{seed}", kit.run(seed=seed))
        kit.write_run(tmp_path / ".hidden", kit.run(seed=9))
        assert read_entries([tmp_path])[0].seeds == {0, 1}

    def test_an_unfinished_seed_joins_the_finished_ones(self, tmp_path):
        kit.write_run(tmp_path / "seed0", kit.run(seed=0))
        kit.write_run(tmp_path / "seed1", kit.run(seed=1), finished=False)
        (entry,) = read_entries([tmp_path])
        assert len(entry.runs) == 1 and entry.unfinished[0].seed == 1
        assert entry.state == "unfinished"

    def test_recipes_that_differ_stay_apart_under_longer_names(self, tmp_path):
        kit.write_run(tmp_path / "a", kit.run(rule="bptt"))
        kit.write_run(tmp_path / "b", kit.run(rule="sltt"))
        assert labels(tmp_path / "a", tmp_path / "b") == ["demo bptt", "demo sltt"]

    def test_the_same_seed_twice_is_two_entries(self, tmp_path):
        kit.write_run(tmp_path / "a", kit.run(0.9))
        kit.write_run(tmp_path / "b", kit.run(0.8))
        one, other = read_entries([tmp_path / "a", tmp_path / "b"])
        assert one.label != other.label and str(tmp_path / "b") in other.label

    def test_the_same_folder_twice_counts_once(self, tmp_path):
        kit.write_run(tmp_path / "a", kit.run())
        assert labels(tmp_path / "a", tmp_path / "a" / ".." / "a", tmp_path) == ["demo"]

    def test_format_1_lacks_what_came_later(self, tmp_path):
        record = kit.run()
        for key in ("stages", "accuracy_by_step", "sources", "warnings", "processes", "classes"):
            del record[key]
        recipe = record.pop("recipe")
        record.pop("environment")
        del record["costs"]["training"]["predicted_bytes"], record["costs"]["inference"]
        for epoch in record["curve"]:
            del epoch["stage"], epoch["rule"]
        kit.write(tmp_path / "result.json", record | {"format": 1})
        (entry,) = read_entries([tmp_path])
        assert entry.recipe is None and entry.samples is None and entry.state == "done"
        kit.write(tmp_path / "recipe.json", recipe)
        assert read_entries([tmp_path])[0].recipe == recipe


class TestComparisons:
    def test_entries_in_order(self, tmp_path):
        entries = [
            kit.entry("BPTT", kit.run(seed=0), kit.run(seed=1), differences=[]),
            kit.entry("IDE", refusal="rules.ide: no feedback."),
            kit.entry("DSR", error="epoch 3: not finite."),
            kit.entry("frozen", kit.run(0.7), control=True, block="common"),
        ]
        kit.write_comparison(tmp_path, entries, traces=True)
        found = read_entries([tmp_path])
        assert [one.label for one in found] == ["BPTT", "IDE", "DSR", "frozen"]
        assert [one.state for one in found] == ["done", "refused", "failed", "done"]
        assert found[3].control and found[3].block == "common" and found[0].origin == "demo"
        assert found[0].samples.steps == 4 and found[1].samples is None

    def test_what_was_tuned_is_a_difference(self, tmp_path):
        tuning = {"texts": ["optimizer.lr = 0.01"], "edge": ["optimizer.lr"], "trials": [{}, {}]}
        one = kit.entry("a", kit.run(), differences=["rule sltt"], tuning=tuning)
        kit.write_comparison(tmp_path, [one])
        assert read_entries([tmp_path])[0].differences == (
            "rule sltt",
            "tuned: optimizer.lr = 0.01 (best of 2 trials; best at the edge of the grid)",
        )

    def test_runs_still_going_on(self, tmp_path):
        kit.write_comparison(tmp_path, [kit.entry("A b", kit.run(seed=0)), kit.entry("c")])
        kit.write_run(tmp_path / "a-b" / "seed1", kit.run(seed=1), finished=False)
        one, other = read_entries([tmp_path])
        assert one.unfinished[0].seed == 1 and one.state == "unfinished"
        assert other.state == "unfinished" and not other.unfinished

    def test_a_failed_seed_is_not_taken_for_unfinished(self, tmp_path):
        errors = [{"seed": 1, "error": "no"}]
        one = kit.entry("a", kit.run(), error="1 of 2 runs failed: no", errors=errors)
        kit.write_comparison(tmp_path, [one])
        kit.write_run(tmp_path / "a" / "seed1", kit.run(seed=1), finished=False)
        (entry,) = read_entries([tmp_path])
        assert entry.state == "failed" and not entry.unfinished

    def test_a_slug_that_leads_elsewhere_is_not_followed(self, tmp_path):
        kit.write_run(tmp_path / "secret" / "seed0", kit.run(), kit.samples())
        one = kit.entry("a", kit.run(), slug="../secret")
        kit.write_comparison(tmp_path / "runs", [one])
        assert read_entries([tmp_path / "runs"])[0].samples is None

    def test_two_comparisons_with_the_same_labels(self, tmp_path):
        for name in ("one", "two"):
            kit.write_comparison(tmp_path / name, [kit.entry("BPTT", kit.run())], name=name)
        assert labels(tmp_path) == ["one: BPTT", "two: BPTT"]
        kit.write_comparison(tmp_path / "two", [kit.entry("BPTT", kit.run())], name="one")
        assert len(set(labels(tmp_path))) == 2


class TestMistakes:
    def refused(self, kind, folder, text):
        with pytest.raises(kind) as caught:
            read_entries([folder])
        message = str(caught.value)
        assert text in message and "\n" not in message and len(message) < 600, message

    def test_wrong_paths(self, tmp_path):
        self.refused(ConfigError, tmp_path / "none", "nothing there")
        (tmp_path / "file").write_text("x")
        self.refused(ConfigError, tmp_path / "file", "found a file")
        (tmp_path / "empty").mkdir()
        self.refused(ConfigError, tmp_path / "empty", "found no result.json")

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "3", "\udcff", "[" * 100_000, '{"a": ' * 2000 + "1" + "}" * 2000],
        ids=["empty", "torn", "list", "number", "bytes", "deep", "deep object"],
    )
    @pytest.mark.parametrize("name", ["result.json", "results.json"])
    def test_damaged_records(self, tmp_path, name, text):
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        self.refused(DataError, tmp_path, name)

    def test_a_newer_format(self, tmp_path):
        kit.write(tmp_path / "result.json", kit.run() | {"format": 99})
        self.refused(DataError, tmp_path, "expected format 3 at most, got 99")

    def test_a_trial_of_a_tuning(self, tmp_path):
        record = kit.run() | {"final": False}
        del record["test_accuracy"], record["costs"]
        kit.write(tmp_path / "result.json", record)
        self.refused(DataError, tmp_path, "a trial of a tuning")

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("test_accuracy", 1.5),
            ("test_accuracy", float("nan")),
            ("test_accuracy", "0.9"),
            ("test_accuracy", True),
            ("train_seconds", float("inf")),
            ("seed", -1),
            ("steps", 10**400),
            ("net", 3),
            ("facts", {}),
            ("costs.parameters", 1e9),
            ("costs.energy.strict_fp32", None),
            ("costs.training.peak_bytes", -5),
            ("costs.layers", [{}]),
            ("curve", [{"epoch": 0}]),
            ("recipe", []),
            ("warnings", [1]),
            ("sources", ["x"]),
        ],
    )
    def test_foreign_values(self, tmp_path, path, value):
        record = kit.run()
        *parents, last = path.split(".")
        target = record
        for key in parents:
            target = target[key]
        target[last] = value
        kit.write(tmp_path / "result.json", record)
        self.refused(DataError, tmp_path, path)

    @pytest.mark.parametrize(
        "change",
        [
            {"image": {"shape": [1, 8, 8], "pixels": [0]}},
            {"logits": [[1.0, 2.0], [1.0]]},
            {"logits": [[]]},
            {"layers": [{"site": "0", "neurons": 3, "shown": [1, 2], "spikes": [[0]]}]},
        ],
    )
    def test_samples_that_do_not_fit_together(self, tmp_path, change):
        traces = kit.samples(count=1)
        traces["samples"][0] |= change
        kit.write_run(tmp_path, kit.run(), traces)
        self.refused(DataError, tmp_path, "samples.json")

    def test_metrics_that_are_no_epochs(self, tmp_path):
        kit.write_run(tmp_path, kit.run(), finished=False)
        for text in ("{", "[]", '{"epoch": 0}', '{"epoch": 0, "loss": NaN}'):
            (tmp_path / "metrics.jsonl").write_text(text)
            self.refused(DataError, tmp_path, "metrics.jsonl")

    def test_a_recipe_without_a_name(self, tmp_path):
        kit.write(tmp_path / "recipe.json", {"seed": 0})
        self.refused(DataError, tmp_path, "without a name or seed")

    def test_what_is_no_text_is_replaced(self, tmp_path):
        kit.write_comparison(tmp_path, [])
        bad = "a\x1b[31m\u202eb\ud800"
        record = {"format": 2, "name": "x", "entries": [kit.entry(bad, refusal="\x07")]}
        (tmp_path / "results.json").write_text(json.dumps(record))
        (entry,) = read_entries([tmp_path])
        assert entry.label == "a\ufffd[31m\ufffdb\ufffd" and entry.refusal == "\ufffd"
