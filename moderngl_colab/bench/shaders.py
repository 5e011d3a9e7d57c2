"""The shaders of the scenes. Their pictures depend on `turn` and on nothing else, size included."""

from __future__ import annotations

__all__ = ["COPY", "FILL", "KNOT", "KNOT_COLOUR", "WHOLE"]

WHOLE = """
#version 330 core
void main() {
    vec2 corner = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
    gl_Position = vec4(2.0 * corner - 1.0, 0.0, 1.0);
}
"""
"""A triangle over everything, of three vertices without attributes."""

FILL = """
#version 330 core
uniform float turn;
uniform vec2 size;
out vec4 pixel;

const int STEPS = 72, SHADOW_STEPS = 20;
const float FAR = 16.0;

float ring(vec3 p, float radius, float thickness) {
    return length(vec2(length(p.xz) - radius, p.y)) - thickness;
}

// Two links of a chain and a ball, on a floor: the distance, and which of them it is.
vec2 scene(vec3 p) {
    float a = ring(p - vec3(-0.75, 0.0, 0.0), 1.0, 0.28);
    float b = ring(vec3(p.x - 0.75, p.z, p.y), 1.0, 0.28);
    float ball = length(p - vec3(0.2, -0.72, 1.75)) - 0.56;
    float floor_ = p.y + 1.28;
    vec2 nearest = a < b ? vec2(a, 1.0) : vec2(b, 2.0);
    nearest = ball < nearest.x ? vec2(ball, 3.0) : nearest;
    return floor_ < nearest.x ? vec2(floor_, 0.0) : nearest;
}

vec3 normal(vec3 p) {
    vec2 e = vec2(1.0, -1.0) * 0.001;
    return normalize(e.xyy * scene(p + e.xyy).x + e.yyx * scene(p + e.yyx).x
                     + e.yxy * scene(p + e.yxy).x + e.xxx * scene(p + e.xxx).x);
}

float lit(vec3 p, vec3 light) {
    float share = 1.0, way = 0.05;
    for (int i = 0; i < SHADOW_STEPS; i++) {
        float near = scene(p + way * light).x;
        share = min(share, 7.0 * near / way);
        way += clamp(near, 0.05, 0.4);
    }
    return smoothstep(0.0, 1.0, clamp(share, 0.0, 1.0));
}

vec3 sky(vec3 ray) {
    return mix(vec3(0.93, 0.72, 0.55), vec3(0.16, 0.30, 0.55), smoothstep(-0.12, 0.45, ray.y));
}

vec3 material(float what, vec3 p) {
    if (what < 0.5) {
        vec2 wave = sin(p.xz * 3.1415927);
        float square = smoothstep(-0.08, 0.08, wave.x * wave.y);
        return mix(vec3(0.20, 0.22, 0.26), vec3(0.72, 0.70, 0.66), square);
    }
    if (what < 1.5) return vec3(0.95, 0.60, 0.14);
    if (what < 2.5) return vec3(0.36, 0.70, 0.10);
    return vec3(0.78, 0.16, 0.20);
}

void main() {
    float angle = 0.9 + 6.2831853 * turn;
    vec3 eye = vec3(5.2 * cos(angle), 1.9, 5.2 * sin(angle));
    vec3 ahead = normalize(vec3(0.0, -0.3, 0.35) - eye);
    vec3 right = normalize(cross(ahead, vec3(0.0, 1.0, 0.0)));
    vec2 place = (2.0 * gl_FragCoord.xy / size - 1.0) * vec2(16.0 / 9.0, 1.0);
    vec3 ray = normalize(2.15 * ahead + place.x * right + place.y * cross(right, ahead));

    float way = 0.0;
    vec2 met = vec2(0.0);
    for (int i = 0; i < STEPS; i++) {
        met = scene(eye + way * ray);
        if (met.x < 0.0008 * way || way > FAR) break;
        way += met.x;
    }
    vec3 colour = sky(ray);
    if (way < FAR) {
        vec3 p = eye + way * ray;
        vec3 n = normal(p);
        vec3 light = normalize(vec3(0.45, 0.85, 0.30));
        float shadow = lit(p + 0.01 * n, light);
        float diffuse = max(dot(n, light), 0.0) * shadow;
        float shine = pow(max(dot(n, normalize(light - ray)), 0.0), 48.0) * shadow;
        float rim = pow(1.0 - max(dot(n, -ray), 0.0), 4.0);
        vec3 base = material(met.y, p);
        vec3 ambient = mix(vec3(0.20, 0.17, 0.15), vec3(0.26, 0.32, 0.42), 0.5 + 0.5 * n.y);
        vec3 there = base * (ambient + 0.95 * diffuse);
        there += met.y < 0.5 ? vec3(0.0) : 0.55 * shine + 0.35 * rim * sky(reflect(ray, n));
        colour = mix(colour, there, exp(-0.00007 * way * way * way * way));
    }
    pixel = vec4(sqrt(clamp(colour, 0.0, 1.0)), 1.0);
}
"""
"""A ray-marched scene: all the work is in the pixels."""

KNOT = """
#version 330 core
uniform float turn;
uniform ivec2 grid;
out vec3 towards;
out vec3 tint;

const float TURN = 6.2831853;

vec3 knot(float t) {
    float out_ = 1.5 + 0.62 * cos(3.0 * t);
    return vec3(out_ * cos(2.0 * t), out_ * sin(2.0 * t), 0.62 * sin(3.0 * t));
}

// A point of the tube around the knot, whose surface is waved.
vec3 surface(float along, float around) {
    vec3 centre = knot(along), ahead = normalize(knot(along + 0.001) - centre);
    vec3 side = normalize(cross(ahead, vec3(0.0, 0.0, 1.0)));
    vec3 direction = cos(around) * side + sin(around) * cross(side, ahead);
    return centre + (0.34 + 0.035 * sin(60.0 * along + 6.0 * around)) * direction;
}

void main() {
    vec2 place = vec2(gl_VertexID / grid.y, gl_VertexID % grid.y) / vec2(grid) * TURN;
    vec3 p = surface(place.x, place.y);
    vec3 n = normalize(cross(surface(place.x + 0.0005, place.y) - p,
                             surface(place.x, place.y + 0.002) - p));
    float c = cos(TURN * (turn + 0.5)), s = sin(TURN * (turn + 0.5));
    mat3 turned = mat3(c, 0.0, -s, 0.0, 1.0, 0.0, s, 0.0, c)
                * mat3(1.0, 0.0, 0.0, 0.0, 0.82, 0.57, 0.0, -0.57, 0.82);
    p = turned * p - vec3(0.0, 0.0, 6.0);
    towards = turned * n;
    tint = 0.55 + 0.45 * cos(place.x + vec3(0.0, 2.1, 4.2));
    gl_Position = vec4(2.3 * p.x * 9.0 / 16.0, 2.3 * p.y, (-p.z - 6.0) * 0.2 * -p.z, -p.z);
}
"""
"""A mesh that is a grid bent to a knot: all the work is in the vertices."""

KNOT_COLOUR = """
#version 330 core
in vec3 towards;
in vec3 tint;
out vec4 pixel;
void main() {
    vec3 n = normalize(towards);
    float light = 0.16 + 0.8 * max(dot(n, normalize(vec3(0.4, 0.7, 0.6))), 0.0);
    float shine = pow(max(dot(n, normalize(vec3(0.2, 0.35, 0.8))), 0.0), 40.0);
    pixel = vec4(sqrt(light * tint + 0.3 * shine), 1.0);
}
"""

COPY = """
#version 330 core
uniform sampler2D source;
out vec4 pixel;
void main() {
    pixel = texelFetch(source, ivec2(gl_FragCoord.xy), 0);
}
"""
"""A texture, each texel to its pixel and unchanged."""
