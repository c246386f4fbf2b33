"""How the site is built: `make docs`. Every warning is an error, and no page loads anything from another host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_extension"), str(HERE.parent)]
for variable in ("LADLE_ADDRESS", "LADLE_API_KEY", "LADLE_CACHE"):
    os.environ.pop(variable, None)  # the help texts show their values

project = "Ladle"
author = "the Ladle authors"
release = "0.1.0"

extensions = ["myst_parser", "generated"]
exclude_patterns = ["_extension"]
source_suffix = {".md": "markdown"}
root_doc = "index"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # links to headings are written as on GitHub
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # annotations name types of other packages
python_maximum_signature_line_length = 90
add_module_names = False
smartquotes = False  # --flag stays --flag
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "Ladle"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["copy.js"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
