"""The table of scores and the lede: which cells, which marks, which words."""

import re
from dataclasses import replace

import reportkit as kit
from pagekit import Reader, entry, epochs, rows

from spikeloom.report.entries import Entry, Unfinished
from spikeloom.report.html.scores import highlights, score_table
from spikeloom.report.html.sections import lede, title_of


class TestScores:
    def test_cells_sort_by_the_numbers_behind_their_texts(self):
        table = score_table([entry("a", kit.run(0.98, size=2), kit.run(0.96, seed=1, size=2))])
        found = dict(
            re.findall(r'<td data-g="\w+" data-c="\d+" data-v="(\S+?)"[^>]*>(.*?)<', table)
        )
        assert found["97"] == "97.00 [96.00, 98.00]"

    def test_one_row_each_with_the_best_marked(self):
        table = score_table(
            [
                entry("a", kit.run(0.98, size=2), kit.run(0.96, seed=1, size=2)),
                entry("b", kit.run(0.95, size=1)),
                entry("c", kit.run(0.99, size=0.1), control=True),
            ]
        )
        found = rows(table)
        assert [row[0] for row in found] == ["a below a control", "b below a control", "c control"]
        assert found[0][1].startswith("97.00 [96.00, 98.00]") and "95.00" in found[1][1]
        texts = re.findall(r'<td class="best"[^>]*><b>(.*?)</b>', table)
        assert texts[0].startswith("97.00") and "0.540" in texts and "0.99" not in table
        assert 'title="by seed 0: 98.00 %, 1: 96.00 %"' in table

    def test_an_entry_with_failed_runs_is_not_the_best(self):
        table = score_table(
            [entry("a", kit.run(0.9)), entry("b", kit.run(0.8)), entry("c", kit.run(), error="no")]
        )
        assert "<b>90.00</b>" in table and "<b>97.00</b>" not in table

    def test_where_all_are_equal_none_is_best(self):
        assert "best" not in score_table([entry("a", kit.run()), entry("b", kit.run())])

    def test_fronts_by_name(self):
        found = rows(
            score_table(
                [
                    entry("a", *(kit.run(0.98, seed=seed, size=2) for seed in (0, 1))),
                    entry("b", *(kit.run(0.95, seed=seed, size=1) for seed in (0, 1))),
                    entry("c", *(kit.run(0.9, seed=seed, size=3) for seed in (0, 1))),
                ]
            )
        )
        assert [row[2] for row in found] == ["energy memory time", "energy memory time", ""]

    def test_a_rank_that_rests_on_a_test_sample_is_signed(self):
        """One of 350 samples is 0.29 points."""
        runs = [(0.970, 3, "a"), (0.968, 2, "b"), (0.90, 1, "c"), (0.8, 4, "d")]
        table = score_table([entry(name, kit.run(one, size=size)) for one, size, name in runs])
        assert [row[2] for row in rows(table)] == [
            "energy (tie) memory (tie)",
            "energy memory",
            "energy memory",
            "",
        ]
        assert "<b>97.00</b> (tie)" in table
        apart = [entry("a", kit.run(0.97)), entry("b", kit.run(0.96))]
        assert "<b>97.00</b></td>" in score_table(apart)

    def test_one_training_has_no_time(self):
        table = score_table([entry("a", kit.run(0.9)), entry("b", kit.run(0.8, size=2))])
        assert "4.0" not in [cell for row in rows(table) for cell in row]

    def test_entries_without_numbers_say_why(self):
        partial = Unfinished("x", 2, kit.recipe(), epochs(kit.curve(epochs=3)))
        table = score_table(
            [
                Entry("r", refusal="no <net>"),
                Entry("f", error="not finite"),
                Entry("u", unfinished=(partial,)),
                Entry("n"),
                entry("half", kit.run(), error="1 of 2 runs failed", unfinished=(partial,)),
            ]
        )
        texts = [" ".join(row) for row in rows(table)]
        assert texts[0] == "r refused no <net>" and texts[1] == "f failed not finite"
        assert texts[2].startswith("u unfinished seed 2: 3 of 8 epochs, val ")
        assert texts[3] == "n unfinished not started"
        assert texts[4].startswith("half 1 of 2 seeds failed 97.00")
        kinds = re.findall(r'<tr class="(\w+)" data-e', table)
        assert kinds == ["refused", "failed", "unfinished", "unfinished", "failed"]

    def test_blocks_have_headings_in_their_order(self):
        table = score_table(
            [
                entry("c", kit.run(), block="control", control=True),
                entry("n", kit.run(), block="native"),
                entry("a", kit.run(), block="common"),
            ]
        )
        assert [row[0] for row in rows(table)] == ["a", "n", "c control"]
        assert table.index("same settings") < table.index("own settings") < table.index("controls")

    def test_differences_have_a_column_where_there_are_some(self):
        plain = score_table([entry("a", kit.run(), differences=())])
        assert "differs" not in plain
        told = score_table([entry("a", kit.run()), entry("b", kit.run(), differences=("x", "y"))])
        assert "differs from the first row" in told and rows(told)[1][-1] == "x; y"

    def test_every_row_has_as_many_cells_as_headings(self):
        table = score_table([entry("a", kit.run(0.9)), entry("b", kit.run(), differences=("x",))])
        widths = {len(row) for row in rows(table)}
        assert widths == {table.partition("</thead>")[0].count("<th ")}


class TestLede:
    def test_what_was_compared(self):
        text = Reader(
            lede(
                [
                    entry("a", kit.run(rule="bptt"), kit.run(seed=1)),
                    entry("b", kit.run(rule="sltt")),
                    entry("c", kit.run(), control=True),
                ]
            )
        ).text
        assert "3 entries (1 control among them) trained by bptt, sltt on digits" in text
        assert "in 4 finished runs. Every run was tested once, on 350 samples" in text

    def test_stages_are_named_in_order(self):
        stages = [{"rule": "ann", "epochs": 3}, {"rule": "sltt", "epochs": 5}]
        assert "trained by ann → sltt on" in Reader(lede([entry("a", kit.run(stages=stages))])).text

    def test_costs_count_within_a_point_of_the_best(self):
        entries = [
            entry("best", kit.run(0.98, size=3)),
            entry("near", kit.run(0.975, size=2)),
            entry("far", kit.run(0.90, size=1)),
            entry("ann", kit.run(0.99, size=0.1, spiking=False)),
            entry("control", kit.run(0.99, size=0.1), control=True),
            entry("failed", kit.run(0.99, size=0.1), error="1 of 2 runs failed"),
        ]
        found = highlights(entries)
        assert [word for _, word, _ in found] == ["best", "near", "near"]
        twice = [replace(one, runs=one.runs * 2) for one in entries if one.label != "failed"]
        assert [word for _, word, _ in highlights(twice)] == ["best", "near", "near", "near"]
        assert found[1] == ("least energy", "near", "1.08 µJ at 97.50 %")

    def test_one_entry_shows_its_own_figures(self):
        found = highlights([entry("a", kit.run(0.9), kit.run(0.92, seed=1))])
        assert (
            found[0] == ("test accuracy", "91.00 [90.00, 92.00] %", "") and found[3][1] == "4.0 s"
        )

    def test_two_data_sets_have_no_winner(self):
        assert highlights([entry("a", kit.run()), entry("b", kit.run(data="mnist"))]) == []
        assert highlights([Entry("r", refusal="no")]) == []

    def test_titles(self):
        assert title_of([entry("a", kit.run()), entry("b", kit.run())]) == "demo"
        many = [entry(f"{n}", kit.run(name=f"n{n}")) for n in range(6)]
        assert title_of(many) == "n0, n1, n2, n3 and 2 more"
        assert title_of([entry("a", kit.run(), origin="fashion")]) == "fashion"
