"""Settings of all tests."""

import io
from pathlib import Path

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metarl.evaluation import plotting
from metarl.files import atomic_write

# Failing asserts in helpers show what they compare, as those in tests do.
pytest.register_assert_rewrite("command_line", "saved_agents")

# Toy networks gain nothing from threads, and two test runs side by side lose much.
torch.set_num_threads(1)


@pytest.fixture
def results():
    """The folder of all results; an sdist has but a few agents."""
    folder = Path(__file__).parents[1] / "experiments" / "results"
    if not (folder / "classical").is_dir():
        pytest.skip("the results are in the repository only")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _what_tests_trust_the_user_does_not(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


def _empty_figure(curves, title, path=None):
    figure = Figure(figsize=(2.4, 1.2))
    FigureCanvasAgg(figure)
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture)
        atomic_write(path, picture.getvalue())
    return figure


@pytest.fixture(scope="session", autouse=True)
def _figures_are_empty():
    # Drawing takes more than half of a short run's time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plotting, "plot_curves", _empty_figure)
        yield


@pytest.fixture
def figures(monkeypatch, plot_curves=plotting.plot_curves):
    """Curves are drawn: for tests that look at them."""
    monkeypatch.setattr(plotting, "plot_curves", plot_curves)
