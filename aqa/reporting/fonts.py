"""A small font for figures: the Latin letters of the font that matplotlib comes with.

Every PDF holds the letters that it shows, and taking them from the whole font, of 6,000 glyphs, takes longer than all
else about a figure. Letters that the small font lacks are taken from the whole one.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import matplotlib
from fontTools import subset
from matplotlib import font_manager

from aqa.system.files import written_whole

WHOLE, SMALL = "DejaVu Sans", "DejaVu Sans for reports"
STYLES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
# Latin with its accents, Greek, dashes, quotation marks, daggers and dots, the sign of negative numbers.
LETTERS = [*range(0x20, 0x180), *range(0x370, 0x400), *range(0x2010, 0x2034), 0x2212]
FAMILY_NAME = (1, 16)  # among the names in a font


@functools.cache
def families() -> list[str]:
    """The families that a figure's text is set in, one after another until one has the letter.

    Made once, beside matplotlib's own list of fonts.
    """
    for name in STYLES:
        source = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
        font_manager.fontManager.addfont(_made(source, Path(matplotlib.get_cachedir())))
    return [SMALL, WHOLE]


def _made(source: Path, folder: Path) -> Path:
    """The small font of a whole one, in a folder where it may lie from before."""
    recipe = repr((matplotlib.__version__, source.stat().st_size, SMALL, LETTERS))
    path = folder / f"{source.stem}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.ttf"
    if not path.is_file():
        with written_whole(path) as partial:
            save_small(source, partial)
    return path


def save_small(source: Path, path: Path) -> None:
    """Write the small font: no kerning or ligatures, which take longer to cut down than the letters themselves."""
    options = subset.Options(layout_features=[], hinting=False, glyph_names=False)
    options.drop_tables += ["FFTM", "GDEF", "GPOS", "GSUB", "MATH"]
    font = subset.load_font(str(source), options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=LETTERS)
    cut.subset(font)
    for record in [record for record in font["name"].names if record.nameID in FAMILY_NAME]:
        record.string = SMALL
    font.save(path)
