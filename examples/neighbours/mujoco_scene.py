"""Renders a physics scene with MuJoCo's own renderer, without a display.

    moderngl-colab run -- python mujoco_scene.py --output mujoco.png

In a notebook, before the first import of mujoco (it reads MUJOCO_GL, which this sets, there)::

    os.environ.update(moderngl_colab.prepare_environment())
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import mujoco  # type: ignore[import-untyped]
from OpenGL import GL  # type: ignore[import-untyped]  # after mujoco, which chooses its platform
from PIL import Image

SIZE = (640, 480)
SECONDS = 0.72  # when the ball is amid the blocks

SCENE = """
<mujoco>
  <visual>
    <headlight ambient=".3 .3 .3" diffuse=".35 .35 .35"/>
    <quality shadowsize="2048" offsamples="4"/>
    <global offwidth="640" offheight="480"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".55 .7 .9" rgb2=".95 .97 1"
      width="256" height="256"/>
    <texture name="floor" type="2d" builtin="checker" rgb1=".28 .32 .38" rgb2=".36 .41 .48"
      width="512" height="512"/>
    <material name="floor" texture="floor" texrepeat="8 8" reflectance=".25"/>
  </asset>
  <worldbody>
    <light pos="1.5 -2 4" dir="-.35 .45 -1" diffuse=".75 .75 .7" castshadow="true"/>
    <camera name="view" mode="targetbody" target="ball" pos="-2.7 -1.8 1.4"/>
    <geom type="plane" size="6 6 .1" material="floor"/>
    BLOCKS
    <body name="ball" pos="-2.6 0 .3">
      <freejoint/>
      <geom type="sphere" size=".24" density="4000" rgba=".85 .16 .12 1"/>
    </body>
  </worldbody>
</mujoco>
"""

BLOCK = """
    <body pos="0 {y} {z}">
      <freejoint/>
      <geom type="box" size=".14 .14 .14" rgba="{colour} 1"/>
    </body>"""
COLOURS = ("0.95 0.75 0.2", "0.2 0.55 0.85", "0.3 0.7 0.45", "0.95 0.95 0.92")


def scene() -> str:
    places = [(0.3 * (column - 1.5), 0.14 + 0.28 * row) for row in range(4) for column in range(4)]
    blocks = (
        BLOCK.format(y=y, z=z, colour=COLOURS[(index + index // 4) % 4])
        for index, (y, z) in enumerate(places)
    )
    return SCENE.replace("BLOCKS", "".join(blocks))


def png(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".png" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.png in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=png, default="mujoco.png", metavar="FILE.png")
    output: Path = parser.parse_args().output

    model = mujoco.MjModel.from_xml_string(scene())
    data = mujoco.MjData(model)
    data.qvel[-6] = 6.0  # the ball's speed along x, in metres per second
    while data.time < SECONDS:
        mujoco.mj_step(model, data)
    with mujoco.Renderer(model, height=SIZE[1], width=SIZE[0]) as renderer:
        renderer.update_scene(data, camera="view")
        Image.fromarray(renderer.render()).save(output)
        print(f"vendor    {GL.glGetString(GL.GL_VENDOR).decode()}")
        print(f"renderer  {GL.glGetString(GL.GL_RENDERER).decode()}")
    print(f"picture   {output.absolute()}")


if __name__ == "__main__":
    main()
