"""From a dot of a report, or a line of its tables, to why the video has its score."""

import os
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from aqa.reporting.charts import predicted_against_true
from aqa.reporting.explained_videos import explained_videos, scores_digest, video_anchor
from aqa.reporting.explanation import explanation_page
from aqa.reporting.report import report
from aqa.runs.explained import Explained, ExplanationTables
from aqa.runs.folder import RunFolder
from tests.reporting.conftest import N, truth_of

IDS = ["plain", "two words", "a/b", 'it\'s "quoted"', "<img src=x onerror='window.hacked = 1'>", "视频", "50%#?&"]
IDS += [f"video{i}" for i in range(len(IDS), N)]
LEFT_OUT = "video30"  # it is not on the page of explanations


def explanation(ids):
    """The tables of videos of which nothing but the score is known."""
    one = dict.fromkeys(("score", "low", "high", "label", "error", "width", "training_mean", "moments"), 1.0)
    videos = pd.DataFrame({"id": ids, "visible": "VAF", **one, "disagreement": np.nan})
    streams = pd.DataFrame({"id": ids, "modality": "audio", "shapley": 0.5})
    what_if = pd.DataFrame({"id": ids, "visible": "VAF", "score": 1.0, "low": 0.0, "high": 2.0})
    nothing = pd.DataFrame()
    about = {"run": "run", "model": "ridge", "target": "TES", "low": 0.0, "high": 40.0, "level": 0.8, "beside": 0}
    tables = ExplanationTables(videos, streams, nothing, what_if, nothing, nothing, nothing, nothing)
    return Explained(tables, about, [])


def write_page(run, ids, tested):
    (run / "explained").mkdir()
    (run / "explained" / "index.html").write_text(explanation_page(explanation(ids), tested), encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory, write_finished):
    """A report of a run that is explained, but for one video, of one whose page is of other scores, and of one without.

    The folder of the first has a name with a space and a sign that links give a meaning.
    """
    folder = tmp_path_factory.mktemp("linked")
    about = {"ids": IDS, "level": 0.8, "router": False, "tested": ["VAF", "VA"]}
    half = np.where(np.arange(N) < 7, 12.0, np.linspace(9, 5, N))
    first = write_finished(folder / "runs" / "mome #1", model="mome", half=half, **about)
    other = write_finished(folder / "runs" / "ridge", model="ridge", half=half, **about)
    write_finished(folder / "runs" / "pamfn", model="pamfn", half=half, **about)
    write_page(first, [one for one in IDS if one != LEFT_OUT], scores_digest(RunFolder(first)))
    write_page(other, IDS, "0" * 16)
    with patch("aqa.reporting.drawn.FIGURE_KINDS", {"predicted": (predicted_against_true, "predicted")}):
        return report([folder / "runs"], folder / "out")


@pytest.fixture
def tab(visit, page):
    """The page, on a phone in the dark, all of it unfolded."""
    tab = visit(page, viewport={"width": 390, "height": 800}, color_scheme="dark")
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    yield tab
    tab.close()


def test_each_dot_of_an_explained_video_leads_to_it(tab, browser):
    assert tab.locator("a.dot").count() == N - 1
    titles = tab.locator("a.dot title").evaluate_all("all => all.map(one => one.textContent.split(': predicted')[0])")
    assert sorted(titles) == sorted(one for one in IDS if one != LEFT_OUT)
    assert f"label {truth_of('TES')[0]:.3f}" in tab.locator("a.dot title").first.text_content()
    assert tab.problems == []
    for video in IDS[:7]:
        place = titles.index(video)
        link = tab.locator("a.dot").nth(place).get_attribute("href")
        assert link.startswith("../runs/mome%20%231/explained/index.html#v")
        there = browser.new_page()
        there.goto(tab.evaluate("link => new URL(link, location).href", link))
        there.wait_for_function("document.querySelector('details.video[open]')")
        assert there.locator("details.video[open] summary").text_content().startswith(video)
        assert there.evaluate("window.hacked") is None
        there.close()


def test_a_dot_is_followed_by_mouse_and_by_keyboard(tab):
    stops = tab.locator('a.dot[tabindex="0"]')
    assert stops.count() == 1  # of the one panel that has links
    stops.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("End")
    tab.keyboard.press("ArrowLeft")
    ids = [one for one in IDS if one != LEFT_OUT]
    labels = dict(zip(IDS, truth_of("TES"), strict=True))
    last_but_one = sorted(ids, key=labels.get)[-2]
    assert tab.evaluate("document.activeElement.textContent.trim()").startswith(f"{last_but_one}: predicted")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**/explained/index.html#{video_anchor(last_but_one)}")


def test_the_table_of_widest_intervals_leads_there_too(tab):
    links = tab.locator("td a[href*='explained/']")
    assert set(links.all_inner_texts()) >= set(IDS[:7])
    links.nth(IDS.index("a/b")).click()
    tab.wait_for_url(f"**/explained/index.html#{video_anchor('a/b')}")


def test_models_without_an_explanation_name_the_command(tab, page):
    words = tab.locator(".lacking").inner_text()
    assert "No explanation of single videos yet: pamfn." in words
    assert "The explanation beside the run is of other scores: ridge." in words
    runs = page.parent.parent / "runs"
    assert f"aqa explain {runs / 'pamfn'}\n" in words
    assert f"aqa explain {runs / 'ridge'} --overwrite" in words
    tab.emulate_media(media="print")
    assert not tab.locator(".lacking").is_visible()


def test_files_of_figures_have_no_links(page):
    text = (page.parent / "figures" / "predicted-fisv-TES.svg").read_text()
    assert "<use" in text
    assert "<a " not in text
    assert "</a>" not in text


def test_a_place_on_a_page_is_one_videos_alone():
    ids = [*IDS, "a b", "a-b", "A-b", "a-b-", "x" * 70, "x" * 71, ""]
    anchors = [video_anchor(one) for one in ids]
    assert len(set(anchors)) == len(ids)
    assert video_anchor("pom_0716") == "video-pom_0716"
    assert all(one.isascii() and one.replace("-", "").replace("_", "").replace(".", "").isalnum() for one in anchors)


@pytest.mark.parametrize("found", ["not a page", "\udcff", None, "pipe"])
def test_what_is_no_page_is_no_explanation(write_finished, tmp_path, found):
    run = write_finished(tmp_path / "run", router=False)
    (run / "explained").mkdir()
    path = run / "explained" / "index.html"
    if found == "pipe":
        os.mkfifo(path)
    elif found is not None:
        path.write_bytes(found.encode("utf-8", "surrogateescape"))
    known = explained_videos(run, tmp_path / "out")
    assert known.why_none
    assert known.link("video1") == ""


def test_a_run_that_was_made_again_is_not_what_the_page_explains(write_finished, tmp_path):
    run = write_finished(tmp_path / "run", router=False)
    write_page(run, IDS, scores_digest(RunFolder(run)))
    assert explained_videos(run, tmp_path / "out").link("plain") == "../run/explained/index.html#video-plain"
    again = write_finished(tmp_path / "again", router=False, seed=3)
    (run / "explained").rename(again / "explained")
    assert explained_videos(again, tmp_path / "out").link("plain") == ""
