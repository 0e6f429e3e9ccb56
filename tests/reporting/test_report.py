"""A report as its reader has it: the files, and the page in a browser."""

import functools
import json
import math
import os
import re
import xml.etree.ElementTree
from unittest.mock import patch

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml

from aqa.cli import main
from aqa.errors import AqaError
from aqa.evaluation.metrics import fisher_mean
from aqa.reporting.published import published_rows
from aqa.reporting.report import report

PATTERNS = ["VAF", "VA", "VF", "AF", "V", "A", "F"]
PUBLISHED = """
rows:
  - {data_set: fisv, target: TES, label: 'Theirs & co', source: a paper, selected_on: test, srcc: {VAF: 0.999, V: 0.5}}
"""


@pytest.fixture(scope="module", autouse=True)
def _without_the_projects_own_published_numbers():
    """They are on the data sets that the runs here are said to be of; tests/reporting/test_published.py has them."""
    with patch("aqa.reporting.report.published_rows", lambda *path: published_rows(*path) if path else []):
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, write_finished):
    """Two targets of Fis-V and one of RG: three models with two seeds, and one selected on test."""
    folder = tmp_path_factory.mktemp("report") / "runs"
    for data_set, target in (("fisv", "TES"), ("fisv", "PCS"), ("rg", "Ball")):
        for seed in (0, 1):
            about = {"data_set": data_set, "target": target, "seed": seed}
            write_finished(folder / f"{target}-a{seed}", **about)
            write_finished(folder / f"{target}-b{seed}", **about, noise=25, settings=["model.use_generator=false"])
            write_finished(folder / f"{target}-c{seed}", **about, noise=40, model="late_fusion", router=False)
    write_finished(folder / "TES-published", split="test", noise=1)
    (folder.parent / "published.yaml").write_text(PUBLISHED)
    return folder


@pytest.fixture(scope="module")
def page(runs):
    return make_report(runs, runs.parent / "out")


def make_report(runs, out):
    return report([runs], out, published=runs.parent / "published.yaml", title="Tests <of> a report")


def reported(runs, prefix):
    return [json.loads((runs / f"{prefix}{seed}" / "metrics.json").read_text()) for seed in (0, 1)]


def test_every_table_holds_the_numbers_of_the_run_folders(page, runs):
    table = pd.read_csv(page.parent / "tables.csv").set_index(["data_set", "target", "model"]).sort_index()
    for target, data_set in (("TES", "fisv"), ("PCS", "fisv"), ("Ball", "rg")):
        for model, prefix in (("mcmoe", "a"), ("mcmoe, use_generator=false", "b"), ("late_fusion", "c")):
            found = reported(runs, f"{target}-{prefix}")
            row = table.loc[(data_set, target, model)]
            row = row[row["selected_on"] == "valid"].iloc[0] if isinstance(row, pd.DataFrame) else row
            for pattern in PATTERNS:
                expected = fisher_mean(m["patterns"][pattern]["srcc"] for m in found)
                assert row[pattern] == pytest.approx(expected)
                assert row[f"{pattern}_n"] == 40
            assert row["average"] == pytest.approx(fisher_mean(m["average_incomplete"]["srcc"] for m in found))
            for text in ("tables.md", "tables.tex"):
                assert f"{row['VAF']:.3f}" in (page.parent / text).read_text()
    whole = table.reset_index().query("data_set == 'fisv' and target == 'mean of 2 targets'")
    assert set(whole["model"]) == {"mcmoe", "mcmoe, use_generator=false", "late_fusion"}


def test_what_was_selected_on_test_is_marked_everywhere_and_never_the_best(page):
    table = pd.read_csv(page.parent / "tables.csv")
    on_test = table[table["selected_on"] == "test"]
    assert set(on_test["source"]) == {"aqa", "a paper"}
    assert not on_test["VAF_best"].fillna(False).any()
    markdown = (page.parent / "tables.md").read_text()
    assert re.search(r"\| mcmoe † \|.*\| test: SRCC 0.500 \(complete\) \|", markdown)
    assert re.search(r"\| \*Theirs & co †\* \|.*\| test \|", markdown)
    assert "selected on the test split" in markdown
    latex = (page.parent / "tables.tex").read_text()
    assert r"mcmoe $\dagger$" in latex
    assert r"Theirs \& co $\dagger$" in latex


def test_latex_is_whole(page):
    for name in ("tables.tex", "all_targets.tex"):
        latex = (page.parent / name).read_text()
        for begin, end in ((r"\begin{tabular}", r"\end{tabular}"), (r"\toprule", r"\bottomrule"), ("{", "}")):
            assert latex.count(begin) == latex.count(end) > 0
        for body in re.findall(r"\\midrule(.*?)\\bottomrule", latex, flags=re.DOTALL):
            lines = [line.strip() for line in body.replace(r"\midrule", "").splitlines() if line.strip()]
            assert all(line.endswith(r"\\") for line in lines)
            assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines if "multicolumn" not in line}) == 1
        assert not re.search(r"(?<!\\)[_#]", latex.split("\n\n", 1)[1])
        assert latex.count(r"\resizebox{\ifdim\width>\textwidth") == latex.count(r"\begin{table*}")


def test_one_table_has_every_target_and_data_set(page):
    latex = (page.parent / "all_targets.tex").read_text()
    assert latex.count(r"\begin{table*}") == 1
    assert r" & \multicolumn{1}{c}{rg} & \multicolumn{3}{c}{fisv} \\" in latex
    assert r"\raggedright Model & Ball & mean & PCS & TES \\" in latex
    for line in ("Nothing missing", "Mean of incomplete"):
        assert line in latex
    on_test = [line for line in latex.splitlines() if line.startswith(r"\raggedright mcmoe $\dagger$")]
    assert len(on_test) == 2
    assert all(line.count("& -") == 3 for line in on_test)


def test_differences_errors_and_settings_are_in_the_tables_for_papers(page):
    markdown, latex = ((page.parent / name).read_text() for name in ("tables.md", "tables.tex"))
    assert re.search(
        r"\| mcmoe - mcmoe, use_generator=false \| \+0\.\d{3} \| .* \| (higher|not told apart) \|", markdown
    )
    for title in ("Model against model", "MSE and relative L2"):
        assert f"### {title}" in markdown
        assert title in latex
    for setting in (
        "train.epochs 100",
        "train.batch_size 32",
        "train.learning_rate 0.0002",
        "missing.train random_subset",
    ):
        assert setting in markdown
        assert setting in page.read_text()


def test_every_figure_is_a_file_too(page):
    names = {path.name for path in (page.parent / "figures").iterdir()}
    for kind in ("patterns", "missing", "worth", "predicted", "router"):
        assert {f"{kind}-fisv-TES.svg", f"{kind}-fisv-TES.pdf"} <= names
    assert "patterns-fisv-mean-of-2-targets.svg" in names
    assert any(name.startswith("ranks-all-data-sets") for name in names)
    svg = (page.parent / "figures" / "patterns-fisv-TES.svg").read_text()
    assert "currentColor" not in svg
    assert "mcmoe, use_generator=false" in svg
    assert (page.parent / "figures" / "patterns-fisv-TES.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("targets", [["x" * 190, "x" * 189 + "y"], ["**b**", "b"], ["T", "t"], ["a b", "a-b"]])
def test_figures_of_long_and_of_similar_names_are_all_kept(finished, tmp_path, targets):
    for place, target in enumerate(targets):
        finished(f"run{place}", target=target, router=False)
    page = report([tmp_path / "runs"], tmp_path / "out")
    names = [path.name for path in (page.parent / "figures").iterdir()]
    assert len([name for name in names if name.startswith("patterns-") and name.endswith(".svg")]) == 3  # and the mean
    assert len({name.lower() for name in names}) == len(names)
    assert max(map(len, names)) < 90
    anchors = re.findall(r'<details class="target" id="([^"]+)"', page.read_text())
    assert len(set(anchors)) == 2


def test_nothing_is_overwritten_unasked(finished, tmp_path, capsys):
    folder = finished("a")
    page = report([folder], tmp_path / "out", title="first")
    (page.parent / "mine.txt").write_text("kept")
    before = page.read_bytes()
    with pytest.raises(AqaError, match="--overwrite"):
        report([folder], page.parent)
    assert page.read_bytes() == before
    assert main(["report", str(folder), "--out", str(page.parent), "--overwrite"]) == 0
    assert str(page) in capsys.readouterr().err
    assert (page.parent / "mine.txt").read_text() == "kept"
    assert page.read_bytes() != before


def test_one_run_has_a_report_and_none_is_one_clear_line(finished, tmp_path, capsys):
    folder = finished("a", absent=5)
    assert main(["report", str(folder), "--out", str(tmp_path / "one")]) == 0
    assert "| n | 40 | 40 | 40 | 40 | 40 | 40 | 35 |" in (tmp_path / "one" / "tables.md").read_text()
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty"), "--out", str(tmp_path / "two")]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


def test_names_from_outside_are_escaped(finished, tmp_path):
    finished("a", target="<script>alert(1)</script>", data_set="a&b", settings=["model.note='</style><b>'"])
    text = report([tmp_path / "runs"], tmp_path / "out").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_many_runs_are_read_by_several_processes_to_the_same_numbers(page, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("aqa.reporting.processes.RUNS_EACH", 1)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    again = make_report(runs, tmp_path / "again")
    for name in ("tables.md", "tables.tex", "tables.csv", "index.html"):
        assert (again.parent / name).read_bytes() == (page.parent / name).read_bytes()


def test_without_pdf_there_is_all_else(finished, tmp_path):
    run, link = str(finished("a")), re.compile(r' <a href="figures/[^"]+\.pdf".*?</a>')
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert main(["report", run, "--out", str(whole)]) == 0
    assert main(["report", run, "--out", str(part), "--no-pdf"]) == 0
    text = (whole / "index.html").read_text()
    assert link.search(text)
    assert (part / "index.html").read_text() == link.sub("", text)
    names, all_names = ({file.name for file in (each / "figures").iterdir()} for each in (part, whole))
    assert names == {name for name in all_names if name.endswith(".svg")}


SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = "\"><img src=x onerror='window.hacked = 1'>"
SVG = "</text></svg><svg onload=window.hacked=1>"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, write_finished):
    """The page of a report of two runs whose every name is a script."""
    folder = tmp_path_factory.mktemp("hostile")
    names = {"data_set": f"set {SCRIPT}", "target": f"target {SVG}"}
    names |= {"ids": [f"{i}{SCRIPT}{IMAGE}" for i in range(40)]}
    write_finished(folder / "runs" / "<img src=x onerror=alert(1)>", **names, model=f"model {IMAGE}")
    write_finished(folder / "runs" / "other", **names, model=f"javascript:{SCRIPT} $\\frac{{$", router=False)
    page = report([folder / "runs"], folder / "out", title=f"{SCRIPT}{IMAGE}", published=_published(folder, names))
    return page, names


def _published(folder, names):
    row = {"data_set": names["data_set"], "target": names["target"], "label": f"theirs {SVG}", "source": IMAGE}
    content = {"rows": [{**row, "selected_on": "test", "note": SCRIPT, "srcc": {"VAF": 0.9}}]}
    (folder / "published.yaml").write_text(yaml.safe_dump(content))
    return folder / "published.yaml"


def test_every_name_is_shown_and_none_is_run(hostile, visit):
    page, names = hostile
    tab = visit(page)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.locator("thead button").first.click()  # the page's own script runs
    assert tab.locator("th[aria-sort]").count() == 1
    assert tab.evaluate("window.hacked") is None
    assert tab.problems == []
    assert tab.title() == f"{SCRIPT}{IMAGE}"
    shown = tab.evaluate("document.body.textContent")
    for name in (
        names["data_set"],
        names["target"],
        f"model {IMAGE}",
        f"theirs {SVG}",
        "/<img src=x onerror=alert(1)>",
    ):
        assert name in shown
    assert tab.locator("script").count() == 1
    assert tab.locator("img").count() == 0


def test_the_policy_stops_a_script_that_was_not_escaped(page, browser, tmp_path):
    injected = page.read_text().replace("<main>", f"<main>{SCRIPT}<img src=x onerror='window.hacked = 1'>")
    (tmp_path / "index.html").write_text(injected)
    tab = browser.new_page()
    tab.goto((tmp_path / "index.html").as_uri())
    assert tab.locator("img").count() == 1
    assert tab.evaluate("window.hacked") is None


def test_names_are_escaped_in_tables_for_papers_and_in_figures(hostile):
    folder = hostile[0].parent
    for tag in ("<script", "<img", "<svg"):
        assert not re.search(rf"(?<!\\){tag}", (folder / "tables.md").read_text())
    for figure in (folder / "figures").glob("*.svg"):
        root = xml.etree.ElementTree.parse(figure).getroot()
        assert not [
            element for element in root.iter() if element.tag.endswith(("script", "}img")) or element.get("onload")
        ]


def test_control_characters_of_a_strangers_run_are_shown_escaped(finished, tmp_path):
    escape, half = "\x1b[2J", "\udc80"
    folder = finished("a", metrics={"data_set": f"set{escape}", "target": f"t{escape}\u202e"})
    predictions = folder / "predictions.csv"
    predictions.write_text(predictions.read_text().replace(",TES,", f",t{escape}\u202e,"))
    os.rename(tmp_path / "runs" / "a", tmp_path / "runs" / f"a{escape}{half}")
    page = report([tmp_path / "runs"], tmp_path / "out")
    for path in (page, page.parent / "tables.md", page.parent / "tables.csv", page.parent / "tables.tex"):
        text = path.read_text()
        assert not set(escape[0] + half + "\u202e") & set(text)
    assert r"set\x1b[2J" in page.read_text()
    assert r"a\x1b[2J\udc80" in page.read_text()


@pytest.fixture
def opened(visit, page):
    """A function that opens the page and records what goes wrong, and what it asks the network for."""
    return functools.partial(visit, page)


def cells(tab, section):
    """SRCC by model, whether it is selected on test, and column, as the page has them."""
    return {
        (row["model"], row["test"], column): value
        for row in tab.evaluate(
            """title => [...document.querySelectorAll(`table[data-section="${title}"] tr[data-model]`)].map(row => ({
                model: row.dataset.model, test: row.textContent.includes("TEST"),
                cells: [...row.querySelectorAll("td[data-column]")].map(c => [c.dataset.column, +c.dataset.value,
                                                                             c.firstChild.textContent])}))""",
            section,
        )
        for column, value, text in row["cells"]
        if float(text) == pytest.approx(value, abs=6e-4)
    }


def test_the_page_opens_without_errors_or_network_and_holds_the_numbers(opened, runs):
    tab = opened()
    assert tab.title() == "Tests <of> a report"
    for section, target in (("fisv: TES", "TES"), ("fisv: PCS", "PCS"), ("rg: Ball", "Ball")):
        found = cells(tab, section)
        for model, prefix in (("mcmoe", "a"), ("late_fusion", "c")):
            runs_of = reported(runs, f"{target}-{prefix}")
            for pattern in PATTERNS:
                expected = fisher_mean(m["patterns"][pattern]["srcc"] for m in runs_of)
                assert found[model, False, pattern] == pytest.approx(expected)
    assert ("mcmoe", True, "VAF") in cells(tab, "fisv: TES")
    assert tab.locator("figure svg").count() == len(list((runs.parent / "out" / "figures").glob("*.svg")))
    assert tab.problems == []


def test_tables_sort_and_groups_stay_apart(opened):
    tab = opened()
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    table = tab.locator('table[data-section="fisv: TES"]')

    def column():
        return [
            [float(v) for v in body]
            for body in table.evaluate(
                "t => [...t.tBodies].map(b => [...b.rows].map(r => r.cells[1].dataset.value ?? r.cells[1].textContent))"
            )
        ]

    before = column()
    assert [len(body) for body in before] == [3, 1, 1]  # selected on valid, on test, published
    button = table.locator("thead button").nth(1)
    button.click()
    assert column() == [sorted(body, reverse=True) for body in before]
    button.press("Enter")
    assert column() == [sorted(body) for body in before]
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "ascending"
    table.locator("thead button").nth(0).click()
    names = table.locator("tbody").nth(0).locator("th").all_inner_texts()
    assert names == sorted(names, reverse=True)
    assert tab.problems == []


def test_the_page_fits_a_phone_in_light_and_dark(opened):
    papers = set()
    for scheme in ("light", "dark"):
        tab = opened(viewport={"width": 360, "height": 740}, color_scheme=scheme)
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        colours = tab.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
                      getComputedStyle(document.querySelector("figure svg text")).fill]"""
        )
        paper, ink, drawn = (np.mean([int(v) for v in re.findall(r"\d+", colour)[:3]]) for colour in colours)
        assert math.fabs(paper - ink) > 128
        assert math.fabs(paper - drawn) > 128  # the figures' ink follows the page's
        papers.add(paper > 128)
        assert tab.problems == []
    assert papers == {True, False}


def test_a_link_to_a_folded_section_unfolds_it(opened):
    tab = opened()
    section = tab.locator("#fisv-TES")
    assert section.get_attribute("open") is None
    tab.locator('nav a[href="#fisv-TES"]').click()
    tab.wait_for_function("document.getElementById('fisv-TES').open")


def test_the_printed_page_keeps_every_column_and_opens_every_section(opened):
    tab = opened(viewport={"width": 1040, "height": 740})  # an A4 page on its side
    tab.emulate_media(media="print", color_scheme="dark")  # paper is white whatever the screen is
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(29, 36, 48)"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    assert not tab.locator("nav, #choose, #only").filter(visible=True).count()
    beyond = """() => [...document.querySelectorAll("table, figure svg")].filter(
        each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"""
    assert tab.evaluate(beyond) == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details:not([open])").count() > 0


def test_captions_are_readable_on_a_phone(opened):
    tab = opened(viewport={"width": 390, "height": 740})
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    right = """() => Math.max(...[...document.querySelectorAll("caption span, figcaption")].map(
        each => each.getBoundingClientRect().right))"""
    assert tab.evaluate(right) <= 390
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_value_that_selected_stands_beside_the_test_values(opened):
    tab = opened()
    row = tab.locator('table[data-section="fisv: TES"] tr[data-model="late_fusion"]')
    assert "SRCC 0.500 (complete)" in row.text_content()
