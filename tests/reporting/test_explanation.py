"""The page and the files of `aqa explain`."""

import re

import numpy as np
import pandas as pd
import pytest

import aqa
from aqa.cli import main
from aqa.reporting.explanation import explanation_page, line_path, steps_path
from aqa.runs.explained import Explained, ExplanationTables
from tests.runs.test_explained import experiment, write

NAMES = ["<b>first</b>", "second, of two", "third"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    aqa.run(experiment(write(folder / "small.h5"), folder / "run"))
    return folder / "run"


def tables(labelled=True):
    """Three videos: one with both streams, one with audio alone, one with nothing."""
    score = np.array([3.0, 5.0, np.nan])
    videos = pd.DataFrame(
        {
            "id": NAMES,
            "visible": ["VA", "A", ""],
            "score": score,
            "low": [2.0, -np.inf, np.nan],
            "high": [4.0, np.inf, np.nan],
            "label": [4.5, 5.5, 1.0] if labelled else np.nan,
            "error": [1.5, 0.5, np.nan] if labelled else np.nan,
            "width": [2.0, np.inf, np.nan],
            "disagreement": np.nan,
            "training_mean": 4.0,
            "moments": [0.1, -0.1, np.nan],
            "unexplained": np.nan,
        }
    )
    streams = pd.DataFrame(
        [(NAMES[0], "visual", -1.5), (NAMES[0], "audio", 0.5), (NAMES[1], "audio", 1.0)],
        columns=["id", "modality", "shapley"],
    )
    what_if = pd.DataFrame(
        [(NAMES[0], "VA", 3.0, 2.0, 4.0), (NAMES[0], "A", 4.5, 1.0, 8.0), (NAMES[1], "A", 5.0, -np.inf, np.inf)],
        columns=["id", "visible", "score", "low", "high"],
    )
    change = pd.DataFrame(
        [(NAMES[1], "A", "visual", 0.25, 0.1, 0.4, -1.0, 1.5, 50, "valid")],
        columns=[
            "id", "visible", "stream", "change", "change_low", "change_high", "lowest", "highest", "videos", "source"
        ],
    )  # fmt: skip
    clips = pd.DataFrame(
        [(NAMES[0], "visual", 0.0, 2.0, 0.0, 1.0, -0.3, -0.2), (NAMES[0], "visual", 2.0, 4.0, 1.0, 2.0, 0.1, 0.3)],
        columns=["id", "modality", "first", "end", "first_second", "end_second", "occlusion", "gradients"],
    )
    curves = pd.DataFrame(
        [(NAMES[0], "attention", "all", "", t, w) for t, w in enumerate((0.1, 0.2, 0.3, 0.4))],
        columns=["id", "kind", "of", "to", "first", "weight"],
    )
    weights = pd.DataFrame(
        [(NAMES[0], "gate_weights", "", "visual", 0.25)], columns=["id", "name", "of", "to", "weight"]
    )
    nothing = pd.DataFrame()
    return ExplanationTables(videos, streams, nothing, what_if, change, clips, curves, weights)


ABOUT = {
    "run": "runs/<i>one</i>",
    "model": "mcmoe",
    "target": "score",
    "low": 0.0,
    "high": 10.0,
    "modalities": ["visual", "audio"],
    "level": 0.9,
    "beside": 0,
}


def page(**options):
    return explanation_page(Explained(tables(**options), ABOUT, ["a note"]))


def test_the_page_says_what_the_tables_say():
    text = page()
    assert text.index("second, of two") > text.index("&lt;b&gt;first&lt;/b&gt;")  # the largest error first
    assert "Score 3.00, 90 % interval 2.00 to 4.00; label 4.50." in text
    assert "Score 5.00, 90 % interval unbounded (too few videos to make one); label 5.50." in text
    assert ">unbounded</td>" in text
    assert "-1.500" in text
    assert "+0.250 [+0.100, +0.400]" in text
    assert "50 of valid" in text
    assert "most at 0.0 to 1.0 s: -0.300" in text
    assert "attention of all streams, from 0 to 0.4" in text
    assert "gate weights" in text
    assert "visual 0.25" in text
    assert "Nothing of this video is visible" in text
    assert "a note" in text
    assert 'data-value="1.5">1.50' in text
    assert "disagreement</button>" not in text  # nothing is known of it


def test_words_from_files_are_text_and_the_page_asks_the_network_for_nothing():
    text = page()
    assert "<b>first</b>" not in text
    assert "<i>one</i>" not in text
    assert "default-src &#39;none&#39;" in text
    assert not re.search(r"(src|href)=\"(?!#)", text)
    links = re.findall(r'href="#([^"]+)"', text)
    assert len(set(links)) == 3
    assert all(f'id="{link}"' in text for link in links)


def test_the_script_asks_for_nothing_that_the_page_lacks():
    text = page()
    script = text[text.index("<script>") :]
    assert all(f'id="{name}"' in text for name in re.findall(r'getElementById\("([^"]+)"\)', script))
    assert all(f'id="{name}"' in text for name in re.findall(r'querySelector\("#([a-z]+)', script))
    assert 'class="videos"' in text


def test_without_labels_the_widest_interval_comes_first():
    text = page(labelled=False)
    assert "error</button>" not in text
    assert text.index("second, of two") < text.index("&lt;b&gt;first")


def test_timelines_are_drawn_to_scale():
    clips = tables().clips
    assert steps_path(clips, "occlusion", 4.0, 0.3) == "M0.0 32V64.0H320.0V32ZM320.0 32V21.3H640.0V32Z"
    assert line_path(clips, "gradients", 4.0, 0.3) == "160.0,53.3 480.0,0.0"


def test_the_command_writes_a_page_and_tables_and_overwrites_nothing(run, tmp_path, capsys):
    out = tmp_path / "explained"
    assert main(["explain", str(run), "--ids", "video60,video63", "--out", str(out)]) == 0
    assert f"2 videos explained: {out / 'index.html'}" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {
        "index.html", "videos.csv", "streams.csv", "what_if.csv", "would_change.csv", "clips.csv"
    }  # fmt: skip
    assert list(pd.read_csv(out / "videos.csv")["id"]) == ["video60", "video63"]
    assert main(["explain", str(run), "--ids", "video60", "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    again = ["--format", "parquet", "--split", "valid", "--out", str(tmp_path / "parquet")]
    assert main(["explain", str(run), *again]) == 0
    assert len(pd.read_parquet(tmp_path / "parquet" / "videos.parquet")) == 20


def test_mistakes_are_one_line(run, tmp_path, capsys):
    for arguments, message in {
        ("--ids", "video6O"): "has no video 'video6O': did you mean 'video6'?",
        ("--ids", "0716"): "has no video '0716': there are video0, video1, video2, ",
        ("--visible", "Q"): "--visible: unknown subset 'Q'",
        ("--format", "xls"): "--format xls: it is csv or parquet",
        ("--beside", str(tmp_path)): "is no run's folder",
    }.items():
        assert main(["explain", str(run), *arguments, "--out", str(tmp_path / "none")]) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_the_page_fits_a_phone_and_is_printed_in_ink_on_paper(visit, tmp_path):
    (tmp_path / "index.html").write_text(page(), encoding="utf-8")
    for scheme in ("light", "dark"):
        tab = visit(tmp_path / "index.html", viewport={"width": 390, "height": 800}, color_scheme=scheme)
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
        tab.set_viewport_size({"width": 1040, "height": 740})  # an A4 page on its side
        tab.emulate_media(media="print", color_scheme=scheme)
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.locator("details:not([open])").count() == 0
        assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(29, 36, 48)"
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
        assert not tab.get_by_text("Press a heading").is_visible()
        beyond = """() => [...document.querySelectorAll("table, svg")].filter(
            each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length"""
        assert tab.evaluate(beyond) == 0
        assert tab.problems == []
        tab.close()


def test_sorting_by_disagreement_puts_the_videos_in_that_order(visit, tmp_path):
    found = tables()
    found.videos["disagreement"] = [0.1, 0.7, np.nan]
    (tmp_path / "index.html").write_text(explanation_page(Explained(found, ABOUT, [])), encoding="utf-8")
    tab = visit(tmp_path / "index.html")
    names = (
        "() => [...document.querySelectorAll('details.video > summary')].map(one => one.firstChild.textContent.trim())"
    )
    assert tab.evaluate(names) == ["<b>first</b>", "second, of two", "third"]
    tab.get_by_role("button", name="disagreement").click()
    assert tab.evaluate(names) == ["second, of two", "<b>first</b>", "third"]
    tab.close()
