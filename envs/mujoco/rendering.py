"""Pictures of the robots of a batch, through gymnasium's renderer."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.headless import prefer_egl
from metarl.errors import MissingPackageError, RenderingError

WIDTH, HEIGHT = 320, 240
"""The size of a picture in pixels; without a graphics card, time grows with their number."""


class BatchRenderer:
    """Draws the simulations of a ``mujoco.batch.Batch``, each with its own model fields.

    The picture is that of gymnasium's camera "track", rolled so that gravity points down in it:
    where gravity is tilted, which is how a slope is simulated, the floor is tilted in the picture.
    It is infinite, as in the simulation.

    Args:
        batch: The batch.

    Raises:
        ImportError: If a package that drawing needs is missing.
    """

    def __init__(self, batch: Any):
        import mujoco

        try:
            from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
        except ImportError as error:
            raise MissingPackageError(
                f"pictures need {error.name}: pip install 'metarl-suite[video]'"
            ) from error
        prefer_egl()
        self._batch = batch
        self._model = batch.get_model(0)
        self._data = mujoco.MjData(self._model)
        self._camera = self._model.camera("track").id
        planes = self._model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
        self._floors = planes & (self._model.geom_matid >= 0)
        self._upright = batch.model.cam_mat0[self._camera].reshape(3, 3).copy()
        # Shadows would take two thirds of the time and leave black specks on tilted floors.
        self._model.vis.quality.shadowsize = 0
        self._renderer = MujocoRenderer(
            self._model, self._data, width=WIDTH, height=HEIGHT, camera_name="track"
        )

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """Return a picture of each simulation, of shape (HEIGHT, WIDTH, 3).

        Raises:
            RuntimeError: If there is no OpenGL to draw with.
        """
        return tuple(self._draw(sim) for sim in range(self._batch.nsim))

    def _draw(self, sim: int) -> NDArray[np.uint8]:
        import mujoco

        # One model and one data serve all simulations: each is copied into them to be drawn.
        self._batch.get_model(sim, self._model)
        self._batch.get_data(sim, self._data)
        # Robots stand on a plane beyond its drawn end, too: without a size it has none, and its
        # texture is repeated so often in a metre, instead of on the whole.
        sizes, materials = self._model.geom_size, self._model.geom_matid[self._floors]
        self._model.mat_texrepeat[materials] /= 2.0 * sizes[self._floors, :2]
        sizes[self._floors, :2] = 0.0
        x, _, z = self._model.opt.gravity
        tilt = math.atan2(-x, -z)
        c, s = math.cos(tilt), math.sin(tilt)
        roll = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        self._model.cam_mat0[self._camera] = (roll @ self._upright).ravel()
        mujoco.mj_forward(self._model, self._data)
        try:
            frame: NDArray[np.uint8] = self._renderer.render("rgb_array")
        except Exception as error:  # every OpenGL platform fails in its own way
            raise RenderingError(
                "cannot draw: no OpenGL. Without a screen, set MUJOCO_GL=egl (needs libegl1) or "
                "MUJOCO_GL=osmesa (needs libosmesa6) before Python starts"
            ) from error
        return frame

    def close(self) -> None:
        """Free the drawing context."""
        self._renderer.close()  # type: ignore[no-untyped-call]
