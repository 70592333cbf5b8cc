"""The table, from records made by hand."""

import pytest
from recordkit import ANN, entry, run, timed

from spikeloom.report.table import (
    FRONT,
    HEADINGS,
    NO_RANK,
    count,
    entry_rows,
    fitted,
    joules,
    to_markdown,
    to_text,
)


def rows(*entries):
    """The rows by label, each as a table by heading."""
    first, *rest = entry_rows(entries)
    assert first == HEADINGS and len(set(first)) == len(first)
    marks = FRONT + NO_RANK
    return {row[0].rstrip(marks): dict(zip(HEADINGS, row, strict=True)) for row in rest}


class TestRow:
    def test_by_hand(self):
        assert rows(entry("x", run()))["x"] == {
            "entry": "x",
            "test %": "90.00",
            "T": "4",
            "ms": "-",
            "params": "12.3k",
            "spikes": "250",
            "AC": "4000",
            "MAC": "60.0k",
            "uJ paper": "2.000",
            "EE paper": "-",
            "uJ strict": "4.000",
            "EE strict": "-",
            "train ops": "100 + 200",
            "train MB": "5.5",  # 5.55 is stored a little below
            "MB/step": "-",
            "ms/step": "-",
            "time s": "-",
            "x ANN": "-",
        }

    def test_the_ann_has_no_spikes_and_no_ratio(self):
        row = rows(entry("ANN", ANN))["ANN"]
        assert row["spikes"] == row["EE paper"] == row["EE strict"] == "-"
        assert row["T"] == "1" and row["x ANN"] == "-"

    def test_seeds_give_mean_and_deviation(self):
        row = rows(entry("x", run(0.90), run(0.92), run(0.94)))["x"]
        assert row["test %"] == "92.00 ± 2.00"
        costs = rows(entry("x", run(), run(costs__spikes={"mean": 350.0}, train_seconds=8.0)))["x"]
        assert costs["spikes"] == "300" and costs["time s"] == "7.0 [6.0, 8.0]"

    def test_two_seeds_are_shown_and_not_summed_up_in_a_deviation(self):
        assert rows(entry("x", run(0.92), run(0.90)))["x"]["test %"] == "91.00 [90.00, 92.00]"

    def test_growth_is_the_mean_of_what_a_step_adds(self):
        def grown(more, slower):
            training = run()["costs"]["training"]
            growth = {"bytes_per_step": more} | timed(slower, half=0.25, name="ms_per_step")
            return run(costs__training=training | {"growth": growth})

        row = rows(entry("x", grown(1.0e6, 2.0), grown(1.5e6, 4.0)))["x"]
        assert (row["MB/step"], row["ms/step"]) == ("1.25", "3.00 ± 1.41")
        row = rows(entry("x", grown(-1.0, 2.0)))["x"]
        assert row["MB/step"] == "0.00"
        assert rows(entry("x", grown(1.0e6, 2.0), run()))["x"]["MB/step"] == "-"

    def test_the_time_of_an_inference(self):
        runs = [run(costs__inference=timed(ms, half=0.05)) for ms in (0.3, 0.5)]
        assert rows(entry("x", runs[0]))["x"]["ms"] == "0.300 ± 0.050"
        assert rows(entry("x", *runs))["x"]["ms"] == "0.400 ± 0.141"
        assert rows(entry("x", runs[0], run()))["x"]["ms"] == "-"  # one of the older format

    @pytest.mark.parametrize(
        "record",
        [
            {"ms_per_sample": 0.3},  # older records have no spread
            timed(0.3) | {"ms_per_sample": None},  # too noisy, or too few rounds
        ],
    )
    def test_a_time_without_a_spread_is_not_printed(self, record):
        assert rows(entry("x", run(costs__inference=record)))["x"]["ms"] == "-"
        growth = {key.replace("sample", "step"): value for key, value in record.items()}
        growth |= {"bytes_per_step": 1e6}
        training = run()["costs"]["training"] | {"growth": growth}
        row = rows(entry("x", run(costs__training=training)))["x"]
        assert (row["MB/step"], row["ms/step"]) == ("1.00", "-")

    def test_how_many_runs_where_that_is_not_plain(self):
        table = rows(entry("x", run(0.90), run(0.92)), entry("y", run()))
        assert (
            table["x"]["test %"] == "91.00 [90.00, 92.00] (n 2)"
            and table["y"]["test %"] == "90.00 (n 1)"
        )

    def test_failed_runs_are_told(self):
        why = {"error": "1 of 3 runs failed: nan", "errors": [{"seed": 2, "error": "nan"}]}
        table = rows(entry("x", run(0.90), run(0.92), **why), entry("y", **why))
        assert table["x"]["test %"] == "91.00 [90.00, 92.00] (1 of 3 failed)"
        assert table["y"]["test %"] == "failed" and table["y"]["time s"] == "-"

    def test_refused_entries_have_a_row(self):
        assert rows(entry("x", refusal="no"))["x"]["test %"] == "refused"

    def test_the_front_is_marked(self):
        dear = run(0.8, costs__energy__strict_fp32={"net": 9e6, "dense_ann": 20e6})
        labels = [one[0] for one in entry_rows([entry("a", run()), entry("b", dear)])]
        assert labels == ["entry", f"a{FRONT}", "b"]
        assert entry_rows([entry("a", run())])[1][0] == "a"  # nothing to beat

    @pytest.mark.parametrize(
        ("accuracies", "samples", "mark"),
        [
            ((0.90, 0.95), 100, ""),
            ((0.94, 0.95), 100, NO_RANK),  # one test sample
            ((0.93, 0.95), 100, ""),  # two
            ((0.94, 0.95), None, ""),  # an older record does not say how many
        ],
    )
    def test_a_place_on_the_front_that_rests_on_one_sample_is_signed(
        self, accuracies, samples, mark
    ):
        cheap, dear = (run(one, test_samples=samples) for one in accuracies)
        dear["costs"]["energy"]["strict_fp32"] = {"net": 9e6, "dense_ann": 20e6}
        table = entry_rows([entry("cheap", cheap), entry("dear", dear)])
        assert [row[0] for row in table[1:]] == [f"cheap{FRONT}", f"dear{FRONT}{mark}"]

    def test_a_place_within_the_deviation_over_seeds_is_signed(self):
        dear = {"costs__energy__strict_fp32": {"net": 9e6, "dense_ann": 20e6}}
        cheap = entry("cheap", run(0.90), run(0.93), run(0.96))
        near = entry("dear", *(run(one, **dear) for one in (0.92, 0.94, 0.96)))
        far = entry("dear", *(run(one, **dear) for one in (0.97, 0.97, 0.97)))
        assert entry_rows([cheap, near])[2][0] == f"dear{FRONT}{NO_RANK}"
        assert entry_rows([cheap, far])[2][0] == f"dear{FRONT}"

    def test_entries_without_runs_are_left_out(self):
        assert list(rows(entry("x", run()), entry("y"))) == ["x"]
        assert entry_rows([]) == [HEADINGS]

    def test_a_dead_net(self):
        dead = {"net": 0.0, "driven": 0.0, "dense_ann": 9e6}
        row = rows(
            entry("x", run(costs__energy={"paper_int32": dead, "strict_fp32": dead})),
            entry("ANN", ANN),
        )["x"]
        assert row["EE paper"] == row["EE strict"] == "inf (dead)"
        assert row["uJ paper"] == "0.000"


class TestEnergyRatio:
    def test_against_the_measured_ann(self):
        table = rows(entry("ANN", ANN), entry("x", run()))
        assert table["x"]["EE strict"] == "2.50"  # 10 / 4, not 20 / 4
        assert table["x"]["EE paper"] == "4.50"  # 9 / 2

    def test_against_the_mean_of_its_seeds(self):
        other = run(spiking=False, costs__energy__strict_fp32={"net": 30e6, "dense_ann": 20e6})
        assert rows(entry("ANN", ANN, other), entry("x", run()))["x"]["EE strict"] == "5.00"

    def test_wherever_the_ann_stands(self):
        assert rows(entry("x", run()), entry("ANN", ANN))["x"]["EE strict"] == "2.50"

    def test_another_nets_ann_does_not_count(self):
        table = rows(entry("ANN", ANN), entry("x", run(ann_net="another")))
        assert table["x"]["EE strict"] == table["x"]["EE paper"] == "-"

    def test_another_data_sets_ann_does_not_count(self):
        table = rows(entry("ANN", ANN), entry("x", run(data="mnist")))
        assert table["x"]["EE strict"] == table["x"]["x ANN"] == "-"

    def test_a_control_does_not_replace_the_ann(self):
        frozen = run(spiking=False, costs__energy__strict_fp32={"net": 40e6, "dense_ann": 20e6})
        control = entry("frozen", frozen, control=True)
        for entries in ([entry("ANN", ANN), control], [control, entry("ANN", ANN)]):
            assert rows(*entries, entry("x", run()))["x"]["EE strict"] == "2.50"
        assert rows(control, entry("x", run()))["x"]["EE strict"] == "10.00"

    def test_the_first_of_two_anns_counts(self):
        other = run(spiking=False, train_seconds=60.0)
        table = rows(entry("ANN", ANN, ANN), entry("x", run(), run()), entry("ANN 2", other, other))
        assert (table["x"]["EE strict"], table["x"]["x ANN"]) == ("2.50", "3.0 [3.0, 3.0]")


class TestTime:
    def test_relative_to_the_ann(self):
        """Seed by seed, so that a slow hour of the machine counts once."""
        times = ((2.0, 6.0), (4.0, 12.0), (2.0, 8.0))
        anns = [run(spiking=False, train_seconds=one, seed=k) for k, (one, _) in enumerate(times)]
        ours = [run(train_seconds=one, seed=k) for k, (_, one) in enumerate(times)]
        table = rows(entry("ANN", *anns), entry("x", *ours))
        assert (table["ANN"]["x ANN"], table["x"]["x ANN"]) == ("1.0 ± 0.0", "3.3 ± 0.6")
        assert table["x"]["time s"] == "8.7 ± 3.1"

    def test_one_training_is_no_figure_of_time(self):
        table = rows(entry("ANN", ANN), entry("x", run()))
        assert table["x"]["time s"] == table["x"]["x ANN"] == "-"

    def test_controls_have_none(self):
        table = rows(entry("ANN", ANN, ANN), entry("c", run(), run(), control=True))
        assert table["c"]["x ANN"] == "-" and table["c"]["time s"] == "6.0 [6.0, 6.0]"

    def test_a_control_is_no_clock(self):
        table = rows(entry("c", ANN, ANN, control=True), entry("x", run(), run()))
        assert table["x"]["x ANN"] == "-"


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


class TestFitting:
    ROWS = (HEADINGS, ("a label of 23 letters...", *["1234567"] * (len(HEADINGS) - 1)))

    def test_no_width_no_loss(self):
        assert fitted(self.ROWS, None) == ([*self.ROWS], [])
        assert fitted(self.ROWS, 1000) == ([*self.ROWS], [])

    @pytest.mark.parametrize("width", [200, 170, 140, 120, 100, 90, 80])
    def test_columns_leave_until_it_fits(self, width):
        rows, out = fitted(self.ROWS, width)
        assert max(map(len, to_text(rows).splitlines())) <= width
        order = ["AC", "MAC", "params", "train ops", "ms/step", "x ANN", "ms", "uJ paper"]
        order += ["MB/step", "time s", "spikes"]
        assert out == order[: len(out)]
        assert len(out) + len(rows[0]) == len(HEADINGS)

    def test_accuracy_and_cost_stay_together(self):
        rows, _ = fitted(self.ROWS, 10)
        assert rows[0] == ("entry", "test %", "T", "EE paper", "uJ strict", "EE strict", "train MB")
        assert rows[1][0] == "a label of 23 l\N{HORIZONTAL ELLIPSIS}"
