"""How Sphinx builds the documentation: ``make -C docs html``."""

import inspect
import os
import pathlib
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import latex2mathml.converter
from docutils.nodes import SkipNode

import vae_anomaly

HERE = pathlib.Path(__file__).parent

project = "vae_anomaly"
copyright = "the authors of vae_anomaly"
version = release = vae_anomaly.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks keep their outputs, and tests run them

autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

smartquotes = False  # a straight quote in a docstring is Python's
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "vae_anomaly"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
# These pages are sections of their own: nothing to navigate beside them.
html_sidebars = {name: [] for name in ("install", "quickstart", "cli", "faq", "changelog")}
html_math_renderer = "mathml"
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}


def _copy_notebooks(app):
    """Bring the notebooks, which live at the top of the repository, below this folder."""
    shutil.rmtree(HERE / "notebooks", ignore_errors=True)
    shutil.copytree(
        HERE.parent / "notebooks",
        HERE / "notebooks",
        ignore=lambda _, names: [name for name in names if not name.endswith(".ipynb")],
    )


def _formula(display):
    """Return a visitor that writes a formula as MathML: browsers show it without scripts."""

    def visit(translator, node):
        formula = latex2mathml.converter.convert(node.astext(), display=display)
        # It leaves out the space that TeX puts after the name of a function.
        formula = formula.replace("<mi>log</mi>", '<mi>log</mi><mspace width="0.17em"/>')
        tag = "div" if display == "block" else "span"
        translator.body.append(f'<{tag} class="formula">{formula}</{tag}>')
        raise SkipNode

    return visit


def _signature(app, what, name, obj, options, signature, annotation):
    """Show the arguments of ``__init__``: Keras' ``__new__`` hides them behind ``*args``."""
    if what == "class" and issubclass(obj, keras.layers.Layer):
        own = inspect.signature(obj)
        bare = [p.replace(annotation=p.empty) for p in own.parameters.values()]
        return str(inspect.Signature(bare)), None
    return None


def setup(app):
    """Register what the extensions do not bring."""
    app.connect("builder-inited", _copy_notebooks)
    app.connect("autodoc-process-signature", _signature)
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(_formula("inline"), None),
        block_renderers=(_formula("block"), None),
    )
