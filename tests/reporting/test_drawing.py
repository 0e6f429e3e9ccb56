"""A figure comes out as matplotlib writes it by itself, in both formats."""

import io
import re
import zlib

import matplotlib
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure

from aqa.reporting import charts, fonts
from aqa.reporting.drawing import SVG_FAMILIES, finished, styled


@pytest.fixture
def style():
    with styled(charts.STYLE):
        yield


def some_figure():
    """Lines, dots, bars, an image and words at all angles."""
    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    axes.plot([0, 1, 2], [1, 3, 2], "o--", label="AVF To")
    axes.fill_between([0, 1, 2], [0, 2, 1], [2, 4, 3], alpha=0.2)
    axes.scatter([0.5, 1.5], [1, 2], c=["red", "blue"], s=[10, 40]).set_urls(["dot-0-0", None])
    axes.bar([0, 1], [2, -1], hatch="///", edgecolor=charts.INK)
    axes.imshow(np.eye(2), extent=(0, 1, 3, 4), aspect="auto")
    axes.text(1, 1, "turned", rotation=40)
    axes.set_ylabel("upright")
    figure.legend()
    return figure


def written(format, **metadata):
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": repr(("a",))}):
        some_figure().savefig(file, format=format, dpi=72, metadata=metadata)
    return file.getvalue()


def streams(pdf):
    """What is in the streams of a PDF."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.DOTALL)
    return [zlib.decompressobj().decompress(each) if each[:1] == b"x" else each for each in found]


def test_a_pdf_is_as_matplotlib_writes_it(style):
    """But that a text is written as if it began at nothing, and then moved to its place."""
    moved = re.compile(rb"q 1 0 0 1 (\S+ \S+) cm q (\S+ \S+ \S+ \S+) 0 0 cm (BT .*? ET) Q Q")
    found, wanted = (
        [b" ".join(each.split()) for each in streams(pdf)]  # lines are broken at another place
        for pdf in (finished(some_figure(), "a").pdf, written("pdf", CreationDate=None))
    )
    assert [moved.sub(rb"q \2 \1 cm \3 Q", each) for each in found] == wanted
    assert found != wanted


def test_a_text_that_comes_again_is_in_a_pdf_as_often_as_it_is_drawn_and_in_its_own_colour(style):
    figure = Figure(figsize=(2, 2))
    for x, colour in ((0.1, "#ff0000"), (0.3, "#0000ff"), (0.5, "#0000ff")):
        figure.text(x, 0.5, "0.25", color=colour)
    figure.text(0.7, 0.5, "0.25", color="#0000ff", fontsize=20)
    page = next(each for each in streams(finished(figure).pdf) if b"BT" in each).decode()
    texts = page.split("BT\n")[1:]
    assert len(texts) == 4
    assert len({text.split("ET")[0] for text in texts}) == 2  # by size
    places = re.findall(r"1 0 0 1 (\S+) (\S+) cm", page)
    assert [float(x) for x, _ in places if x != "0"] == pytest.approx([0.1 * 144, 0.3 * 144, 0.5 * 144, 0.7 * 144])
    colours = [set(re.findall(r"(\S+ \S+ \S+) rg", part)) for part in page.split("BT\n")[:4]]
    assert colours == [{"1 0 0"}, {"0 0 1"}, set(), set()]


def test_an_svg_is_as_matplotlib_writes_it(style):
    found, wanted = finished(some_figure(), "a").svg, written("svg", Date=None).decode()
    wanted = re.sub(r"<metadata>.*?</metadata>\s*", "", wanted[wanted.index("<svg") :], flags=re.DOTALL)
    found, wanted = found.replace(SVG_FAMILIES, "fonts"), wanted.replace(repr(fonts.families())[1:-1], "fonts")
    numbers = re.compile(r"-?\d+(?:\.\d+)?")
    assert numbers.sub("", found) == numbers.sub("", wanted)
    # A legend and words that are not at the left are placed by the width of words, which each format measures anew.
    assert np.allclose(*(np.array(numbers.findall(svg), dtype=float) for svg in (found, wanted)), atol=0.5)


def test_letters_that_the_small_font_lacks_come_from_the_whole_one(style):
    figure = Figure()
    words = figure.text(0, 0, "Zürich Žižek † … Москва")
    figure.draw_without_rendering()  # would warn of letters that no font has, and warnings are errors
    words.set_fontfamily(list(fonts.SMALL_FONTS))
    with pytest.warns(UserWarning, match="CYRILLIC"):
        figure.draw_without_rendering()


@pytest.mark.parametrize(("family", "letters"), list(zip(fonts.SMALL_FONTS, ("AVg9†", "ßéΩ"), strict=True)))
def test_a_small_font_measures_as_the_whole_one(style, family, letters):
    paths = [matplotlib.font_manager.findfont(name, fallback_to_default=False) for name in (family, fonts.WHOLE)]
    small, whole = map(TTFont, paths)
    for letter in map(ord, letters):
        assert small["hmtx"][small.getBestCmap()[letter]] == whole["hmtx"][whole.getBestCmap()[letter]]
    for name in ("ascent", "descent", "lineGap"):
        assert getattr(small["hhea"], name) == getattr(whole["hhea"], name)


def test_a_small_font_that_is_there_is_taken(tmp_path):
    source = fonts.Path(matplotlib.font_manager.findfont(fonts.WHOLE))
    for family in fonts.SMALL_FONTS:
        first = fonts._made(family, source, tmp_path)
        before = first.stat().st_mtime_ns
        assert fonts._made(family, source, tmp_path) == first
        assert first.stat().st_mtime_ns == before
        assert first.stat().st_size < 100_000
    assert len(list(tmp_path.iterdir())) == len(fonts.SMALL_FONTS)
