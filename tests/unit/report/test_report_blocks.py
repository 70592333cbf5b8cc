"""A comparison as lines: blocks, differences, failures, the fixed ANN."""

from recordkit import ANN, comparison, entry, run

from spikeloom.report.blocks import (
    HINT,
    PLACEMENT,
    TITLES,
    comparison_lines,
    differs,
    fixed_ann,
    in_blocks,
)
from spikeloom.report.columns import choose

RULE = ["stages.0.rule = sltt", "stages.0.rule.k_steps = 2"]


def results(*entries, **others):
    return comparison(*entries, **({"first": "ANN"} | others))


def texts(*entries, **others):
    return [line.text for line in comparison_lines(results(*entries), **others)]


class TestBlocks:
    ENTRIES = (
        entry("ANN", ANN, block="common", differences=[]),
        entry("own", run(), block="native", differences=["stages.0.steps = 9"]),
        entry("frozen", run(), control=True, block="control", differences=[]),
        entry("SLTT", run(), block="common", differences=RULE),
    )

    def test_rows_stand_in_their_block_in_order(self):
        shown = texts(*self.ENTRIES)
        start = shown.index(TITLES["common"])
        assert [text.split("  ")[0] for text in shown[start : start + 7]] == [
            TITLES["common"],
            "ANN",
            "SLTT",
            TITLES["native"],
            "own",
            TITLES["control"],
            "frozen",
        ]

    def test_the_common_block_does_not_call_equal_what_is_not(self):
        rows = [
            entry("BPTT", run(loss_at="end"), block="common", differences=[]),
            entry("SLTT", run(loss_at="step"), block="common", differences=RULE),
        ]
        shown = texts(*rows)
        assert TITLES["common"] + PLACEMENT in shown
        assert any(text.startswith("not equal between rules: loss at") for text in shown)
        assert TITLES["common"] in texts(*rows[:1])

    def test_the_older_format_knows_controls_only(self):
        old = [entry("c", run(), control=True), entry("a", run())]
        assert [one.label for one in in_blocks(old)] == ["a", "c"]
        lines = comparison_lines(comparison(*old))
        assert lines[-1].text == HINT and not any("differs" in line.text for line in lines)

    def test_every_row_says_what_differs(self):
        shown = texts(*self.ENTRIES)
        start = shown.index("differs from 'ANN' in")
        assert shown[start + 1 : start + 3] == [
            "  SLTT  rule = sltt, rule.k_steps = 2",
            "  own   steps = 9",
        ]

    def test_narrow_terminals_are_told_what_is_left_out(self):
        shown = texts(*self.ENTRIES, width=60)
        told = next(text for text in shown if text.startswith("too wide for this terminal: "))
        assert told.endswith("training time, s.")
        assert all(len(text) <= 60 for text in shown[:8])
        assert not any(text.startswith("too wide") for text in texts(*self.ENTRIES))

    def test_columns_that_were_asked_for_come_in_as_many_tables_as_they_need(self):
        shown = texts(*self.ENTRIES, width=60, columns=choose("all"))
        assert not any(text.startswith("too wide") for text in shown)
        assert sum(text == TITLES["native"] for text in shown) > 1

    def test_the_legend_is_on_demand(self):
        assert not any(text.startswith("test accuracy, %:") for text in texts(*self.ENTRIES))
        told = texts(*self.ENTRIES, explain=True)
        assert any(text.startswith("test accuracy, %:") for text in told) and HINT not in told


class TestTuned:
    def entry(self, edge):
        tuning = {"texts": ["stages.0.optimizer.lr = 0.003"], "trials": [{}] * 3, "edge": edge}
        return entry("x", run(), differences=RULE[:1], tuning=tuning)

    def test_apart_from_the_differences(self):
        text = "rule = sltt; tuned: optimizer.lr = 0.003 (best of 3 trials)"
        assert differs(self.entry([])) == text

    def test_at_the_edge(self):
        assert differs(self.entry(["stages.0.optimizer.lr"])).endswith(
            "(best of 3 trials; best at the edge of the grid)"
        )

    def test_without_a_choice(self):
        unfinished = {"texts": [], "trials": [{}], "edge": [], "chosen": None}
        assert differs(entry("x", tuning=unfinished)) == ""


class TestProblems:
    def test_failed_and_refused_rows_have_a_kind_and_a_reason(self):
        why = {"error": "1 of 2 runs failed: nan", "errors": [{"seed": 1, "error": "nan"}]}
        lines = comparison_lines(
            results(entry("a", run()), entry("b", run(), **why), entry("c", refusal="max pool"))
        )
        kinds = [(line.kind, line.text) for line in lines if line.kind in ("failed", "refused")]
        assert [kind for kind, _ in kinds] == ["failed", "refused"] * 2
        assert kinds[2][1] == "failed: b: 1 of 2 runs failed: nan"
        assert kinds[3][1] == "refused: c: max pool"

    def test_nothing_ran(self):
        lines = comparison_lines(results(entry("c", refusal="no"), entry("later")))
        shown = [line.text for line in lines]
        start = shown.index(TITLES["common"])
        assert [text.split()[0] for text in shown[start + 1 : start + 3]] == ["c", "refused:"]


class TestFixedAnn:
    def test_the_first_ann_of_the_table(self):
        dear = run(spiking=False, costs__energy__strict_fp32={"net": 99e6, "ann": 20e6})
        table = [entry("c", dear, control=True), entry("x", run()), entry("ANN", ANN)]
        assert fixed_ann([*table, entry("ANN 2", dear)]) == (
            "ANN to compare with: ReLU net ann (measured, 'ANN'): 10.000 uJ per sample, "
            "9.000 uJ by the paper's formulas"
        )

    def test_without_one_all_pairs_of_the_first_net(self):
        assert fixed_ann([entry("x", run()), entry("y", run(ann_net="other"))]) == (
            "ANN to compare with: ReLU net ann (not measured: every product of it once, zeros "
            "included): 20.000 uJ per sample, 9.000 uJ by the paper's formulas"
        )

    def test_its_text_is_short(self):
        long = run(spiking=False, net="snn") | {"net": '{default = {unit = {name = "relu"}}} c4 f9'}
        assert fixed_ann([entry("ANN", long)]).startswith(
            "ANN to compare with: ReLU net c4 f9 (measured"
        )

    def test_before_anything_ran(self):
        assert fixed_ann([entry("x", refusal="no")]) is None
