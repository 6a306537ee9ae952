"""How Sphinx builds the site: ``sphinx-build -W --keep-going -n -q docs OUT``. Nothing is asked of a network."""

import re

from pygments.lexers import TextLexer

from cohortlib import __version__

project = "cohortlib"
author = "the authors of cohortlib"
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
highlight_language = "text"
smartquotes_action = "D"  # dashes alone: what is in quotes is often to be typed

# Pages are plain Markdown that a code host shows as well: links go to files, and to the anchors of headings.
myst_heading_anchors = 3

html_theme = "furo"
html_title = "cohortlib"
html_copy_source = False
html_show_copyright = False

add_module_names = False
autodoc_member_order = "bysource"
maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False
python_display_short_literal_types = True
python_use_unqualified_type_names = True

# Public names lead somewhere. Those of others are only written down, as their pages are on the network, and so are the
# types in signatures that are our own matter.
nitpick_ignore_regex = [("py:class", r"(?!cohortlib\.((termina|adapty|spark|errors|transport)\.)?\w+$).*")]

CALLED = ("Call", "Conventions", "Filters", "Reply", "Request")
"""The classes that a user calls; all others are what a function gives, so that what they are made of is our own."""


COLON = "\N{RATIO}"


def without_our_own(app, what, name, obj, options, signature, returned):
    if what == "class" and name.rpartition(".")[2] not in CALLED:
        return "", returned
    return signature, returned


def hide_colon(app, what, name, obj, options, lines):
    if what == "property":  # or napoleon takes what stands before a colon for a type
        lines[0] = lines[0].replace(":", COLON)


def show_colon(app, what, name, obj, options, lines):
    lines[:] = [line.replace(COLON, ":") for line in lines]


def escaped(line):
    return re.sub(r"(?<![\w`-])--[a-z][\w-]*", r"``\g<0>``", line.replace("*", r"\*"))


def with_literal_options(app, context, lines):
    lines[:] = [line if line.startswith("..") else escaped(line) for line in lines]


def with_literal_examples(app, context, lines):
    shown = []
    for line in lines:  # what click leaves as it is comes as the lines of a verse
        verse = line.startswith("|")
        if verse and not shown[-1].startswith("   "):
            shown += ["::", ""]
        shown.append(f"   {line[2:]}" if verse else escaped(line))
    lines[:] = shown


def setup(app):
    for name in ("csv", "tsv"):  # Pygments has no lexer for them
        app.add_lexer(name, TextLexer)
    app.connect("autodoc-process-signature", without_our_own)
    app.connect("autodoc-process-docstring", hide_colon, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", show_colon, priority=900)
    app.connect("sphinx-click-process-description", with_literal_examples)
    app.connect("sphinx-click-process-options", with_literal_options)
