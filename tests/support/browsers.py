"""The browser that pages are opened in."""

import os
import shutil

import pytest


def chromium():
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None and not os.environ.get("METARL_NEEDS_CHROMIUM"):
        pytest.skip("no Chromium on this machine")
    assert found is not None, "Chromium is needed here, and is not installed"
    return found
