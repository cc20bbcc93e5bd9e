"""The house: which folder is which package, and who may import whom."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "metarl": "metarl",
    "metarl.envs": "envs",
    "metarl.agents": "agents",
    "metarl.experiments": "experiments",
}
"""The layers."""
MAY_IMPORT = {
    "metarl": {"metarl"},
    "metarl.envs": {"metarl", "metarl.envs"},
    "metarl.agents": {"metarl", "metarl.agents"},
    "metarl.experiments": set(FOLDERS),
}
PACKAGES = {
    ".".join([package, *init.parent.relative_to(ROOT / folder).parts]): init.parent
    for package, folder in FOLDERS.items()
    for init in sorted((ROOT / folder).rglob("__init__.py"))
}
"""Every package and its folder."""
SOURCES = [
    (package, path) for package, folder in PACKAGES.items() for path in sorted(folder.glob("*.py"))
]
AGENTS = {"rl2", "varibad", "maml", "distill", "sb3", "classical"}
"""The folders of agents; ``training`` and ``common`` are what agents share."""
NOT_INSTALLED = {"metarl.experiments.benchmarks"}
"""Scripts for those who have the repository."""
PYPROJECT = (ROOT / "pyproject.toml").read_text()  # tomllib is not in Python 3.10


def layer_of(module):
    """Return the package that a module of metarl belongs to."""
    parts = module.split(".")
    inner = ".".join(parts[:2])
    return inner if inner in FOLDERS else parts[0]


def imports(source, package):
    """Yield every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            # `from metarl import envs` imports the package metarl.envs.
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_every_package_is_listed_and_every_listed_package_is_there():
    # An editable install finds every folder; the wheel has those that are listed.
    listed = re.search(r"^packages = \[(.*?)\]", PYPROJECT, re.M | re.S)[1]
    mapped = re.search(r"^\[tool.setuptools.package-dir\]\n(.*?)\n\n", PYPROJECT, re.M | re.S)[1]
    assert set(re.findall(r'"([\w.]+)"', listed)) == set(PACKAGES) - NOT_INSTALLED
    assert dict(re.findall(r'^"?([\w.]+)"? = "(\w+)"', mapped, re.M)) == FOLDERS
    for folder in FOLDERS.values():
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


@pytest.mark.parametrize(("package", "path"), SOURCES, ids=lambda value: getattr(value, "name", ""))
def test_imports_point_upward_only(package, path):
    for module in imports(path.read_text(), package):
        root = module.split(".")[0]
        assert root not in ("envs", "agents", "experiments"), f"{module}: a second copy of a class"
        if root == "metarl":
            assert layer_of(module) in MAY_IMPORT[layer_of(package)], (
                f"{path.name} imports {module}"
            )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import metarl.agents.rl2", "metarl.agents"),
        ("from metarl.agents import RL2", "metarl.agents"),
        ("def f():\n    from metarl import agents", "metarl.agents"),
        ("from . import x", "metarl.envs"),
        ("from metarl.tasks import Task", "metarl"),
    ],
)
def test_the_import_test_finds_imports(source, found):
    assert found in {layer_of(module) for module in imports(source, "metarl.envs")}


def graph():
    """Return which module imports which, wherever in the file and for whatever purpose."""
    names = {
        ".".join([package, *([] if path.stem == "__init__" else [path.stem])]): (package, path)
        for package, path in SOURCES
    }
    return {
        name: {module for module in imports(path.read_text(), package) if module in names} - {name}
        for name, (package, path) in names.items()
    }


def test_no_import_circle():
    # A package's __init__ gathers names for users; inside the house nobody goes through it.
    todo = {name: set(others) for name, others in graph().items()}
    while free := [name for name, others in todo.items() if not others]:
        for name in free:
            del todo[name]
        for others in todo.values():
            others.difference_update(free)
    assert not todo


def agent_of(module):
    """Return the folder of the agent that a module is part of, if any."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["metarl", "agents"] and parts[2:3][0:1] else None


def test_no_agent_imports_another_and_what_they_share_imports_none():
    for name, others in graph().items():
        own = agent_of(name)
        if own is None or f"metarl.agents.{own}" not in PACKAGES:
            continue  # agents/__init__.py and what gathers all agents
        for other in others:
            assert agent_of(other) not in AGENTS - {own}, f"{name} imports {other}"


def test_tests_do_not_import_the_bare_names():
    for path in (ROOT / "tests").rglob("*.py"):
        roots = {module.split(".")[0] for module in imports(path.read_text(), "tests")}
        assert roots.isdisjoint({"envs", "agents", "experiments"}), path.name


def test_importing_is_cheap_and_public_names_are_there():
    # What a simulator, a plot or a log needs is imported where it is used.
    code = """
import sys, metarl, metarl.envs
heavy = {"mujoco", "matplotlib", "tensorboard", "scipy.stats", "stable_baselines3", "rich", "torch"}
print(sorted(heavy & sys.modules.keys()))
print([name for name in metarl.__all__ if not hasattr(metarl, name)])
import metarl.experiments.cli.main  # the help and the version
print(sorted((heavy - {"rich"}) & sys.modules.keys()))
import metarl.agents
print(sorted({"mujoco", "matplotlib"} & sys.modules.keys()))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[:4] == ["[]"] * 4


def test_version_is_that_of_the_distribution():
    import importlib.metadata

    import metarl

    assert importlib.metadata.version("metarl-suite") == metarl.__version__


def test_what_is_required_has_permissive_licences():
    # docs/citation.md says so. The names are those of the packages' own metadata.
    permissive = re.compile(r"\b(MIT|BSD|Apache|Python Software Foundation|PSF)\b")
    todo, licences = ["metarl-suite"], {}
    while todo:
        name = todo.pop()
        metadata = importlib.metadata.metadata(name)
        classified = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
        stated = metadata.get("License-Expression") or " ".join(classified)
        licences[name] = stated or metadata.get("License") or "none"
        for requirement in map(Requirement, importlib.metadata.requires(name) or ()):
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            cuda = requirement.name.startswith(("nvidia", "cuda"))
            if needed and not cuda and requirement.name not in licences:
                todo.append(requirement.name)
    assert {"torch", "markupsafe"} <= {name.lower() for name in licences}
    assert not [name for name, text in licences.items() if not permissive.search(text)]
    assert not [name for name, text in licences.items() if re.search("GPL|General Public", text)]
