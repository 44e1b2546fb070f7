"""What may import what: one way only, and nothing heavy before it is needed."""

import ast
import importlib.util
import pathlib

import pytest

import vae_anomaly

PACKAGE = pathlib.Path(vae_anomaly.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

TABLES = {"cells", "csv_rows", "table_files", "table_reader", "table_writer", "table_io"}
LEAVES = {
    *TABLES,
    "summary",
    "work_folder",
    "batch_places",
    "layers",
    "likelihoods",
    "image_likelihoods",
    "marginals",
    "networks",
    "preprocessing",
    "image_preprocessing",
    "columns",
    "rest",
    "thresholds",
    "plotting",
    "datasets",
    "model_info",
}
LEVELS = [
    LEAVES,
    {"models", "image_files"},
    {"builders", "training", "scoring", "signatures", "image_scoring", "image_signatures"},
    {"artifact", "estimator", "image_estimator", "detector", "serve"}
    | {"export", "table_export", "image_export"},
    {"chunk_scorer", "batch", "image_batch"},
    {"cli"},
    {"__main__"},
]
ALLOWED = {
    "sklearn": {"detector", "estimator", "plotting"},
    "pandas": {*TABLES, "datasets", "columns", "estimator", "cli"},
    "pyarrow": {*TABLES, "datasets", "columns", "estimator", "cli"},
    "matplotlib": {"plotting"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
}


def imports(module, *, inside_functions=True):
    """Names of the modules a module imports, those for type checkers left out."""
    names = set()
    nodes = [ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Of a package, what is imported may be a module or a name that a module defines.
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not inside_functions:
            continue
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            nodes.extend(ast.iter_child_nodes(node))
    return names


def own_imports(module, **kwargs):
    """Modules of this package that a module imports."""
    parts = [name.split(".") for name in imports(module, **kwargs)]
    return {part[1] for part in parts if part[0] == "vae_anomaly" and len(part) > 1} & set(MODULES)


def level(module):
    return next(index for index, modules in enumerate(LEVELS) if module in modules)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_place(module):
    assert sum(module in modules for modules in LEVELS) == 1


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    assert {name for name in own_imports(module) if level(name) > level(module)} == set()


def test_no_module_imports_itself_round_a_corner():
    waiting = {module: own_imports(module, inside_functions=False) for module in MODULES}
    while waiting:
        ready = {module for module, needs in waiting.items() if not needs & set(waiting)}
        assert ready, f"a circle among {sorted(waiting)}"
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}


@pytest.mark.parametrize("library", sorted(ALLOWED))
def test_a_library_is_imported_only_where_it_belongs(library):
    users = {
        module
        for module in MODULES
        if any(name.split(".")[0] == library for name in imports(module))
    }
    assert users <= ALLOWED[library]


@pytest.mark.parametrize("module", MODULES)
def test_matplotlib_is_imported_only_when_something_is_drawn(module):
    names = imports(module, inside_functions=False)
    assert not any(name.split(".")[0] == "matplotlib" for name in names)


@pytest.mark.parametrize(
    "module",
    sorted(LEAVES - {"layers", "likelihoods", "image_likelihoods", "marginals", "networks"}),
)
def test_leaves_that_need_no_tensorflow_do_not_import_it(module):
    needs = {name.split(".")[0] for name in imports(module)} & {"tensorflow", "keras"}
    assert needs == ({"tensorflow", "keras"} if module.endswith("preprocessing") else set())


@pytest.mark.parametrize(
    "statement",
    [
        "import vae_anomaly",
        "import vae_anomaly.artifact",
        "import vae_anomaly.cli",
        "import vae_anomaly.columns",
        "import vae_anomaly.image_batch",
        "import vae_anomaly.image_files",
        "import vae_anomaly.plotting",
        "import vae_anomaly.rest",
        "import vae_anomaly.serve",
        "import vae_anomaly.table_io",
        "import vae_anomaly.thresholds",
    ],
)
def test_importing_does_not_import_tensorflow(statement, fresh_python):
    if importlib.util.find_spec(statement.split()[1]) is None:
        pytest.skip(f"{statement.split()[1]} does not exist yet")
    if statement.endswith(".serve"):
        pytest.importorskip("starlette", reason="needs the extra [serve]")
    code = f"{statement}; import sys; print({{'tensorflow', 'keras'}} & set(sys.modules))"
    assert fresh_python(code).strip() == "set()"


def test_the_server_knows_saved_models_only():
    assert own_imports("serve") == {"rest"}
    assert own_imports("rest") == set()


def test_public_names_are_listed_and_load():
    for name in vae_anomaly.__all__:
        assert name in dir(vae_anomaly)
        assert getattr(vae_anomaly, name).__name__ == name


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'VAEDetectr'"):
        vae_anomaly.VAEDetectr  # noqa: B018
