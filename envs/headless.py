"""Drawing where there is no screen."""

import os
import sys


def prefer_egl() -> None:
    """Let MuJoCo draw without a window where there is no screen, unless the user has chosen.

    Gymnasium tries to open a window first, which fails.
    """
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("MUJOCO_GL", "egl")
