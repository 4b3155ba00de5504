"""Sphinx's settings: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# The three packages as they stand in the checkout, whether or not another version is installed.
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "export"), str(DOCS / "_ext")]

from gankit import __version__  # noqa: E402 - after the paths

project = "gankit"
author = "the gankit authors"
project_copyright = "the gankit authors; Apache-2.0"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "myst_parser",
    "sphinx_click",
    "command_pages",
    "reference_pages",
    "docstrings",
]
exclude_patterns = ["_build", "_ext"]
# `text` in a docstring or in a command's help is code.
default_role = "code"
# Dashes only: quotes are there to be copied.
smartquotes_action = "D"

autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # A package documents what its own files define; what it passes on is linked (see _ext/docstrings.py).
    "ignore-module-all": True,
}
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
# A type hint may be the bare name of a class that two modules have; references in docstrings give the module too.
suppress_warnings = ["ref.python"]
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Attributes as a list in the class: the fields of a dataclass are described once.
napoleon_use_ivar = True
napoleon_use_rtype = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# The examples run in a folder of their own, on the CPU and offline. It holds examples/, and in photos/ a corner of
# each of those images, which takes a generator no time.
doctest_test_doctest_blocks = ""
doctest_global_setup = f"""
import os, shutil, tempfile
_folder = tempfile.TemporaryDirectory()
_before = os.getcwd()
os.environ["GANKIT_CACHE"] = os.path.join(_folder.name, "cache")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.chdir(_folder.name)
os.mkdir("photos")
shutil.copytree({str(ROOT / "examples")!r}, "examples")
from pathlib import Path
from PIL import Image
for _path in Path("examples").iterdir():
    if _path.suffix != ".md":
        with Image.open(_path) as _image:
            _image.crop((0, 0, 48, 32)).save(os.path.join("photos", _path.name))
"""
doctest_global_cleanup = """
os.chdir(_before)
_folder.cleanup()
"""

html_theme = "furo"
html_title = f"gankit {release}"
html_theme_options = {
    "source_repository": "https://github.com/gankit/gankit/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_show_sourcelink = False
