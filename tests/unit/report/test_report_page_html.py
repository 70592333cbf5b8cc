"""The page as text: what it says without its script, and what it never lets through."""

import json
import re
import sys
from pathlib import Path

import pytest
import reportkit as kit
from pagekit import HOSTILE, Reader, entry

from spikeloom.base.errors import ConfigError
from spikeloom.report.columns import COLUMNS
from spikeloom.report.entries import Entry, Unfinished
from spikeloom.report.html.diagram import draw_net
from spikeloom.report.html.sections import (
    environment,
    nets,
    notes,
    settings,
    settling,
    sources,
    warnings,
)
from spikeloom.report.html.settings import compare_settings, environments, flatten
from spikeloom.report.page import figures_lacking, render, write_page

FIGURES = ("curves", "tradeoffs", "rates", "steps", "samples")


@pytest.fixture(scope="module")
def page():
    return Reader(
        render(
            [
                entry("ANN", kit.run(rule="ann", spiking=False)),
                entry("BPTT", kit.run(0.98), kit.run(0.97, seed=1), samples=kit.samples()),
                Entry("IDE", refusal="rules.ide: no feedback."),
            ]
        )
    )


class TestPage:
    def test_sections_in_order(self, page):
        ids = [attrs["id"] for attrs in page.all("section")]
        assert ids == [
            *("warnings", "scores", "curves", "tradeoffs", "rates", "steps", "samples"),
            *("energy", "settings", "environment", "sources", "reading"),
        ]
        links = {attrs["href"] for attrs in page.all("a") if attrs["href"].startswith("#")}
        assert links == {f"#{name}" for name in ids}

    def test_ids_are_used_once(self, page):
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(set(ids)) == len(ids)

    def test_nothing_is_loaded(self, page):
        for tag, attrs in page.tags:
            assert "src" not in attrs, (tag, attrs)
            assert tag != "link" or attrs["href"] == "data:,"
            if tag == "a":
                assert attrs["href"].startswith(("#", "https://doi.org/", "https://arxiv.org/"))
        (policy,) = [one["content"] for one in page.all("meta") if "content" in one][:1]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe-inline" not in policy.split("style-src")[0] and "http" not in policy

    def test_every_column_is_explained(self, page):
        assert all(column.heading.replace("uJ", "µJ") in page.text for column in COLUMNS)
        assert "multiply-accumulates of the backward pass" in page.text and "°" not in page.text

    def test_there_is_one_plotly(self, page):
        assert [len(script) > 1_000_000 for script in page.scripts].count(True) == 1
        assert len(page.scripts) == 4

    def test_without_plotly_the_page_says_what_is_missing(self, monkeypatch):
        """Tables and texts stay; no place is left that a script would have to fill."""
        records = [entry("one", kit.run()), entry("other", kit.run())]
        whole = Reader(render(records))
        monkeypatch.setitem(sys.modules, "plotly", None)
        page = Reader(render(records))
        ids, before = ([one["id"] for one in every.all("section")] for every in (page, whole))
        assert (
            ids
            == [name for name in before if name not in FIGURES][:1]
            + ["figures"]
            + ([name for name in before if name not in FIGURES][1:])
        )
        assert "pip install 'spikeloom[pages]'" in page.text
        assert not page.all("div", class_="plot") and not page.all("button", aria_pressed="false")
        assert max(map(len, page.scripts)) < 50_000
        assert figures_lacking() is not None
        monkeypatch.undo()
        assert figures_lacking() is None

    def test_a_page_of_one_run_compares_nothing(self):
        page = Reader(render([entry("demo", kit.run())]))
        ids = {attrs["id"] for attrs in page.all("section")}
        assert not ids & {"warnings", "tradeoffs", "samples"} and "curves" in ids
        assert "front" not in page.text.split("Learning curves")[0]

    def test_a_page_of_nothing_but_refusals(self):
        page = Reader(render([Entry("a", refusal="no net")]))
        assert "no net" in page.text
        ids = {attrs["id"] for attrs in page.all("section")}
        assert ids == {"warnings", "scores", "settings", "reading"}

    def test_hostile_texts_stay_texts(self):
        record = kit.run(
            name=HOSTILE, net=HOSTILE, data=HOSTILE, rule=HOSTILE, warnings=[HOSTILE], source=""
        )
        record["sources"] = [dict.fromkeys(("authors", "title", "venue", "where"), HOSTILE)]
        record["recipe"] = {HOSTILE: HOSTILE, "a": [HOSTILE]}
        record["environment"] = {HOSTILE: HOSTILE}
        record["costs"]["layers"][0] |= {"site": HOSTILE, "kind": HOSTILE}
        traces = kit.samples(count=1, classes=[HOSTILE] * 10)
        one = entry(HOSTILE, record, samples=traces, differences=(HOSTILE,), block=HOSTILE)
        two = Entry("two", refusal=HOSTILE, recipe={"b": 1})
        page = Reader(render([one, two, Entry(HOSTILE + "3", error=HOSTILE)]))
        assert len(page.scripts) == 4 and not page.all("img")
        assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
        assert page.text.count("alert(1)") > 10
        data = json.loads(page.scripts[0])
        assert data["entries"][0]["label"] == HOSTILE
        assert data["samples"][0]["classes"][0] == HOSTILE


class TestWriting:
    def test_whole_or_not_at_all(self, tmp_path, monkeypatch):
        kit.write_run(tmp_path / "run", kit.run())
        out = tmp_path / "new" / "page.html"
        assert write_page([tmp_path / "run"], out) == out
        before = out.read_bytes()
        assert before.startswith(b"<!DOCTYPE html>") and before.decode().rstrip().endswith(
            "</html>"
        )

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(ConfigError, match="No space left"):
            write_page([tmp_path / "run"], out)
        assert out.read_bytes() == before and len(list(out.parent.iterdir())) == 1

    def test_the_same_runs_give_the_same_page(self, tmp_path):
        kit.write_run(tmp_path / "run", kit.run(), kit.samples())
        first = write_page([tmp_path / "run"], tmp_path / "a.html").read_bytes()
        assert write_page([tmp_path / "run"], tmp_path / "b.html").read_bytes() == first


class TestNets:
    def test_a_net_and_its_relu_twin_are_drawn_once(self):
        html = nets(
            [entry("ANN", kit.run(rule="ann", spiking=False)), entry("BPTT", kit.run())],
        )
        assert html.count('class="net"') == 1 and "LIF" in html and "ANN; BPTT" in html

    def test_nets_of_other_units_are_drawn_apart(self):
        other = kit.run(rule="dsr")
        other["net"] = '{default = {unit = "if"}} ' + other["net"].rpartition("}} ")[2]
        runs = {"ANN": kit.run(rule="ann", spiking=False), "BPTT": kit.run(), "DSR": other}
        html = nets([entry(label, run) for label, run in runs.items()])
        assert html.count('class="net"') == 2
        assert ">ANN; BPTT<" in html and ">DSR<" in html

    def test_a_net_with_feedback_is_drawn_by_itself(self):
        fed = kit.run(rule="ide")
        fed["net"] = '{feedback = [{source = 0, target = 0, layers = "c8"}]} c8 P f10'
        html = nets([entry("BPTT", kit.run()), entry("IDE", fed)])
        assert html.count('class="net"') == 2 and "feedback from 0 to 0" in html

    def test_boxes(self):
        text = Reader(draw_net('c8k5s2 [c8 c8]x3{join = "add"} M3 G f10')).text
        assert "conv 8 · 5×5 / 2" in text and "computed 3 times, shortcut: add" in text
        assert "max pool 3×3" in text and "linear 10 readout" in text

    @pytest.mark.parametrize("text", ["", "no net", "c8 [", "{" * 3000, HOSTILE])
    def test_what_cannot_be_read_is_shown(self, text):
        page = Reader(draw_net(text))
        assert page.text == " ".join(text.split()) and {tag for tag, _ in page.tags} == {
            "div",
            "code",
        }

    def test_many_nets_are_folded(self):
        twins = [kit.run(net=f"c{n} f10", ann_net=f"c{n} f10") for n in range(1, 6)]
        html = nets([entry(str(n), run) for n, run in enumerate(twins)])
        assert "<summary>2 more</summary>" in html


class TestTexts:
    def test_warnings(self):
        warned = kit.run(warnings=["layer 3 is dead."])
        old = kit.run()
        del old["warnings"]
        old["curve"][0]["health"] = [{"site": "1.0.0", "verdict": "saturated"}]
        partial = Unfinished("x", 1, kit.recipe())
        lines = Reader(
            warnings(
                [
                    entry("a", warned, kit.run(seed=1)),
                    entry("old", old),
                    Entry("r", refusal="no"),
                    Entry("u", unfinished=(partial,)),
                ]
            )
        ).text
        assert "warning a layer 3 is dead. (1 of 2 seeds)" in lines
        assert "warning old layer 1.0.0 is saturated." in lines
        assert "refused r no" in lines and "unfinished u seed 1: 0 of 8 epochs" in lines
        assert warnings([entry("fine", kit.run())]) == ""

    def test_settings_that_differ_come_first(self):
        entries = [entry("a", kit.run(rule="bptt")), entry("b", kit.run(rule="sltt", seed=5))]
        found = compare_settings([*entries, Entry("c", refusal="no")])
        assert found.differing == ("stages.0.rule.name",)
        assert found.rows == (("bptt",), ("sltt",), None)
        assert found.shared["stages.0.optimizer.lr"] == "0.005"
        html = settings(entries)
        assert html.index("sltt") < html.index("shared by all")

    def test_settings_of_one_run_and_of_none(self):
        assert "settings of the recipe" in settings([entry("a", kit.run())])
        assert "no settings" in settings([Entry("a", refusal="no")])

    def test_figures_of_rules_and_of_settling(self):
        def told(seed, last):
            one = kit.run(rule="ide", seed=seed)
            for at, epoch in enumerate(one["curve"]):
                epoch["notes"] = {"residual of v": last + len(one["curve"]) - 1 - at}
            gaps = {"residuals": [0.4, 0.2, 0.1, last / 10], "rates": [0.1] * 4}
            one["costs"]["settling"] = gaps
            return one

        entries = [entry("BPTT", kit.run()), entry("IDE", told(0, 1.0), told(1, 3.0))]
        rows = re.findall(r"<tr>(.*?)</tr>", notes(entries))
        epochs = len(entries[1].runs[0].curve)
        assert re.findall(r"<td>(.*?)</td>", rows[-1]) == ["residual of v", f"{epochs + 1}", "2"]
        text = settling(entries)
        assert re.findall(r'<th scope="col">(.*?)</th>', text) == [
            "mean rate a",
            *("t = 1", "t = 2", "t = 4"),
        ]
        (row,) = re.findall(r"<tr>(<th scope=\"row\".*?)</tr>", text)
        assert re.findall(r"<td>(.*?)</td>", row) == ["0.1", "0.4", "0.2", "0.2"]
        assert notes(entries[:1]) == settling(entries[:1]) == ""
        ids = [attrs["id"] for attrs in Reader(render(entries)).all("section")]
        assert ids.index("notes") + 1 == ids.index("settling") == ids.index("settings") - 1

    def test_flat_recipes(self):
        table = {"name": "x", "seed": 1, "a": {"b": [1, 2]}, "c": [{"d": True}], "e": None}
        assert flatten(table) == {"a.b": "[1, 2]", "c.0.d": "true"}

    def test_environments_are_counted(self):
        other = kit.run(environment={"python": "3.13.0"}, processes=2)
        entries = [entry("a", kit.run(), kit.run(seed=1)), entry("b", other)]
        found = environments(entries)
        assert found["python"] == {"3.12.3": 2, "3.13.0": 1} and found["processes"] == {"2": 1}
        assert "3.12.3 (2 runs), 3.13.0 (1 run)" in environment(entries)
        assert environment([Entry("a", refusal="no")]) == ""

    def test_sources_once_with_their_users(self):
        html = sources([entry("a", kit.run()), entry("b, c", kit.run())])
        page = Reader(html)
        assert html.count("<li>") == 1 and "NeurIPS. arXiv:2210.04195 a; b, c" in page.text
        assert page.all("a", href="https://arxiv.org/abs/2210.04195")
        assert "@article{xiao2022," in page.text and "author = {Xiao and others}" in page.text

    def test_older_records_have_a_text(self):
        run = kit.run()
        del run["sources"]
        page = Reader(sources([entry("a", run)]))
        assert "Online Training Through Time" in page.text and "@article" not in page.text

    @pytest.mark.parametrize(
        ("where", "href"),
        [
            ("10.3389/fnins.2020.00653", "https://doi.org/10.3389/fnins.2020.00653"),
            ("https://doi.org/10.1/x", None),
            ("doi:10.1000/a.b.", "https://doi.org/10.1000/a.b"),
            ("arXiv:cs/9901001", "https://arxiv.org/abs/cs/9901001"),
            ("javascript:alert(1)", None),
            ('10.1000/"onclick=1', None),
        ],
    )
    def test_links_lead_to_publications_only(self, where, href):
        run = kit.run(sources=[kit.SOURCE | {"where": where}])
        found = [one["href"] for one in Reader(sources([entry("a", run)])).all("a")]
        assert found == ([href] if href else [])

    def test_keys_of_bibtex_differ(self):
        other = kit.SOURCE | {"title": "Another"}
        third = kit.SOURCE | {"title": "Third"}
        text = Reader(sources([entry("a", kit.run(sources=[kit.SOURCE, other, third]))])).text
        assert re.findall(r"@article{(\w+)", text) == ["xiao2022", "xiao2022b", "xiao2022c"]
