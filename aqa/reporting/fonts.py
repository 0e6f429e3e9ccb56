"""Small fonts for figures: the Latin letters of the font that matplotlib comes with.

Every PDF holds the letters that it shows, and taking them from the whole font, of 6,000 glyphs, takes longer than all
else about a figure. Letters that the smallest font lacks are taken from the next.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import matplotlib
from fontTools import subset
from matplotlib import font_manager

from aqa.system.files import written_whole

WHOLE = "DejaVu Sans"
STYLES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
#: Small fonts by family, the smallest first: what numbers and English are written in, with the sign of negative
#: numbers, daggers and dots; then Latin with its accents, Greek, dashes and quotation marks.
SMALL_FONTS = {
    "DejaVu Sans for numbers and English": [*range(0x20, 0x7F), 0x2020, 0x2026, 0x2212],
    "DejaVu Sans for European names": [*range(0xA0, 0x180), *range(0x370, 0x400), *range(0x2010, 0x2034)],
}
FAMILY_NAME = (1, 16)  # among the names in a font


@functools.cache
def families() -> list[str]:
    """The families that a figure's text is set in, one after another until one has the letter.

    Made once, beside matplotlib's own list of fonts.
    """
    for name in STYLES:
        source = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
        for family in SMALL_FONTS:
            font_manager.fontManager.addfont(_made(family, source, Path(matplotlib.get_cachedir())))
    return [*SMALL_FONTS, WHOLE]


def _made(family: str, source: Path, folder: Path) -> Path:
    """A small font of a whole one, in a folder where it may lie from before."""
    recipe = repr((matplotlib.__version__, source.stat().st_size, family, SMALL_FONTS[family]))
    path = folder / f"{source.stem}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.ttf"
    if not path.is_file():
        with written_whole(path) as partial:
            save_small(family, source, partial)
    return path


def save_small(family: str, source: Path, path: Path) -> None:
    """Write a small font: no kerning or ligatures, which take longer to cut down than the letters themselves."""
    options = subset.Options(layout_features=[], hinting=False, glyph_names=False)
    options.drop_tables += ["FFTM", "GDEF", "GPOS", "GSUB", "MATH"]
    font = subset.load_font(str(source), options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=SMALL_FONTS[family])
    cut.subset(font)
    for record in [record for record in font["name"].names if record.nameID in FAMILY_NAME]:
        record.string = family
    font.save(path)
