"""Objects that belong to no class: a cue may be a thing that is always in the picture too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.demo.shapes import Array, Shape


def make_companion(name: str, rng: np.random.Generator) -> Shape:
    """Draw one companion at random; its colour and proportions vary a little."""
    return _MAKERS[name](rng)


def _painted(rng: np.random.Generator, colour: tuple[float, float, float]) -> Callable[[Array, Array], Array]:
    shade = np.array(colour) * rng.uniform(0.9, 1.08, size=3)
    return lambda x, y: np.broadcast_to(shade, (*x.shape, 3))


def _points(*corners: tuple[float, float]) -> Array:
    return np.array(corners)


def _hourglass(rng: np.random.Generator) -> Shape:
    """Two bulbs between two plates."""
    waist = rng.uniform(0.06, 0.12)
    bulbs = _points((-0.5, -0.7), (0.5, -0.7), (waist, 0.0), (0.5, 0.7), (-0.5, 0.7), (-waist, 0.0))
    plates = [_points((-0.6, y), (0.6, y), (0.6, y + 0.2), (-0.6, y + 0.2)) for y in (-0.8, 0.6)]
    return Shape((bulbs, *plates), (), _painted(rng, (0.36, 0.62, 0.80)), bevel=0.2, gloss=0.7, grain=0.05)


def _crescent(rng: np.random.Generator) -> Shape:
    """A sickle moon."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    bite = circle * rng.uniform(0.74, 0.82) + (0.42, 0.0)
    return Shape((circle,), (bite,), _painted(rng, (0.95, 0.82, 0.30)), bevel=0.25, gloss=0.4, grain=0.08)


def _cross(rng: np.random.Generator) -> Shape:
    """A plus sign with thick arms."""
    arm = rng.uniform(0.28, 0.34)
    bars = _points((-0.95, -arm), (0.95, -arm), (0.95, arm), (-0.95, arm))
    return Shape((bars, bars[:, ::-1]), (), _painted(rng, (0.84, 0.20, 0.52)), bevel=0.16, gloss=0.5, grain=0.06)


def _arrow(rng: np.random.Generator) -> Shape:
    """An arrow with a broad head."""
    shaft = rng.uniform(0.20, 0.26)
    outline = _points(
        (-0.95, -shaft), (0.05, -shaft), (0.05, -0.68), (0.95, 0.0), (0.05, 0.68), (0.05, shaft), (-0.95, shaft)
    )
    return Shape((outline,), (), _painted(rng, (0.20, 0.72, 0.42)), bevel=0.18, gloss=0.6, grain=0.05)


_MAKERS: dict[str, Callable[[np.random.Generator], Shape]] = {
    "arrow": _arrow,
    "crescent": _crescent,
    "cross": _cross,
    "hourglass": _hourglass,
}
