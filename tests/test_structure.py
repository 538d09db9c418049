"""The packages of the code know each other in one direction only: as docs/structure.md draws it."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent

# The packages of the table, from the bottom up: each may know those before it. What is in none (the commands,
# and small modules such as `cmav.errors`) is named below.
PACKAGES = re.findall(r"^\| `cmav/(\w+)/` \|", (ROOT / "docs" / "structure.md").read_text(), re.MULTILINE)
ANYONE_MAY_KNOW = ("cli", "config", "distributed", "errors", "memory", "presets", "processes", "tables", "trees")
COMMANDS = (
    "main",
    "finetune",
    "evaluate",
    "embed",
    "localize",
    "sync",
    "describe",
    "report",
    "export",
    "app",
    "completion",
)
# More than the order forbids: a network knows nothing of where its inputs come from, a record nothing of networks.
KEPT_APART = {
    "models": {"data", "media"},
    "localization": {"media"},
    "offsets": {"media"},
    "evals": {"media"},
    "training": {"media"},
    "world": set(PACKAGES),
    "prep": set(PACKAGES) - {"prep", "data", "media"},
}


def imports(path: pathlib.Path) -> set[str]:
    """Names of the modules and packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write the whole name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages_known(path: pathlib.Path) -> set[str]:
    """Which of `cmav.*` a file imports: the second part of the names."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("cmav.")}


def test_every_package_knows_only_those_below_it():
    assert len(PACKAGES) > 5
    for path in (ROOT / "cmav").rglob("*.py"):
        package = path.relative_to(ROOT / "cmav").parts[0]
        if package not in PACKAGES:
            continue
        below = {*PACKAGES[: PACKAGES.index(package)], *ANYONE_MAY_KNOW} - KEPT_APART.get(package, set())
        allowed = {package, *below}
        assert packages_known(path) <= allowed, path


def test_small_modules_know_no_package():
    for name in ANYONE_MAY_KNOW:
        assert packages_known(ROOT / "cmav" / f"{name}.py") <= set(ANYONE_MAY_KNOW), name


def test_nothing_knows_preparation_and_the_world():
    for path in (ROOT / "cmav").rglob("*.py"):
        if (package := path.relative_to(ROOT / "cmav").parts[0]) not in ("prep", "world"):
            assert not packages_known(path) & {"prep", "world"}, path
        else:
            assert packages_known(path) & {"prep", "world"} <= {package}, path


def test_commands_and_experiments_know_packages_and_nothing_knows_them():
    experiments = set((ROOT / "cmav" / "experiments").rglob("*.py"))
    of_users = [*(ROOT / "cmav" / f"{name}.py" for name in COMMANDS), *experiments]
    for path in of_users:
        assert packages_known(path) <= {*PACKAGES, *ANYONE_MAY_KNOW, "configs", "experiments"}, path
    for path in set((ROOT / "cmav").rglob("*.py")) - experiments:
        assert "experiments" not in packages_known(path), path


def test_imports_are_at_the_top_but_where_a_comment_says_why():
    """Tasks run without TensorFlow, which only makes their examples; a command first parses its flags."""
    nested = set()
    for path in (ROOT / "cmav").rglob("*.py"):
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        if any(isinstance(node, ast.Import | ast.ImportFrom) for one in functions for node in ast.walk(one)):
            nested.add(str(path.relative_to(ROOT / "cmav")))
    commands = {f"{name}.py" for name in ("main", "finetune", "evaluate", "embed", "localize", "sync", "export", "app")}
    others = {"__init__.py", "cli.py", "training/trackers.py", "prep/build_tfrecords.py", "prep/beam_runner.py"}
    assert nested == {*others, *commands, *(f"tasks/{name}.py" for name in ("base", "avs", "cmac", "action"))}


def test_everything_has_its_place():
    there = {path.stem for path in (ROOT / "cmav").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there == {*PACKAGES, *ANYONE_MAY_KNOW, *COMMANDS, "__init__", "__main__", "configs", "experiments"}


def test_what_is_imported_is_there():
    """Imports within functions too, which nothing else may run."""
    for path in [*(ROOT / "cmav").rglob("*.py"), *(ROOT / "configs").rglob("*.py")]:
        for name in imports(path):
            if name.startswith("cmav."):
                assert is_there(name), f"{path}: {name}"


def is_there(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, _, wanted = name.rpartition(".")
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return source.exists() and wanted in names_in(source)


def names_in(path: pathlib.Path) -> set[str]:
    """What a module has at its top: definitions, assignments, imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[-1] for alias in node.names}
    return found


def test_what_a_run_or_a_user_left_is_read_with_patience():
    """`storage.read_json`: a read that fails once is no damage. Preparation has a reader of its own."""
    text = {
        path: path.read_text()
        for path in (ROOT / "cmav").rglob("*.py")
        if path.parent.name not in ("experiments", "prep", "world")
    }
    assert [path.name for path, code in text.items() if re.search(r"json\.loads?\([^)]*read", code)] == ["storage.py"]
