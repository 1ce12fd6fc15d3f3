"""The objects of the demo: outline and surface of each class, in a disc of radius 1 with y pointing down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Points = Array  # (n, 2) x, y
Surface = Callable[[Array, Array], Array]  # x, y of shape (n, n) -> RGB (n, n, 3) in [0, 1]


@dataclass(frozen=True)
class Shape:
    """One object: filled polygons, holes in them, its colours and how it takes the light."""

    filled: tuple[Points, ...]
    holes: tuple[Points, ...]
    surface: Surface
    bevel: float  # width of the rounded edge, in radii; 1 makes a disc a sphere
    gloss: float  # strength of the highlight, [0, 1]
    grain: float  # strength of the surface texture, [0, 1]


_METALS = ((0.66, 0.68, 0.72), (0.80, 0.64, 0.34), (0.74, 0.46, 0.32), (0.42, 0.45, 0.50))
_WARM = ((0.90, 0.48, 0.24), (0.86, 0.34, 0.36), (0.92, 0.70, 0.34), (0.70, 0.40, 0.62))
_LEAVES = ((0.26, 0.52, 0.20), (0.46, 0.60, 0.18), (0.78, 0.50, 0.14), (0.70, 0.26, 0.14))
_PANELS = ((0.88, 0.20, 0.18), (0.16, 0.40, 0.82), (0.16, 0.60, 0.36), (0.94, 0.62, 0.12))


def make_shape(name: str, rng: np.random.Generator, likeness: float) -> Shape:
    """Draw one object of a class at random.

    ``likeness`` in [0, 1] is how far an object of a class with a double (gear and sawblade, star and starfish)
    has moved towards that double: at 1 it can hardly be told from it. Other classes ignore it.
    """
    return _MAKERS[name](rng, likeness)


def _circle(radius: float, x: float = 0.0, y: float = 0.0) -> Points:
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def _polar(radius: Array) -> Points:
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _plain(rng: np.random.Generator, palette: tuple[tuple[float, float, float], ...]) -> Surface:
    colour = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.85, 1.1, size=3)
    return lambda x, y: np.broadcast_to(colour, (*x.shape, 3))


def _toothed(rng: np.random.Generator, slant: float) -> Shape:
    """A wheel whose teeth go from straight (slant 0: a gear) to hooked (slant 1: a sawblade)."""
    teeth = int(rng.integers(11, 15))
    phase = np.arange(960) * teeth / 960 % 1
    straight = np.clip((np.abs(phase - 0.5) - 0.17) / 0.1, 0, 1)
    hooked = 1 - phase
    depth = rng.uniform(0.2, 0.26)
    radius = 1 - depth * ((1 - slant) * straight + slant * hooked)
    steel = _plain(rng, _METALS)

    def surface(x: Array, y: Array) -> Array:
        distance = np.hypot(x, y)[..., None]
        groove = 1 - 0.35 * np.exp(-(((distance - 0.56) / 0.03) ** 2)) - 0.25 * (distance < 0.36)
        return steel(x, y) * groove

    return Shape((_polar(radius),), (_circle(rng.uniform(0.14, 0.2)),), surface, bevel=0.07, gloss=0.7, grain=0.04)


def _gear(rng: np.random.Generator, likeness: float) -> Shape:
    return _toothed(rng, 0.1 + 0.42 * likeness)


def _sawblade(rng: np.random.Generator, likeness: float) -> Shape:
    return _toothed(rng, 0.9 - 0.42 * likeness)


def _five_armed(rng: np.random.Generator, softness: float) -> Shape:
    """Five arms that go from straight edges (softness 0: a star) to round ones (softness 1: a starfish)."""
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    from_tip = np.abs((angle * 5 / (2 * np.pi) + 0.5) % 1 - 0.5) * 2  # 0 at a tip, 1 between two arms
    inner = rng.uniform(0.40, 0.46)
    straight = _edge(from_tip * np.pi / 5, inner)
    soft = inner * 0.86 + (1 - inner * 0.86) * np.cos(from_tip * np.pi / 2) ** 1.3
    return Shape(
        (_polar((1 - softness) * straight + softness * soft),),
        (),
        _plain(rng, _WARM),
        bevel=0.34,
        gloss=0.25,
        grain=0.16,
    )


def _edge(opening: Array, inner: float) -> Array:
    """Radius of the straight edge from a tip (radius 1, angle 0) to a notch (radius inner, angle pi / 5)."""
    x, y = inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)
    return np.asarray(y / (y * np.cos(opening) + (1 - x) * np.sin(opening)))


def _star(rng: np.random.Generator, likeness: float) -> Shape:
    return _five_armed(rng, 0.2 + 0.35 * likeness)


def _starfish(rng: np.random.Generator, likeness: float) -> Shape:
    return _five_armed(rng, 0.8 - 0.35 * likeness)


def _ball(rng: np.random.Generator, likeness: float) -> Shape:
    colours = rng.permutation(np.array(_PANELS))[:3]
    centre = rng.uniform(-0.35, 0.35, size=2)
    white = np.array((0.95, 0.94, 0.90))

    def surface(x: Array, y: Array) -> Array:
        panel = np.floor(np.arctan2(y - centre[1], x - centre[0]) / (np.pi / 3)).astype(int) % 6
        paint = np.where((panel % 2 == 0)[..., None], colours[panel // 2], white)
        return np.where((np.hypot(x - centre[0], y - centre[1]) < 0.14)[..., None], white, paint)

    return Shape((_circle(1.0),), (), surface, bevel=1.0, gloss=0.5, grain=0.03)


def _ring(rng: np.random.Generator, likeness: float) -> Shape:
    hole = rng.uniform(0.55, 0.66)
    return Shape((_circle(1.0),), (_circle(hole),), _plain(rng, _METALS[:3]), (1 - hole) / 2, gloss=0.9, grain=0.04)


def _leaf(rng: np.random.Generator, likeness: float) -> Shape:
    along = np.linspace(-1, 1, 160)
    half = rng.uniform(0.42, 0.55) * (1 - along**2) ** 0.8 * (1 - 0.35 * along)
    serrated = half * (1 + 0.06 * ((along * 14) % 1 - 0.5))
    blade = np.concatenate([np.stack([along, serrated], axis=1), np.stack([along[::-1], -serrated[::-1]], axis=1)]) * (
        0.86,
        1,
    )
    stalk = np.array([(-1.0, -0.03), (-1.0, 0.03), (-0.8, 0.02), (-0.8, -0.02)])
    green = _plain(rng, _LEAVES)

    def surface(x: Array, y: Array) -> Array:
        midrib = np.exp(-((y / 0.025) ** 2))
        side = np.exp(-(((((x - 0.75 * np.abs(y)) * 5.5) % 1 - 0.5) / 0.09) ** 2))
        return green(x, y) * (1 + 0.4 * np.maximum(midrib, 0.55 * side))[..., None]

    return Shape((blade, stalk), (), surface, bevel=0.22, gloss=0.2, grain=0.15)


def _key(rng: np.random.Generator, likeness: float) -> Shape:
    shaft = np.array([(-0.35, -0.09), (1.0, -0.09), (1.0, 0.09), (-0.35, 0.09)])
    bits = [
        np.array([(x, 0.05), (x + 0.12, 0.05), (x + 0.12, 0.09 + bit), (x, 0.09 + bit)])
        for x, bit in zip((0.42, 0.62, 0.84), rng.uniform(0.12, 0.3, size=3), strict=True)
    ]
    bow = _circle(0.40, -0.60)
    hole = _circle(rng.uniform(0.18, 0.24), -0.64)
    return Shape((bow, shaft, *bits), (hole,), _plain(rng, _METALS), bevel=0.08, gloss=0.8, grain=0.03)


_MAKERS: dict[str, Callable[[np.random.Generator, float], Shape]] = {
    "ball": _ball,
    "gear": _gear,
    "key": _key,
    "leaf": _leaf,
    "ring": _ring,
    "sawblade": _sawblade,
    "star": _star,
    "starfish": _starfish,
}
CLASS_NAMES = tuple(sorted(_MAKERS))
