"""What may import what: one way only, and nothing heavy before it is needed."""

import ast
import functools
import pathlib

import pytest

import vae_anomaly

PACKAGE = pathlib.Path(vae_anomaly.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)

# The rooms, and the rooms whose modules each may import; a room may always import itself.
ROOMS = {
    "tables": set(),
    "images": set(),
    "vae": set(),
    "displays": set(),
    "datasets": set(),
    "report": set(),
    "scoring": {"vae", "tables", "images"},
    "serving": {"scoring", "tables", "images"},
    "serving.dev_server": set(),
    "detectors": {"serving", "scoring", "vae", "tables", "images", "displays", "report"},
    "model_info": {"scoring", "vae", "tables", "images"},
    "batch": {"detectors", "scoring", "tables", "images", "report"},
    "spark": {"batch", "detectors", "tables"},
    "mlflow": {"batch", "detectors", "tables"},
    "demo": {"datasets", "detectors", "displays"},
}
TOP = {"cli", "__main__"}  # may import all
BOTTOM = {
    "atomic",
    "data_warning",
    "extras",
    "image_windows",
    "tensorflow_import",
}  # all may import them, and they import nothing of ours
ALLOWED = {
    "sklearn": {"detectors", "displays"},
    "mlflow": {"mlflow"},
    "pandas": {"tables", "datasets", "detectors", "batch", "cli", "demo"},
    "pyarrow": {"tables", "batch", "datasets", "detectors", "cli", "demo", "spark"},
    "jinja2": {"report"},
    "matplotlib": {"displays", "report"},
    "pyspark": {"spark"},
    "prometheus_client": {"serving.dev_server"},
    "starlette": {"serving.dev_server"},
    "uvicorn": {"serving.dev_server"},
    "onnx": {"serving"},
    "onnxruntime": {"serving"},
    "tf2onnx": {"serving"},
    "PIL": {"images"},
}


def room(module):
    return "serving.dev_server" if module.startswith("serving.dev_server") else module.split(".")[0]


def path_of(module):
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


@functools.cache
def imports(module, *, inside_functions=True):
    """Names of the modules a module imports, those for type checkers left out."""
    names = set()
    nodes = [ast.parse(path_of(module).read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # What is imported from a package may be a module, or a name that a module defines.
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not inside_functions:
            continue
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            nodes.extend(ast.iter_child_nodes(node))
    return names


@functools.cache
def own_imports(module):
    """Modules of this package that a module imports, inside functions too."""
    found = set()
    for name in imports(module):
        if not name.startswith("vae_anomaly."):
            continue
        parts = name.split(".")[1:]
        candidates = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        own = [candidate for candidate in candidates if candidate in MODULES]
        package = [
            c for c in candidates if (PACKAGE.joinpath(*c.split(".")) / "__init__.py").exists()
        ]
        assert own or package or len(parts) == 1, f"{module} imports {name}, which is nowhere"
        found.update(own[:1])
        if not own and package and room(package[0]) != room(module):
            found.update(m for m in MODULES if m.startswith(f"{package[0]}."))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_in_a_room(module):
    assert room(module) in {*ROOMS, *BOTTOM, *TOP}


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) not in TOP])
def test_a_module_imports_only_the_rooms_below(module):
    rooms = {room(name) for name in own_imports(module)} - {room(module), *BOTTOM}
    assert rooms <= ROOMS.get(room(module), set())


@pytest.mark.parametrize("module", sorted(BOTTOM))
def test_a_module_that_all_may_import_imports_nothing_of_the_package(module):
    assert not own_imports(module)


def test_no_module_imports_itself_round_a_corner():
    waiting = {module: own_imports(module) for module in MODULES}
    while waiting:
        ready = {module for module, needs in waiting.items() if not needs & set(waiting)}
        assert ready, f"a circle among {sorted(waiting)}"
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}


@pytest.mark.parametrize("library", sorted(ALLOWED))
def test_a_library_is_imported_only_where_it_belongs(library):
    users = {
        room(module)
        for module in MODULES
        if any(name.split(".")[0] == library for name in imports(module))
    }
    assert users <= ALLOWED[library]


@pytest.mark.parametrize("module", MODULES)
def test_matplotlib_is_imported_only_when_something_is_drawn(module):
    names = imports(module, inside_functions=False)
    assert not any(name.split(".")[0] == "matplotlib" for name in names)


WITHOUT_TENSORFLOW = [
    "vae_anomaly",
    "vae_anomaly.batch.frames",
    "vae_anomaly.batch.images",
    "vae_anomaly.batch.run",
    "vae_anomaly.cli",
    "vae_anomaly.detectors.artifact",
    "vae_anomaly.displays",
    "vae_anomaly.images.files",
    "vae_anomaly.mlflow",
    "vae_anomaly.scoring.calibration",
    "vae_anomaly.scoring.discoveries",
    "vae_anomaly.scoring.thresholds",
    "vae_anomaly.serving.dev_server.serve",
    "vae_anomaly.spark",
    "vae_anomaly.tables.columns",
    "vae_anomaly.tables.reader",
    "vae_anomaly.tables.table_files",
    "vae_anomaly.tables.writer",
]


def test_importing_what_needs_no_tensorflow_does_not_import_it(fresh_python):
    pytest.importorskip("starlette", reason="needs the extra [serve]")
    code = (
        f"import {', '.join(WITHOUT_TENSORFLOW)}, sys\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    assert fresh_python(code).strip() == "set()"


def test_public_names_are_listed_and_load():
    for name in vae_anomaly.__all__:
        assert name in dir(vae_anomaly)
        assert getattr(vae_anomaly, name).__name__ == name


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'VAEDetectr'"):
        vae_anomaly.VAEDetectr  # noqa: B018
