"""The table, from records made by hand."""

import pytest
from recordkit import ANN, entry, run, timed

from spikeloom.base.errors import ConfigError
from spikeloom.report.columns import COLUMNS, GROUPS, choose, explained, of_group
from spikeloom.report.numbers import count, joules
from spikeloom.report.table import (
    best_lines,
    cells_of,
    entry_rows,
    in_parts,
    to_markdown,
    to_text,
)


def rows(*entries):
    """The texts by label, each as a table by column."""
    return {label: {key: cell.text for key, cell in row.items()} for label, row in cells(*entries)}


def cells(*entries):
    """The figures of entries that ran, by column."""
    for one, row in zip(entries, cells_of(entries, COLUMNS), strict=True):
        if row is not None:
            yield one.label, {c.key: cell for c, cell in zip(COLUMNS, row, strict=True)}


class TestRow:
    def test_by_hand(self):
        assert rows(entry("x", run()))["x"] == {
            "accuracy": "90.00",
            "steps": "4",
            "energy": "4.000",
            "ann_energy": "-",
            "memory": "5.5",  # 5.55 is stored a little below
            "seconds": "-",
            "parameters": "12.3k",
            "predict_ms": "-",
            "spikes": "250",
            "ac": "4000",
            "mac": "60.0k",
            "paper_energy": "2.000",
            "paper_ann_energy": "-",
            "forward_mac": "100",
            "backward_mac": "200",
            "memory_per_step": "-",
            "ms_per_step": "-",
            "ann_seconds": "-",
        }

    def test_figures_have_numbers_beside_their_text(self):
        row = dict(cells(entry("x", run(0.90), run(0.92), run(0.94, costs__ac={"mean": 1.0}))))["x"]
        assert (row["accuracy"].value, row["accuracy"].spread) == pytest.approx((92, 2))
        assert row["ac"].value == pytest.approx(8001 / 3) and row["energy"].value == 4.0
        assert row["ann_energy"].value is None

    def test_the_ann_has_no_spikes_and_no_ratio(self):
        row = rows(entry("ANN", ANN))["ANN"]
        assert row["spikes"] == row["paper_ann_energy"] == row["ann_energy"] == "-"
        assert row["steps"] == "1" and row["ann_seconds"] == "-"

    def test_seeds_give_mean_and_deviation(self):
        row = rows(entry("x", run(0.90), run(0.92), run(0.94)))["x"]
        assert row["accuracy"] == "92.00 ± 2.00"
        costs = rows(entry("x", run(), run(costs__spikes={"mean": 350.0}, train_seconds=8.0)))["x"]
        assert costs["spikes"] == "300" and costs["seconds"] == "7.0 [6.0, 8.0]"

    def test_two_seeds_are_shown_and_not_summed_up_in_a_deviation(self):
        assert rows(entry("x", run(0.92), run(0.90)))["x"]["accuracy"] == "91.00 [90.00, 92.00]"

    def test_growth_is_the_mean_of_what_a_step_adds(self):
        def grown(more, slower):
            training = run()["costs"]["training"]
            growth = {"bytes_per_step": more} | timed(slower, half=0.25, name="ms_per_step")
            return run(costs__training=training | {"growth": growth})

        row = rows(entry("x", grown(1.0e6, 2.0), grown(1.5e6, 4.0)))["x"]
        assert (row["memory_per_step"], row["ms_per_step"]) == ("1.25", "3.00 ± 1.41")
        row = rows(entry("x", grown(-1.0, 2.0)))["x"]
        assert row["memory_per_step"] == "0.00"
        assert rows(entry("x", grown(1.0e6, 2.0), run()))["x"]["memory_per_step"] == "-"

    def test_the_time_of_an_inference(self):
        runs = [run(costs__inference=timed(ms, half=0.05)) for ms in (0.3, 0.5)]
        assert rows(entry("x", runs[0]))["x"]["predict_ms"] == "0.300 ± 0.050"
        assert rows(entry("x", *runs))["x"]["predict_ms"] == "0.400 ± 0.141"
        assert rows(entry("x", runs[0], run()))["x"]["predict_ms"] == "-"  # one of the older format

    @pytest.mark.parametrize(
        "record",
        [
            {"ms_per_sample": 0.3},  # older records have no spread
            timed(0.3) | {"ms_per_sample": None},  # too noisy, or too few rounds
        ],
    )
    def test_a_time_without_a_spread_is_not_printed(self, record):
        assert rows(entry("x", run(costs__inference=record)))["x"]["predict_ms"] == "-"
        growth = {key.replace("sample", "step"): value for key, value in record.items()}
        growth |= {"bytes_per_step": 1e6}
        training = run()["costs"]["training"] | {"growth": growth}
        row = rows(entry("x", run(costs__training=training)))["x"]
        assert (row["memory_per_step"], row["ms_per_step"]) == ("1.00", "-")

    def test_how_many_runs_where_that_is_not_plain(self):
        table = rows(entry("x", run(0.90), run(0.92)), entry("y", run()))
        assert (
            table["x"]["accuracy"] == "91.00 [90.00, 92.00] (n 2)"
            and table["y"]["accuracy"] == "90.00 (n 1)"
        )

    def test_failed_runs_are_told(self):
        why = {"error": "1 of 3 runs failed: nan", "errors": [{"seed": 2, "error": "nan"}]}
        table = rows(entry("x", run(0.90), run(0.92), **why), entry("y", **why))
        assert table["x"]["accuracy"] == "91.00 [90.00, 92.00] (1 of 3 failed)"
        assert "y" not in table
        assert entry_rows([entry("y", **why)])[1][:3] == ("y", "failed", "-")

    def test_refused_entries_have_a_row(self):
        assert entry_rows([entry("x", refusal="no")])[1][:3] == ("x", "refused", "-")

    def test_entries_without_runs_are_left_out(self):
        assert [row[0] for row in entry_rows([entry("x", run()), entry("y")])] == ["entry", "x"]
        assert len(entry_rows([])) == 1

    def test_a_dead_net(self):
        dead = {"net": 0.0, "driven": 0.0, "dense_ann": 9e6}
        row = rows(
            entry("x", run(costs__energy={"paper_int32": dead, "strict_fp32": dead})),
            entry("ANN", ANN),
        )["x"]
        assert row["paper_ann_energy"] == row["ann_energy"] == "inf (dead)"
        assert row["paper_energy"] == "0.000"


class TestEnergyRatio:
    def test_against_the_measured_ann(self):
        table = rows(entry("ANN", ANN), entry("x", run()))
        assert table["x"]["ann_energy"] == "2.50"  # 10 / 4, not 20 / 4
        assert table["x"]["paper_ann_energy"] == "4.50"  # 9 / 2

    def test_against_the_mean_of_its_seeds(self):
        other = run(spiking=False, costs__energy__strict_fp32={"net": 30e6, "dense_ann": 20e6})
        assert rows(entry("ANN", ANN, other), entry("x", run()))["x"]["ann_energy"] == "5.00"

    def test_wherever_the_ann_stands(self):
        assert rows(entry("x", run()), entry("ANN", ANN))["x"]["ann_energy"] == "2.50"

    def test_another_nets_ann_does_not_count(self):
        table = rows(entry("ANN", ANN), entry("x", run(ann_net="another")))
        assert table["x"]["ann_energy"] == table["x"]["paper_ann_energy"] == "-"

    def test_another_data_sets_ann_does_not_count(self):
        table = rows(entry("ANN", ANN), entry("x", run(data="mnist")))
        assert table["x"]["ann_energy"] == table["x"]["ann_seconds"] == "-"

    def test_a_control_does_not_replace_the_ann(self):
        frozen = run(spiking=False, costs__energy__strict_fp32={"net": 40e6, "dense_ann": 20e6})
        control = entry("frozen", frozen, control=True)
        for entries in ([entry("ANN", ANN), control], [control, entry("ANN", ANN)]):
            assert rows(*entries, entry("x", run()))["x"]["ann_energy"] == "2.50"
        assert rows(control, entry("x", run()))["x"]["ann_energy"] == "10.00"

    def test_the_first_of_two_anns_counts(self):
        other = run(spiking=False, train_seconds=60.0)
        table = rows(entry("ANN", ANN, ANN), entry("x", run(), run()), entry("ANN 2", other, other))
        assert (table["x"]["ann_energy"], table["x"]["ann_seconds"]) == ("2.50", "3.0 [3.0, 3.0]")


class TestTime:
    def test_relative_to_the_ann(self):
        """Seed by seed, so that a slow hour of the machine counts once."""
        times = ((2.0, 6.0), (4.0, 12.0), (2.0, 8.0))
        anns = [run(spiking=False, train_seconds=one, seed=k) for k, (one, _) in enumerate(times)]
        ours = [run(train_seconds=one, seed=k) for k, (_, one) in enumerate(times)]
        table = rows(entry("ANN", *anns), entry("x", *ours))
        assert (table["ANN"]["ann_seconds"], table["x"]["ann_seconds"]) == (
            "1.0 ± 0.0",
            "3.3 ± 0.6",
        )
        assert table["x"]["seconds"] == "8.7 ± 3.1"

    def test_one_training_is_no_figure_of_time(self):
        table = rows(entry("ANN", ANN), entry("x", run()))
        assert table["x"]["seconds"] == table["x"]["ann_seconds"] == "-"

    def test_controls_have_none(self):
        table = rows(entry("ANN", ANN, ANN), entry("c", run(), run(), control=True))
        assert table["c"]["ann_seconds"] == "-" and table["c"]["seconds"] == "6.0 [6.0, 6.0]"

    def test_a_control_is_no_clock(self):
        table = rows(entry("c", ANN, ANN, control=True), entry("x", run(), run()))
        assert table["x"]["ann_seconds"] == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (3, "3"),
        (3.14159, "3.14"),
        (12.4, "12"),
        (873.4, "873"),
        (9999, "9999"),
        (10_000, "10.0k"),
        (12_345, "12.3k"),
        (123_456, "123k"),
        (4_561_000, "4.56M"),
        (45_610_000, "45.6M"),
        (456_100_000, "456M"),
        (7.8e9, "7.80G"),
        (780e9, "780G"),
    ],
)
def test_counts_keep_three_digits_or_so(value, text):
    assert count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.000"), (1.234567, "1.235"), (0.045, "0.045"), (0.0015, "0.002"), (0.00046, "0.00046")],
)
def test_joules(value, text):
    assert joules(value) == text


class TestLayout:
    ROWS = (("entry", "a"), ("x y", "1"), ("é", "12.5"))

    def test_text(self):
        assert to_text(self.ROWS).splitlines() == [
            "entry     a",
            "-----  ----",
            "x y       1",
            "é      12.5",
        ]

    def test_markdown(self):
        assert to_markdown(self.ROWS).splitlines() == [
            "| entry | a |",
            "|---|---:|",
            "| x y | 1 |",
            "| é | 12.5 |",
        ]

    def test_markdown_keeps_bars_in_labels_inside_their_cell(self):
        assert to_markdown((("entry",), ("a|b",))).splitlines()[-1] == r"| a\|b |"


class TestParts:
    ROWS = (
        ("entry", *(column.heading for column in of_group("main"))),
        ("a label of 23 letters...", "98.95 ± 0.44", "4", "0.547", "1.60", "4.7", "13.6 ± 3.3"),
    )

    def test_no_width_no_cut(self):
        (table,) = in_parts(self.ROWS, None)
        assert [" ".join(heading.split()) for heading in table[0]] == [*self.ROWS[0]]
        assert table[1] == self.ROWS[1] == in_parts(self.ROWS, 1000)[0][1]

    def test_the_columns_that_decide_fit_eighty_characters(self):
        (table,) = in_parts(self.ROWS, 80)
        assert max(map(len, to_text(table).splitlines())) == 80
        assert table[1][0] == "a label of 23 lette\N{HORIZONTAL ELLIPSIS}"

    @pytest.mark.parametrize("width", [200, 120, 80, 60, 40])
    def test_nothing_is_lost_and_nothing_is_too_wide(self, width):
        whole = entry_rows([entry("a", run()), entry("b", ANN)], COLUMNS)
        parts = in_parts(whole, width)
        assert all(len(line) <= width for part in parts for line in to_text(part).splitlines())
        for number in range(3):
            joined = [" ".join(cell.split()) for part in parts for cell in part[number][1:]]
            assert joined == [*whole[number][1:]]

    def test_headings_stand_on_the_rule(self):
        assert to_text((("entry", "one\ntwo"), ("x", "1"))).splitlines() == [
            "       one",
            "entry  two",
            "-----  ---",
            "x        1",
        ]


class TestColumns:
    def test_no_name_stands_twice(self):
        for names in ([c.key for c in COLUMNS], [c.heading for c in COLUMNS], [*GROUPS, "all"]):
            assert len(set(names)) == len(names)
        assert not set(GROUPS) & {column.key for column in COLUMNS}

    def test_the_main_ones_are_few_and_stand_first(self):
        main = of_group("main")
        assert len(main) <= 7 and COLUMNS[: len(main)] == main

    def test_chosen_by_group_and_key_once_each(self):
        chosen = choose("mac, paper,all")
        assert chosen is not None and len(chosen) == len(COLUMNS)
        assert [column.key for column in chosen[:2]] == ["mac", "paper_energy"]
        assert choose(None) is None

    def test_an_unknown_one_is_an_error(self):
        with pytest.raises(ConfigError, match="--columns: unknown column 'spike'.*'spikes'"):
            choose("spike")

    def test_each_is_explained_with_its_unit(self):
        lines = explained(of_group("main"))
        assert lines[0].startswith("test accuracy, %: ") and len(lines) == 7


class TestBest:
    DEAR = {"costs__energy__strict_fp32": {"net": 9e6, "dense_ann": 20e6}}

    def test_one_that_is_beaten_is_not_named(self):
        lines = best_lines([entry("a", run()), entry("b", run(0.8, **self.DEAR))])
        assert lines == ["best accuracy at its energy or less: a."]
        assert best_lines([entry("a", run())]) == []  # nothing to compare with

    def test_data_sets_have_their_own(self):
        other = [entry(name, run(one, data="mnist")) for name, one in (("c", 0.99), ("d", 0.98))]
        lines = best_lines([entry("a", run()), *other, entry("b", run(0.8)), entry("e", run(0.1))])
        assert lines == [
            "on digits, best accuracy at its energy or less: a.",
            "on mnist, best accuracy at its energy or less: c.",
        ]

    @pytest.mark.parametrize(
        ("accuracies", "samples", "close"),
        [
            ((0.90, 0.95), 100, False),
            ((0.94, 0.95), 100, True),  # one test sample
            ((0.93, 0.95), 100, False),  # two
            ((0.94, 0.95), None, False),  # an older record does not say how many
        ],
    )
    def test_a_lead_of_one_sample_is_no_rank(self, accuracies, samples, close):
        cheap, dear = (run(one, test_samples=samples) for one in accuracies)
        dear["costs"]["energy"]["strict_fp32"] = {"net": 9e6, "dense_ann": 20e6}
        (line,) = best_lines([entry("cheap", cheap), entry("dear", dear)])
        assert ("or less: cheap; dear." in line) is not close
        assert line.endswith("or the spread over seeds): dear.") is close

    def test_nor_is_one_within_the_deviation_over_seeds(self):
        cheap = entry("cheap", run(0.90), run(0.93), run(0.96))
        near = entry("dear", *(run(one, **self.DEAR) for one in (0.92, 0.94, 0.96)))
        far = entry("dear", *(run(one, **self.DEAR) for one in (0.97, 0.97, 0.97)))
        assert best_lines([cheap, near])[0].endswith("seeds): dear.")
        assert best_lines([cheap, far]) == ["best accuracy at their energy or less: cheap; dear."]
