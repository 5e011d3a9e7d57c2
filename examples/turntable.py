"""Films a mesh on a turntable, in clay, with smooth normals and the shadow of one large lamp."""

from __future__ import annotations

import argparse
import math
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # trimesh swallows KeyboardInterrupt

try:
    import moderngl
    import numpy as np
    import numpy.typing as npt
    import trimesh
    from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]
    from PIL import Image

    import moderngl_colab
except ImportError as error:
    sys.exit(f'turntable.py: error: {error}; pip install "moderngl_colab[examples]"')

Floats = npt.NDArray[np.float32]

SPOT = Path(__file__).parent / "meshes" / "spot.obj"
CREASE = math.radians(40)  # edges that are bent by more stay sharp
FPS = 30
SHADOW = 1024  # the shadow map's side, in texels
CAMERA = np.array([0.0, 0.36, 0.93])  # where it is, seen from the middle
LAMP = np.array([-0.52, 0.72, 0.46])

COMMON = """
#version 330
uniform vec2 turn;  // the cosine and the sine
uniform mat3 camera;  // to its right, up, and towards it
uniform mat3 lamp;  // the same of the lamp
uniform vec2 zoom;
uniform float ground;
const float AWAY = 2.85;  // the camera's distance, from which all within 1 of the middle is seen

vec3 turned(vec3 v) { return vec3(turn.x * v.x + turn.y * v.z, v.y, turn.x * v.z - turn.y * v.x); }
vec3 on_map(vec3 point) { return 0.5 + 0.5 * point * lamp; }
"""
LIGHT = """
uniform sampler2D shadows;

// From 0 to 1; unlike that of its neighbours.
float noise() { return fract(52.98 * fract(dot(gl_FragCoord.xy, vec2(0.0671, 0.00584)))); }

// Which share of the map around a place is nearer to the lamp, and by how much.
vec2 above(vec3 at, float radius, float spin) {
    float taps = 0.0, sum = 0.0;
    for (int tap = 0; tap < 14; tap++) {
        float way = spin + 2.4 * tap;
        vec2 there = at.xy + radius * sqrt((tap + 0.5) / 14.0) * vec2(cos(way), sin(way));
        float nearer = 1.0 - textureLod(shadows, there, 0.0).x - at.z;
        taps += float(nearer > 0.01);
        sum += nearer > 0.01 ? nearer : 0.0;
    }
    return vec2(taps / 14.0, sum / max(taps, 1.0));
}

// How much of the lamp is seen from a point: the farther off what shades it, the softer.
float seen(vec3 point) {
    vec3 at = on_map(point);
    if (max(abs(at.x - 0.5), abs(at.y - 0.5)) > 0.5)
        return 1.0;
    at.z = max(at.z, 0.0);  // where nothing is, the map says 0
    // The same taps everywhere would show; turned by a number of the pixel's own they are grain.
    float spin = 6.2832 * noise();
    vec2 blockers = above(at, 0.07, spin);
    return blockers.x > 0.0 ? 1.0 - above(at, clamp(0.16 * blockers.y, 0.004, 0.07), spin).x : 1.0;
}

// To what a screen shows, and a little noise against bands.
vec4 shown(vec3 light) {
    return vec4(pow(light, vec3(1.0 / 2.2)) + (noise() - 0.5) / 255.0, 1.0);
}
"""
SHADOW_VERTEX_SHADER = """
in vec3 position;
void main() {
    vec3 at = on_map(turned(position));
    gl_Position = vec4(2.0 * at.xy - 1.0, 1.0 - 2.0 * at.z, 1.0);
}
"""
SHADOW_FRAGMENT_SHADER = "#version 330\nvoid main() {}\n"
VERTEX_SHADER = """
in vec3 position;
in vec3 normal;
out vec3 point;
out vec3 facing;
void main() {
    point = turned(position);
    facing = turned(normal);
    vec3 at = point * camera;
    gl_Position = vec4(zoom * at.xy, 1.0 - AWAY * at.z, AWAY - at.z);
}
"""
FRAGMENT_SHADER = """
in vec3 point;
in vec3 facing;
out vec4 fragment;
void main() {
    vec3 to_eye = normalize(AWAY * camera[2] - point), to_lamp = lamp[2];
    vec3 normal = normalize(gl_FrontFacing ? facing : -facing);  // Open meshes show their inside.
    float light = max(dot(normal, to_lamp), 0.0);
    if (light > 0.0)
        light *= seen(point + 0.02 * normal);
    float open = smoothstep(-0.1, 0.5, point.y - ground + 0.25 * normal.y);  // near the ground?
    vec3 sky = mix(vec3(0.30, 0.24, 0.20), vec3(0.42, 0.50, 0.62), 0.5 + 0.5 * normal.y);
    vec3 clay = vec3(0.60, 0.235, 0.12);
    float gloss = pow(max(dot(normal, normalize(to_lamp + to_eye)), 0.0), 40.0);
    float rim = pow(1.0 - max(dot(normal, to_eye), 0.0), 4.0);
    vec3 color = clay * (1.1 * light * vec3(1.0, 0.92, 0.80) + sky * (0.25 + 0.75 * open));
    fragment = shown(color + 0.18 * gloss * light + 0.16 * rim * sky);
}
"""
BACKDROP_VERTEX_SHADER = """
out vec3 ray;
void main() {  // one triangle that covers everything
    vec2 at = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
    ray = camera * vec3(at / zoom, -1.0);
    gl_Position = vec4(at, 0.0, 1.0);
}
"""
BACKDROP_FRAGMENT_SHADER = """
in vec3 ray;
out vec4 fragment;
void main() {
    vec3 point = AWAY * camera[2];
    point += (ground - point.y) / min(ray.y, -0.0001) * ray;
    float far = length(point.xz);
    vec3 color = mix(vec3(0.50, 0.53, 0.55), vec3(0.10, 0.125, 0.16), far / (far + 8.0));
    if (far < 4.0) {
        float touch = smoothstep(1.1, 0.0, far);  // what the mesh takes of the sky's light
        color *= (0.35 + 0.65 * seen(point)) * (1.0 - 0.2 * touch);
    }
    fragment = shown(color);
}
"""


def load(path: Path, up: str) -> Floats:
    """Read a mesh: position and normal of each corner of its triangles (n x 6), within 1 of 0.

    Raises ValueError where there is nothing to see; what else trimesh raises is many things.
    """
    mesh = trimesh.load_scene(path, process=False).to_mesh()
    mesh.remove_unreferenced_vertices()
    if not len(mesh.faces):
        raise ValueError("no triangles are in it")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError("a vertex of its triangles is not finite")
    mesh.vertices /= mesh.scale  # or all that is within 1e-8 would be one
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    mesh.update_faces(mesh.nondegenerate_faces())
    if not len(mesh.faces):
        raise ValueError("none of its triangles has an area")
    if path.samefile(SPOT):  # which says little more than where its surface is to be
        mesh = mesh.subdivide_loop(3)
        mesh.vertices *= (-1.0, 1.0, -1.0)  # the front is forward
    mesh.vertices -= mesh.bounds.mean(axis=0)
    mesh.vertices /= 1.12 * np.linalg.norm(mesh.vertices, axis=1).max()
    corners = np.hstack([mesh.vertices[mesh.faces.ravel()], smooth_normals(mesh)])
    if up == "z":
        corners = corners[:, [1, 2, 0, 4, 5, 3]]
    return np.ascontiguousarray(corners, "f4")


def smooth_normals(mesh: trimesh.Trimesh) -> Floats:
    """The normal at each corner of each face (n x 3): of the faces that join smoothly there."""
    soft = mesh.face_adjacency_angles < CREASE
    pairs, edges = mesh.face_adjacency[soft], mesh.face_adjacency_edges[soft]
    corner = (mesh.faces[pairs][:, :, None] == edges[:, None, :, None]).argmax(axis=3)
    one, other = (3 * pairs[:, :, None] + corner).swapaxes(0, 1).reshape(2, -1)
    group = np.arange(mesh.faces.size)
    before = np.zeros_like(group)
    while (group != before).any():  # Of those that join, the least number is their group's.
        before = group.copy()
        least = np.minimum(group[one], group[other])
        np.minimum.at(group, one, least)
        np.minimum.at(group, other, least)
        group = group[group]
    areas = np.repeat(mesh.face_normals * mesh.area_faces[:, None], 3, axis=0)
    normals = np.stack([np.bincount(group, axis, group.size) for axis in areas.T], axis=1)
    return normals[group].astype("f4")


def basis(towards: Any) -> Any:
    """What is to the right, up, and towards, seen from there; a row each."""
    towards = towards / np.linalg.norm(towards)
    right = np.cross([0.0, 1.0, 0.0], towards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards])


class Turntable:
    """Draws a mesh, turned by any angle."""

    def __init__(self, ctx: moderngl.Context, corners: Floats, size: tuple[int, int]) -> None:
        width, height = size
        self.ctx = ctx
        buffer = ctx.buffer(corners)
        program = ctx.program(COMMON + VERTEX_SHADER, COMMON + LIGHT + FRAGMENT_SHADER)
        self.mesh = ctx.vertex_array(program, buffer, "position", "normal")
        program = ctx.program(COMMON + SHADOW_VERTEX_SHADER, SHADOW_FRAGMENT_SHADER)
        self.shadow = ctx.vertex_array(program, [(buffer, "3f 12x", "position")])
        program = ctx.program(
            COMMON + BACKDROP_VERTEX_SHADER, COMMON + LIGHT + BACKDROP_FRAGMENT_SHADER
        )
        self.backdrop = ctx.vertex_array(program, [])
        self.shadow_map = ctx.depth_texture((SHADOW, SHADOW))
        self.shadow_map.compare_func = ""
        self.shadow_map.repeat_x = self.shadow_map.repeat_y = False
        self.shadow_map.use()
        self.shadow_target = ctx.framebuffer(depth_attachment=self.shadow_map)
        self.canvas = ctx.simple_framebuffer(size, samples=min(4, ctx.max_samples))
        self.picture = ctx.simple_framebuffer(size)

        self.known = {
            "camera": basis(CAMERA),
            "lamp": basis(LAMP),
            "zoom": (2.67 * min(1.0, height / width), 2.67 * min(1.0, width / height)),
            "ground": corners[:, 1].min(),
        }

    def draw(self, angle: float) -> Image.Image:
        """A picture of the mesh, turned by an angle in radians."""
        known = self.known | {"turn": (math.cos(angle), math.sin(angle))}
        for vertices in (self.shadow, self.backdrop, self.mesh):
            for name, value in known.items():
                if isinstance(uniform := vertices.program.get(name, None), moderngl.Uniform):
                    uniform.write(np.array(value, "f4").tobytes())
        self.shadow_target.use()
        self.shadow_target.clear()
        self.ctx.enable(moderngl.DEPTH_TEST)
        self.shadow.render()
        self.canvas.use()
        self.canvas.clear()
        self.ctx.disable(moderngl.DEPTH_TEST)
        self.backdrop.render(vertices=3)
        self.ctx.enable(moderngl.DEPTH_TEST)
        self.mesh.render()
        self.ctx.copy_framebuffer(self.picture, self.canvas)
        fbo = self.picture
        # OpenGL's rows begin at the bottom.
        return Image.frombytes("RGB", fbo.size, fbo.read()).transpose(
            Image.Transpose.FLIP_TOP_BOTTOM
        )


def film(frames: Iterable[Image.Image], size: tuple[int, int], output: Path) -> None:
    """Write an MP4; only a whole one replaces an older one. Raises OSError, with ffmpeg's words."""
    part = output.absolute().with_name(f".turntable-{secrets.token_hex(8)}.mp4")
    how = "-v error -y -f rawvideo -pix_fmt rgb24 -r {} -s {}x{} -i - -pix_fmt yuv420p -crf 18"
    command = [get_ffmpeg_exe(), *how.format(FPS, *size).split(), part]
    ffmpeg: Any = Popen(command, stdin=PIPE, stderr=PIPE, process_group=0)  # Ctrl-C is not for it
    try:
        for frame in frames:
            try:
                ffmpeg.stdin.write(frame.tobytes())
            except BrokenPipeError:
                break  # it says why
        _, said = ffmpeg.communicate()
        if ffmpeg.returncode:
            first = said.decode().partition("\n")[0].rpartition("] ")[2] or "it said nothing"
            raise OSError(f"ffmpeg ended with {ffmpeg.returncode}: {first}")
        part.replace(output)
    finally:
        ffmpeg.kill()
        ffmpeg.communicate()
        part.unlink(missing_ok=True)


def pixels(text: str) -> tuple[int, int]:
    sides = (
        [int(side) for side in text.split("x")] if re.fullmatch(r"\d{1,4}x\d{1,4}", text) else []
    )
    if not sides or min(sides) < 2 or max(sides) > 4096 or any(side % 2 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not WxH, even numbers from 2 to 4096")
    return sides[0], sides[1]


def existing(text: str) -> Path:
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no file")
    return Path(text)


def number(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 99999")
    return int(text)


def mp4(text: str) -> Path:
    suffix, folder = Path(text).suffix.lower(), os.path.dirname(text) or "."
    if suffix != ".mp4" or os.path.isdir(text) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.mp4 in a folder to write to")
    return Path(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--mesh",
        type=existing,
        default=SPOT,
        metavar="FILE",
        help=".obj, .ply, .stl, .glb ...; default: a cow",
    )
    add("--up", choices=("y", "z"), default="y", help="which axis is up; default: %(default)s")
    add(
        "--size", type=pixels, default="512x512", metavar="WxH", help="pixels; default: %(default)s"
    )
    add("--count", type=number, default=96, metavar="N", help="frames; default: %(default)s")
    add("--output", type=mp4, default="turntable.mp4", metavar="FILE.mp4")
    asked = parser.parse_args()
    try:
        if not shutil.which(ffmpeg := get_ffmpeg_exe()):
            raise RuntimeError(f"IMAGEIO_FFMPEG_EXE={ffmpeg!r} is no ffmpeg that can be run")
    except RuntimeError as error:
        parser.error(str(error))
    try:
        corners = load(asked.mesh, asked.up)
    except Exception as error:  # noqa: BLE001  - trimesh's readers raise whatever comes
        why = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, ImportError):
            why += '; pip install "trimesh[easy]"'
        parser.error(f"argument --mesh: trimesh cannot read {str(asked.mesh)!r}: {why}")

    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)  # It raises KeyboardInterrupt.
    ctx = moderngl_colab.get_gpu_context()
    info = moderngl_colab.describe(ctx)
    table = Turntable(ctx, corners, asked.size)
    started = time.perf_counter()
    angles = (math.tau * frame / asked.count - 0.6 for frame in range(asked.count))
    try:
        film(map(table.draw, angles), asked.size, asked.output)
    except OSError as error:
        sys.exit(f"{parser.prog}: error: {asked.output}: {error.strerror or error}")
    seconds = time.perf_counter() - started
    ctx.release()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # All is saved: who reads no more may end this.
    print(f"strategy  {info.strategy}")
    print(f"vendor    {info.vendor}")
    print(f"renderer  {info.renderer}")
    print(f"version   {info.version}")
    print(f"frames    {asked.count} in {seconds:.1f} s")
    print(f"film      {asked.output.absolute()}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("turntable.py: stopped")
