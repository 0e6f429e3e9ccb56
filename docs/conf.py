"""The site: `make docs` builds it, strictly and without the network."""

from aqa import __version__

project = "aqa"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3  # links such as data.md#your-own-data
myst_links_external_new_tab = True

default_role = "literal"  # docstrings mark code by single backticks, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"aqa {release}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["site"]
html_css_files = ["wide.css"]
pygments_style = "friendly"
pygments_dark_style = "github-dark"
