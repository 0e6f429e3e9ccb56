"""What a reader of the page chooses: models, patterns and targets that are shown, and two models to compare."""

import re
from unittest.mock import patch

import pandas as pd
import pytest

from aqa.reporting.report import report

SHOWN = {"data_set": "mine", "tested": ["VAF", "VA", "V"], "router": False}


@pytest.fixture(scope="module")
def page(tmp_path_factory, write_finished):
    """Two targets with three models, and one of these selected on test."""
    folder = tmp_path_factory.mktemp("choosing")
    for target in ("TES", "PCS"):
        write_finished(folder / "runs" / f"{target}-a", target=target, model="mome", level=0.8, **SHOWN)
        write_finished(folder / "runs" / f"{target}-b", target=target, model="ridge", noise=60, level=0.8, **SHOWN)
        write_finished(folder / "runs" / f"{target}-c", target=target, model="pamfn", split="test", **SHOWN)
    with patch("aqa.reporting.drawn.FIGURE_KINDS", {}):  # one figure for each target, as drawing takes long
        return report([folder / "runs"], folder / "out")


@pytest.fixture
def tab(visit, page):
    """The page, open on a phone in the dark; what goes wrong and what it asks the network for fails the test."""
    tab = visit(page, viewport={"width": 390, "height": 800}, color_scheme="dark")
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    yield tab
    tab.close()
    assert tab.problems == []


def seen(tab, within):
    """The first cells of the visible rows of a table, and the headings of its visible columns."""
    rows = tab.locator(f"{within} tbody tr:visible").evaluate_all(
        "rows => rows.map(r => r.cells[0].textContent.trim())"
    )
    headings = tab.locator(f"{within} thead tr:first-child th:visible").all_inner_texts()
    return rows, [name.strip() for name in headings]


def box(tab, kind, value):
    return tab.locator(f'#choose [data-choose="{kind}"] input[value="{value}"]')


MAIN, PAIRS = 'table[data-section="mine: TES"]', "#mine-TES details:has(summary:text-is('Model against model')) table"


def test_models_patterns_and_targets_are_shown_as_chosen_and_all_come_back(tab):
    everything = [seen(tab, MAIN), seen(tab, PAIRS)]
    assert everything[0][0] == ["mome", "ridge", "pamfn †"]
    box(tab, "model", "ridge").press("Space")  # by keyboard
    box(tab, "pattern", "VA").uncheck()
    assert seen(tab, MAIN) == (
        ["mome", "pamfn †"],
        ["model", "VAF", "V", "mean of incomplete", "seeds", "selected on"],
    )
    assert seen(tab, PAIRS) == ([], everything[1][1])  # the pattern is not among its columns
    coverage = "#mine-TES details:has(summary:text-is('Coverage of intervals')) table"
    assert seen(tab, coverage) == (["mome"], ["model", "level", "VAF", "V", "made from"])
    box(tab, "target", "mine: TES").uncheck()
    assert not tab.locator("#mine-TES").is_visible()
    assert tab.locator("nav a").all_inner_texts().count("TES") == 1
    assert not tab.locator('nav a[href="#mine-TES"]').is_visible()
    assert tab.locator("#choose [role=status]").inner_text() == "Not shown in tables: 1 model, 1 pattern, 1 target."
    box(tab, "pattern", "VAF").uncheck()
    tab.locator("#all").click()
    assert [seen(tab, MAIN), seen(tab, PAIRS)] == everything
    assert tab.locator("#choose [role=status]").inner_text() == ""


def test_what_follows_a_pattern_in_a_table_of_pairs_goes_with_it(tab):
    box(tab, "pattern", "VAF").uncheck()
    assert seen(tab, PAIRS)[1] == ["models", "mean of incomplete", "95 % interval", "verdict"]


def test_two_models_are_compared_on_every_target_both_ways(tab, page):
    table = pd.read_csv(page.parent / "tables.csv").set_index(["target", "model"])
    pairs = (page.parent / "tables.md").read_text().split("## mine: TES")[1]
    low, high = re.search(r"\| mome - ridge \| \S+ \| \[(\S+), (\S+)\]", pairs).groups()

    def cell(row, column):
        return tab.locator(f"#compare tbody tr:nth-child({row}) td:nth-child({column})").inner_text().split("\n")

    names = list(table.index.get_level_values(0).unique())
    tab.locator("#first").select_option("mome")
    tab.locator("#second").select_option("ridge")
    place = names.index("TES") + 1
    one, other = (table.loc[("TES", model), "VAF"] for model in ("mome", "ridge"))
    assert cell(place, 2) == [f"{one - other:+.3f}", f"[{low}, {high}]", f"{one:.3f}, {other:.3f}"]
    tab.locator("#first").select_option("ridge")
    tab.locator("#second").select_option("mome")
    turned = [f"{-float(end):+.3f}" for end in (high, low)]
    assert cell(place, 2) == [f"{other - one:+.3f}", f"[{', '.join(turned)}]", f"{other:.3f}, {one:.3f}"]
    tab.locator("#only").click()
    assert seen(tab, MAIN)[0] == ["mome", "ridge"]
    tab.locator("#first").select_option("pamfn †")  # selected on test: never compared with the others
    assert cell(place, 2)[0] == "-"


def test_the_panels_fit_a_phone_and_paper(tab):
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.emulate_media(media="print")
    assert not tab.locator("#choose").is_visible()
    assert tab.locator("#compare table").is_visible()
    assert not tab.locator("#only").is_visible()


def test_every_figure_has_a_link_to_its_file(page):
    links = re.findall(r'<a href="(figures/[^"]+\.pdf)"', page.read_text())
    assert len(links) == page.read_text().count("<figure")
    assert all((page.parent / link).is_file() for link in links)
