"""Data flows one way through the package: nothing upstream imports what is downstream, and nothing in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: The folders of the pipeline in the order in which data moves, what all of them stand on first.
ORDER = (
    "errors", "names", "version", "modalities", "plugins", "registry",
    "system", "drawing", "config", "store", "missing", "features", "layers", "models", "training", "evaluation",
    "explaining", "runs", "sweeps", "reporting", "exporting", "usage", "commands", "cli",
)  # fmt: skip


def modules():
    files = [*(ROOT / "aqa").rglob("*.py"), *(ROOT / "data_prep").glob("*.py")]
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


MODULES = modules()


def imported(name, top_level_only=False):
    """The project's modules that a module imports, wherever in it, but not for the type checker alone."""
    found = set()
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else without_type_checking(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
            base = f"{package}.{node.module}" if node.level else node.module
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return {each for each in found if each in MODULES}


def without_type_checking(tree):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        yield node
        yield from without_type_checking(node)


def place(module):
    part = module.split(".")[1] if module.count(".") else ""
    return ORDER.index(part) if part in ORDER else None


@pytest.mark.parametrize("name", [name for name in MODULES if place(name) is not None])
def test_nothing_upstream_imports_what_is_downstream(name):
    for other in imported(name):
        if place(other) is not None:
            assert place(other) <= place(name), f"{name} imports {other}, which is downstream of it"


def test_every_folder_has_its_place_in_the_order():
    entry = {"", "__main__", "data_prep"}  # the public names, the command, and what makes stores
    parts = {name.split(".")[1] if "." in name else "" for name in MODULES if name.startswith("aqa")}
    assert parts - set(ORDER) == entry & parts


def test_no_module_imports_in_a_circle():
    graph = {name: imported(name, top_level_only=True) for name in MODULES}
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in graph[name] - {name}:
                visit(other)
            path.pop()
            done.add(name)

    for name in graph:
        visit(name)


def test_a_circle_would_be_found(monkeypatch, tmp_path):
    for name, text in {"aqa.a": "from aqa import b", "aqa.b": "import aqa.a"}.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(MODULES, name, tmp_path / f"{name}.py")
    with pytest.raises(AssertionError, match=r"aqa\.a -> aqa\.b -> aqa\.a"):
        test_no_module_imports_in_a_circle()


#: Names that two modules define, each with the reason.
TWICE = {
    "Expert": "each of four methods has its own, and a model file stands alone",
    "Floats": "a short name of one type, where the modules may not import each other",
    "R": "a type variable",
    **dict.fromkeys(("COLUMNS", "LOOK_SECONDS", "ROUNDING", "SHOWN", "TEMPLATES"), "a constant of its own module"),
    "load": "an experiment for a run, and a run for a program",
    **dict.fromkeys(("predicted_against_true", "router_weights", "srcc_by_pattern"), "a figure of a run, of a report"),
    "markdown": "escaping for Markdown, and writing it",
    "runs_table": "a table of a report, of a sweep",
    **dict.fromkeys(
        (
            *("card", "evaluate", "explain", "export", "inspect", "predict", "prepare", "report", "run", "sweep"),
            *("tune", "worth"),
        ),
        "a command and its twin",
    ),
}


def test_a_public_name_has_one_meaning():
    found = {}
    for name, file in MODULES.items():
        if name.startswith("data_prep"):  # a file per data set, alike on purpose
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names = [node.name]
            else:
                names = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
            for each in names:
                if not each.startswith("_"):
                    found.setdefault(each, []).append(name)
    assert {each: homes for each, homes in found.items() if len(homes) > 1 and each not in TWICE} == {}
