"""Settings of all tests."""

from pathlib import Path

import pytest
import torch

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
