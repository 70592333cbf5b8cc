"""What a comparison is to run: files, rules on the command line, several files at once."""

import re

import pytest

from comparekit import BASE, ENTRIES, HEAD, loads, row, written
from spikeloom.base.errors import ConfigError
from spikeloom.compare.plan import (
    LONGEST_NAME,
    Plan,
    Row,
    merge,
    name_of,
    plan_rules,
    read_comparison,
)
from spikeloom.compare.tuning import Tune

pytestmark = pytest.mark.usefixtures(loads.__name__)


class TestReading:
    def test_entries_change_the_base(self, tmp_path):
        plan = read_comparison(written(tmp_path, HEAD + ENTRIES))
        assert (plan.name, plan.seeds) == ("two", (3, 1))
        ann, sltt = plan.rows
        assert (ann.slug, sltt.slug, ann.control, sltt.control) == (
            "ann",
            "sltt-k-k-1",
            False,
            True,
        )
        assert ann.recipe.last.rule.name == "ann" and ann.recipe.net.gain is None
        assert sltt.recipe.last.rule.options == {"k_steps": 1} and sltt.recipe.net.gain == 2.0
        assert ann.recipe.last.epochs == sltt.recipe.last.epochs == 1

    def test_a_recipe_is_a_comparison_of_one(self, tmp_path):
        text = "name = 'r'\nseed = 4\nnet = 'c4 P f3'\ndata = 'tiny'\n[[stages]]\nrule = 'bptt'"
        plan = read_comparison(written(tmp_path, text))
        assert (plan.name, plan.seeds, len(plan.rows)) == ("r", (4,), 1)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (HEAD, "entries: expected a value, got none; add the key."),
            (HEAD + "[[entries]]", "entries.0.label: expected a value, got none"),
            (HEAD + "[[entries]]\nlabel = ''", "expected a text that is not empty"),
            (HEAD + "[[entries]]\nlabl = 'a'", "entries.0.labl: unknown key 'labl'; did you mean"),
            (HEAD + "[[entries]]\nlabel = 'a'\nset = 3", "entries.0.set: expected a table, got 3"),
            (
                HEAD + "[[entries]]\nlabel = 'a'\n[[entries]]\nlabel = 'A!'",
                "expected labels that differ in letters or digits, got 'a' and 'A!'; rename one.",
            ),
            (
                HEAD + "[[entries]]\nlabel = 'x'\nset = { 'stages.1.rule' = 'ann' }",
                "entries.0 ('x'): expected an index from 0 to 0 in 'stages.1.rule', got '1'",
            ),
            (
                HEAD + "[[entries]]\nlabel = 'x'\nset = { 'stages.0.rul' = 'ann' }",
                "entries.0 ('x'): stages.0.rul: unknown key 'rul'; did you mean 'rule'?",
            ),
            (
                HEAD + "[[entries]]\nlabel = 'x'\nset = { 'name' = '../x' }",
                "entries.0 ('x'): name: expected letters",
            ),
            (
                (HEAD + ENTRIES).replace("[3, 1]", "[3, 3]"),
                "expected seeds that differ, got [3, 3]",
            ),
            (
                (HEAD + ENTRIES).replace('data = "tiny"', 'data = "tiny"\ndevices = 2'),
                "expected devices = 1 in every row, since a comparison is one process, got 2 in "
                "'ANN'; leave it out",
            ),
            ((HEAD + ENTRIES).replace("[3, 1]", "[]"), "seeds: expected 1 seed or more"),
            ((HEAD + ENTRIES).replace("[3, 1]", "[-1]"), "seeds.0: expected 0 or more, got -1"),
            ((HEAD + ENTRIES).replace("[3, 1]", "['a']"), "seeds.0: expected a whole number"),
            ((HEAD + ENTRIES).replace("[3, 1]", "3"), "seeds: expected a list, got 3"),
            ("x = 1\n" + HEAD + ENTRIES, "c.toml: x: unknown key 'x'; known: base, entries"),
            ("entries = [{ label = 'a' }]", "name: expected a value"),
        ],
    )
    def test_refused_with_the_place(self, tmp_path, text, message):
        path = written(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            read_comparison(path)
        assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


class TestPlanning:
    def test_rules_with_options(self):
        plan = plan_rules(
            BASE, "ann, sltt:k_steps=1,sltt:given=[0, 1],ottt:update=online", (0,), "x"
        )
        assert [row.label for row in plan.rows] == [
            "ann",
            "sltt:k_steps=1",
            "sltt:given=[0, 1]",
            "ottt:update=online",
        ]
        assert [row.recipe.last.rule.options for row in plan.rows] == [
            {},
            {"k_steps": 1},
            {"given": [0, 1]},
            {"update": "online"},
        ]

    @pytest.mark.parametrize(
        ("rules", "message"),
        [
            ("ann,", "--rules: expected names separated by commas, got 'ann,' with an empty name"),
            ("", "--rules: expected names separated by commas"),
            ("slt", "--rules slt: stages.0.rule: unknown learning rule 'slt'; did you mean 'sltt'"),
            ("sltt:k=1", "unknown key 'k'; known: given, k_steps."),
            ("sltt:k_steps", "expected options as name:key=value, got 'k_steps'"),
            ("sltt:=1", "expected options as name:key=value, got '=1'"),
            ("sltt:k_steps=x", "k_steps: expected a whole number, got 'x'"),
            ("ann,ann", "expected labels that differ in letters or digits, got 'ann' and 'ann'"),
        ],
    )
    def test_refused(self, rules, message):
        with pytest.raises(ConfigError) as caught:
            plan_rules(BASE, rules, (0,), "x")
        assert message in str(caught.value)

    def test_a_refused_data_set_names_the_row(self):
        other = Row("other", row("x").recipe.model_copy(update={"data": row("y").recipe.head}))
        with pytest.raises(ConfigError, match="expected data 'tiny' in every row, got 'softmax'"):
            Plan("x", (row("one"), other), (0,))


class TestWholeRecipes:
    OTHER = (
        "name = 'o'\nseed = 7\nnet = 'f3'\ndata = 'tiny'\n[[stages]]\nrule = 'ann'\nepochs = 9\n"
    )

    def file(self, folder, entry, other=OTHER):
        (folder / "sub").mkdir()
        (folder / "sub" / "o.toml").write_text(other)
        return written(folder, HEAD + "[[entries]]\nlabel = 'base'\n[[entries]]\n" + entry)

    def test_an_entry_may_bring_its_own(self, tmp_path):
        path = self.file(tmp_path, "label = 'own'\nrecipe = 'sub/o.toml'\nset = {'net' = 'c2 f3'}")
        plan = read_comparison(path)
        own = plan.rows[1].recipe
        assert (own.last.rule.name, own.last.epochs, own.net.text) == ("ann", 9, "c2 f3")
        assert own.name == plan.name == "two" and plan.seeds == (3, 1)
        assert [plan.block(one) for one in plan.rows] == ["common", "native"]
        assert [one.text for one in plan.differences(plan.rows[1])][:2] == [
            "net.text = c2 f3",
            "stages.0.rule = ann",
        ]

    def test_a_file_of_such_entries_needs_no_base(self, tmp_path):
        self.file(tmp_path, "label = 'x'")
        path = written(
            tmp_path, "name = 'n'\n[[entries]]\nlabel = 'own'\nrecipe = 'sub/o.toml'\nset = {}"
        )
        assert read_comparison(path).rows[0].recipe.last.epochs == 9

    @pytest.mark.parametrize(
        ("entry", "other", "message"),
        [
            ("recipe = 'none.toml'", OTHER, "recipe: {folder}/none.toml: expected a recipe file"),
            ("recipe = 'sub/o.toml'", HEAD + ENTRIES, "got a comparison with entries"),
            (
                "recipe = 'sub/o.toml'",
                OTHER.replace("tiny", "digits").replace("f3", "f10"),
                "two: expected data 'tiny' in every row, got 'digits' in 'own'; compare on one",
            ),
            ("recipe = ''", OTHER, "entries.1.recipe: expected a text that is not empty"),
        ],
    )
    def test_refused_with_the_place(self, tmp_path, entry, other, message):
        path = self.file(tmp_path, f"label = 'own'\n{entry}", other)
        with pytest.raises(ConfigError) as caught:
            read_comparison(path)
        assert message.format(folder=tmp_path) in str(caught.value)

    def test_neither_base_nor_recipe(self, tmp_path):
        path = written(tmp_path, "name = 'n'\n[[entries]]\nlabel = 'a'")
        with pytest.raises(ConfigError, match="entries.0 .'a'.: expected a recipe file or a base"):
            read_comparison(path)


class TestBlocks:
    def plan(self, *rows):
        return Plan("x", rows, (0,))

    def test_the_rule_and_its_options_keep_a_row_in_common(self):
        sltt = row("SLTT-K", {"stages.0.rule": {"name": "sltt", "k_steps": 1}})
        plan = self.plan(row("ANN", {"stages.0.rule": "ann"}), sltt)
        assert plan.block(sltt) == "common"
        assert [one.text for one in plan.differences(sltt)] == [
            "stages.0.rule = sltt",
            "stages.0.rule.k_steps = 1",
        ]

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"stages.0.optimizer.lr": 0.5}, "stages.0.optimizer.lr = 0.5"),
            ({"stages.0.steps": 3}, "stages.0.steps = 3"),
            ({"net": "c4 P f3", "net.norm": "weight"}, "net.norm = weight"),
            ({"head": "stochmax"}, "head = stochmax"),
            ({"encoder": "poisson"}, "encoder = poisson"),
            ({"stages.0.freeze_body": True}, "stages.0.freeze_body = true"),
            ({"data": {"name": "tiny", "train_size": 9}}, "data.train_size = 9"),
        ],
    )
    def test_anything_else_moves_it_out(self, changes, text):
        other = row("other", changes | {"stages.0.rule": "sltt"})
        plan = self.plan(row("first"), other)
        assert plan.block(other) == "native"
        assert {one.text for one in plan.differences(other)} == {"stages.0.rule = sltt", text}

    def test_what_is_absent_is_said(self):
        first = row("K", {"stages.0.rule": {"name": "sltt", "k_steps": 1}})
        other = row("all", {"stages.0.rule": "sltt"})
        plan = self.plan(first, other)
        assert [one.text for one in plan.differences(other)] == [
            "stages.0.rule.k_steps not set (there 1)"
        ]

    def test_two_ways_to_write_one_net_do_not_differ(self):
        same = row("same", {"net": {"text": "c4  P f3", "bias": True}, "encoder": "constant"})
        plan = self.plan(row("first"), same)
        assert plan.differences(same) == [] and plan.block(same) == "common"

    def test_controls_are_a_block_and_never_the_first(self):
        control, first = row("C", {"stages.0.steps": 5}, control=True), row("A")
        plan = self.plan(control, first)
        assert plan.first is first and plan.block(control) == "control"
        assert plan.block(first) == "common"
        assert self.plan(control).first is control

    def test_tuned_values_do_not_move_a_row(self):
        other = row("other", {"stages.0.optimizer.lr": 0.5})
        tune = Tune(values={"stages.0.optimizer.lr": [0.1, 0.2]})
        plan = Plan("x", (row("first"), other), (0,), tune)
        assert plan.differences(other) == [] and plan.block(other) == "common"


class TestMerging:
    def test_the_first_row_of_the_first_file_leads(self):
        one, other = Plan("one", (row("a"),), (1, 2)), Plan("other", (row("b"),), (1, 2))
        plan = merge([one, other])
        assert (plan.name, plan.seeds, plan.first.label) == ("one", (1, 2), "a")
        assert [each.label for each in plan.rows] == ["a", "b"]

    def test_one_row_in_two_files_counts_once(self):
        one, other = Plan("one", (row("a"),), (0,)), Plan("other", (row("a"), row("b")), (0,))
        assert [each.label for each in merge([one, other]).rows] == ["a", "b"]
        clash = Plan("other", (row("a", {"stages.0.steps": 5}),), (0,))
        with pytest.raises(ConfigError, match="expected labels that differ"):
            merge([one, clash])

    def test_a_single_recipe_follows(self):
        tune = Tune(values={"stages.0.batch": [10, 20]})
        files = [Plan("r", (row("r"),), (9,), alone=True), Plan("c", (row("a"),), (0, 1), tune)]
        plan = merge(files)
        assert (plan.name, plan.seeds, plan.tune) == ("r", (0, 1), tune)
        assert merge(files[:1]).seeds == (9,)

    def test_seeds_and_tuning_must_agree(self):
        one = Plan("one", (row("a"),), (0,))
        with pytest.raises(ConfigError, match=r"same seeds, got \[0\], \[1\]; pass --seeds"):
            merge([one, Plan("other", (row("b"),), (1,))])
        assert merge([one, Plan("other", (row("b"),), (1,))], (4,)).seeds == (4,)
        tuned = Plan("other", (row("b"),), (0,), Tune(values={"stages.0.batch": [10]}))
        with pytest.raises(ConfigError, match=r"same \[tune\]"):
            merge([one, tuned])


class TestNames:
    def test_after_what_is_compared(self):
        assert name_of("digits", "c16 P f10", "ann, sltt:k_steps=2") == (
            "digits_c16-P-f10_ann-sltt.k_steps-2"
        )
        assert name_of("mnist", "vgg5", "ann", ["stages.0.epochs=3"]) == (
            "mnist_vgg5_ann_stages.0.epochs-3"
        )

    def test_blanks_are_no_difference(self):
        assert name_of("mnist", "c16  P f10", "ann,bptt") == name_of(
            "mnist", "c16 P f10", " ann , bptt"
        )

    def test_no_two_of_many_share_a_name(self):
        nets = ["c16 f10", "[c16] f10", "[c16 f10]", "c1 6f10", "c16{gain=2.0} f10", "x" * 300]
        nets += ["c16 f10 " + "P " * 90, "c16 f10 " + "P " * 91, "C16 F10", "\u00e9"]
        names = {
            name_of(data, net, rules, changes)
            for data in ("digits", "mnist")
            for net in nets
            for rules in ("ann", "bptt", "ann,bptt", "sltt:given=[0,1]", "sltt:given=[01]")
            for changes in ((), ("seed=1",), ("seed=2",))
        }
        assert len(names) == 2 * len(nets) * 5 * 3
        for name in names:
            assert len(name) <= LONGEST_NAME and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)

    def test_a_checksum_only_where_something_is_cut(self):
        assert re.fullmatch(
            r"mnist_c16x2-f10_ann-[0-9a-f]{8}", name_of("mnist", "[c16]x2 f10", "ann")
        )
