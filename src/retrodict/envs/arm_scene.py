"""The arm's scene in MuJoCo: bodies, looks, and the one renderer of a process.

Shadows, reflections and antialiasing are off: they take time on a CPU and show no action. A second renderer in one
process gives wrong pictures, so all arms share one: rows lend it their bodies and their look in turn.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from retrodict.errors import MissingPackage, UnusableInput
from retrodict.rng import numpy_rng

SIDE = 64  # pixels a side of every picture
SUBSTEPS, RATE = 10, 20  # physics steps (5 ms) in a control step; control steps a second
CAMERAS = ("front", "side")
TEXTURES = ("plain", "checker", "noise", "speckle", "stripes")
TEXELS = 32  # a side of the table's texture
COLOURS = {"disc": (0.85, 0.12, 0.12), "cube": (0.15, 0.3, 0.9), "hand": (0.85, 0.85, 0.85), "finger": (0.9, 0.8, 0.2)}
_DRIFT = 0.1  # largest change of a body's colour between levels, per channel (0..1)

_FINGER = """<body name="{0}" gravcomp="1"><joint name="{0}" type="slide" axis="{1} 0 0" range="0 .03" limited="true"/>
  <geom name="finger-{0}" type="box" size=".006 .012 .03" pos="{2} 0 .005" mass=".05" friction="2 .01 .001" condim="4"/>
</body>"""
_XML = f"""<mujoco model="arm">
  <option timestep=".005" cone="elliptic" impratio="10"/>
  <size memory="2M"/>
  <visual>
    <quality offsamples="0" shadowsize="0"/>
    <headlight ambient=".45 .45 .45" diffuse=".45 .45 .45" specular="0 0 0"/>
    <global offwidth="{SIDE}" offheight="{SIDE}"/>
    <map znear=".05" zfar="10"/>
  </visual>
  <asset>
    <texture name="table" type="2d" builtin="flat" width="{TEXELS}" height="{TEXELS}" rgb1="1 1 1"/>
    <material name="table" texture="table" reflectance="0" specular="0"/>
  </asset>
  <worldbody>
    <camera name="front" pos="0 -.86 .58" xyaxes="1 0 0 0 .5 .866" fovy="30"/>
    <camera name="side" pos=".86 0 .58" xyaxes="0 1 0 -.5 0 .866" fovy="30"/>
    <geom name="table" type="box" size=".3 .3 .02" pos="0 0 -.02" material="table"/>
    <body name="disc" mocap="true">
      <geom name="disc" type="cylinder" size=".03 .002" contype="0" conaffinity="0"/>
    </body>
    <body name="cube"><freejoint/>
      <geom name="cube" type="box" size=".02 .02 .02" mass=".05" friction="1.5 .01 .001" condim="4"/>
    </body>
    <body name="hand" gravcomp="1">
      <joint name="x" type="slide" axis="1 0 0" range="-.2 .2" limited="true"/>
      <joint name="y" type="slide" axis="0 1 0" range="-.2 .2" limited="true"/>
      <joint name="z" type="slide" axis="0 0 1" range=".03 .22" limited="true"/>
      <geom name="hand-palm" type="box" size=".04 .015 .012" pos="0 0 .047" mass=".5"/>
      <geom name="hand-wrist" type="cylinder" size=".012 .1" pos="0 0 .155" mass=".5" contype="0" conaffinity="0"/>
      {_FINGER.format("left", "1", ".006")}
      {_FINGER.format("right", "-1", "-.006")}
    </body>
  </worldbody>
  <actuator>
    <velocity joint="x" kv="150"/><velocity joint="y" kv="150"/><velocity joint="z" kv="150"/>
    <position joint="left" kp="150" kv="6" forcerange="-8 8"/>
    <position joint="right" kp="150" kv="6" forcerange="-8 8"/>
  </actuator>
</mujoco>"""
CUBE, HAND, FINGERS = slice(0, 7), slice(7, 10), slice(10, 12)  # where in qpos

Look = tuple[UInt8[np.ndarray, "texels"], Float[np.ndarray, "geoms 3"]]


class Scene:
    """MuJoCo's model of the arm and an offscreen picture of SIDE x SIDE pixels; use `scene()` to get the only one."""

    def __init__(self) -> None:
        try:
            import mujoco
        except ImportError as error:
            raise MissingPackage("mujoco", "the arm", "pip install 'retrodict[arm]'") from error
        self.mj: Any = mujoco
        self.model = mujoco.MjModel.from_xml_string(_XML)
        self._context, self._drawing = _canvas(mujoco, self.model)
        self._scene, self._options = mujoco.MjvScene(self.model, 32), mujoco.MjvOption()
        for name in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE", "FOG"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{name}")] = 0
        self._camera, self._rect = mujoco.MjvCamera(), mujoco.MjrRect(0, 0, SIDE, SIDE)
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._parts = [mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_GEOM, i) for i in range(self.model.ngeom)]

    def data(self) -> Any:
        """Makes the bodies of one row."""
        return self.mj.MjData(self.model)

    def draw(self, data: Any, look: Look, cameras: Sequence[str]) -> UInt8[np.ndarray, "h w c"]:
        """Draws one row as its level looks; cameras stack on the channels."""
        mj, (texels, colours) = self.mj, look
        self._context.make_current()
        self.model.tex_data[: texels.size] = texels
        mj.mjr_uploadTexture(self.model, self._drawing, 0)
        self.model.geom_rgba[:, :3] = colours
        mj.mj_kinematics(self.model, data)  # a step leaves the places of 5 ms before; nothing that moves is changed
        mj.mj_camlight(self.model, data)
        picture = np.zeros((len(cameras), SIDE, SIDE, 3), np.uint8)
        for number, name in enumerate(cameras):
            self._camera.fixedcamid = CAMERAS.index(name)
            every = mj.mjtCatBit.mjCAT_ALL
            mj.mjv_updateScene(self.model, data, self._options, None, self._camera, every, self._scene)
            mj.mjr_render(self._rect, self._scene, self._drawing)
            mj.mjr_readPixels(picture[number], None, self._rect, self._drawing)
        return np.concatenate(list(picture[:, ::-1]), -1)  # OpenGL's rows go up

    def look(self, kinds: tuple[str, ...], seed: int) -> Look:
        """Returns the table's texture (of one of the kinds) and the colours of all bodies in a level."""
        rng = numpy_rng(seed, "arm/look")
        texels = _texture(kinds[int(rng.integers(len(kinds)))], rng)
        drift = {name: rng.uniform(-_DRIFT, _DRIFT, 3) for name in COLOURS}
        colours = np.ones((len(self._parts), 3))  # white, so that the table shows its texture as it is
        for number, part in enumerate(self._parts):
            if (name := part.partition("-")[0]) in COLOURS:
                colours[number] = np.clip(np.array(COLOURS[name]) + drift[name], 0, 1)
        return texels, colours


@lru_cache(maxsize=1)
def scene() -> Scene:
    """Returns this process's scene.

    Raises:
        MissingPackage: mujoco is not installed.
        UnusableInput: nothing here can draw.
    """
    return Scene()


def _canvas(mujoco: Any, model: Any) -> tuple[Any, Any]:
    """Makes an OpenGL context and MuJoCo's drawing state in it; EGL, unless MUJOCO_GL names another."""
    backend = os.environ.get("MUJOCO_GL") or "egl"
    try:
        context = import_module(f"mujoco.{backend}").GLContext(SIDE, SIDE)
        atexit.register(context.free)  # while the library is still there
        context.make_current()
        drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    except (ImportError, AttributeError, OSError, RuntimeError, mujoco.FatalError) as error:  # as the libraries raise
        raise UnusableInput(
            f"the arm is drawn by OpenGL through {backend}, which does not work here ({error}). Install it with: apt "
            "install libegl1 libgl1 libgl1-mesa-dri; or, with libosmesa6, set MUJOCO_GL=osmesa"
        ) from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawing)
    return context, drawing


def _texture(kind: str, rng: np.random.Generator) -> UInt8[np.ndarray, "texels"]:
    # Greys with a faint tint: saturated tables would hide the disc and the cube, which is another task.
    first, second = (rng.integers(low, high) + rng.integers(-12, 13, 3) for low, high in ((40, 110), (130, 200)))
    y, x = np.mgrid[:TEXELS, :TEXELS]
    cell, slope = int(rng.integers(2, 7)), int(rng.integers(-1, 2))
    if kind == "plain":
        share = np.zeros((TEXELS, TEXELS))
    elif kind == "checker":
        share = ((y // cell + x // cell) % 2).astype(float)
    elif kind == "noise":
        knots, at = rng.random((9, 9)), np.arange(TEXELS) / 4
        rows = np.stack([np.interp(at, np.arange(9), line) for line in knots])
        share = np.stack([np.interp(at, np.arange(9), line) for line in rows.T], 1)
    elif kind == "speckle":
        share = (rng.random((TEXELS, TEXELS)) < 0.15).astype(float)
    else:
        share = (((y + slope * x) // cell) % 2).astype(float)
    return (first + share[..., None] * (second - first)).astype(np.uint8).reshape(-1)
