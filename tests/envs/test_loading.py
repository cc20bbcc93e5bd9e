"""Families named by where they are: ``my_package.my_module:tasks``."""

import sys
import textwrap

import pytest

from metarl.envs import make


@pytest.fixture
def my_family(tmp_path, monkeypatch):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "poles.py").write_text(
        textwrap.dedent(
            """
            from metarl import Uniform
            from metarl.envs import from_gymnasium

            def build():
                return from_gymnasium("CartPole-v1", {"gravity": Uniform(5.0, 15.0)}, name="pole")

            tasks = build()
            number = 3
            """
        )
    )
    (tmp_path / "my_package" / "broken.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    yield
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]


@pytest.mark.usefixtures("my_family")
def test_a_family_is_loaded_from_a_module():
    assert make("my_package.poles:tasks").name == "pole"
    view = make("my_package.poles:tasks", train_split="held_out", num_train_tasks=4, oracle=True)
    assert view.label == "pole (trained on held_out, 4 training tasks, oracle)"
    assert make("my_package.poles:build").make_vec(2).num_envs == 2


@pytest.mark.usefixtures("my_family")
@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("my_package.poles:task", ValueError, "has no 'task'; did you mean 'tasks'"),
        ("my_package.poles:number", TypeError, "must be a TaskDistribution .* got 3"),
        ("my_package.pole:tasks", ValueError, "no module 'my_package.pole' in "),
        ("your_package.poles:tasks", ValueError, "no module 'your_package' in "),
        ("my_package.broken:tasks", ModuleNotFoundError, "not_installed_anywhere"),
        ("./my_package/poles.py:tasks", ValueError, "for example 'my_package.poles:tasks'"),
        ("my_package.poles:", ValueError, "named module:attribute"),
    ],
)
def test_a_family_that_cannot_be_loaded(name, error, match):
    with pytest.raises(error, match=match):
        make(name)
