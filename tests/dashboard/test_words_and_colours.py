"""Tooltips for every term, and colours that colour-blind readers tell apart."""

from __future__ import annotations

from importlib import import_module
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import simulator
from dashboard.choices.scenario import fields
from dashboard.content.glossary import explain, terms
from dashboard.figures import theme
from dashboard.views import views
from simulator.replay.drawing import palette

_SOURCES = "\n".join(path.read_text() for path in (Path(__file__).parents[2] / "dashboard").rglob("*.py"))
_ANSWER = simulator.estimate("bert-large", "dgx-a100-640gb")
# Machado, Oliveira and Fernandes, 2009: how light of the three primaries looks with each kind of cone missing.
_SIGHTS = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_LEAST_DIFFERENCE = 12.0
"""Of two colours in CIELAB; 2.3 can just be told apart side by side."""


def _light(colour: str) -> NDArray[np.float64]:
    """Red, green and blue light of a colour."""
    coded = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255.0
    return np.asarray(np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4))


def _lab(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB of light, under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ np.clip(light, 0.0, 1.0) / np.array([0.9505, 1.0, 1.089]), 1e-6))
    return np.array([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)])


@pytest.mark.parametrize("sight", _SIGHTS)
@pytest.mark.parametrize("palette", [theme.OF_KIND, theme.OF_MEMORY], ids=["kinds", "memory"])
def test_colours_differ_for_every_sight(palette: dict[str, str], sight: str) -> None:
    seen = {name: _lab(_SIGHTS[sight] @ _light(colour)) for name, colour in palette.items()}
    for (one, first), (other, second) in combinations(seen.items(), 2):
        assert np.linalg.norm(first - second) > _LEAST_DIFFERENCE, f"{one} and {other} look alike with {sight}"


@pytest.mark.parametrize("sight", _SIGHTS)
@pytest.mark.parametrize("number", range(len(palette.FORWARD)))
def test_bars_of_a_timeline_differ_for_every_sight(number: int, sight: str) -> None:
    own = (palette.FORWARD[number], palette.WEIGHTS[number], palette.BACKWARD[number])
    others = (palette.EXPOSED, palette.HOST, palette.ONCE)
    pairs = [*combinations(own, 2), *((one, other) for one in own for other in others)]
    following = (number + 1) % len(palette.FORWARD)
    pairs += [(shades[number], shades[following]) for shades in (palette.FORWARD, palette.WEIGHTS, palette.BACKWARD)]
    for one, other in pairs:
        seen = [_lab(_SIGHTS[sight] @ _light(colour)) for colour in (one, other)]
        assert np.linalg.norm(seen[0] - seen[1]) > _LEAST_DIFFERENCE, f"{one} and {other} look alike with {sight}"


def test_a_timeline_has_the_colours_of_other_pages() -> None:
    assert theme.OF_KIND["communication"] == palette.EXPOSED
    assert theme.OF_KIND["pipeline idle"] == palette.IDLE
    assert theme.OF_KIND["host"] == palette.HOST


def _contrast(one: str, other: str) -> float:
    """Contrast of two colours, as the Web Content Accessibility Guidelines define it."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    dark, bright = sorted(float(weights @ _light(each)) for each in (one, other))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#0e1117"], ids=["light", "dark"])
def test_colours_stand_out_from_the_ground(ground: str) -> None:
    for colour in {*theme.SERIES, *theme.OF_KIND.values(), *theme.OF_MEMORY.values()}:
        assert _contrast(colour, ground) > 1.7, colour
    assert _contrast(theme.BAD, ground) > 3.0


def test_every_kind_and_part_has_its_colour_and_its_explanation() -> None:
    large = simulator.estimate("gpt3-175b", "superpod-a100", devices=1024, plan={"recompute": "full", "pp": 8})
    for answer in (_ANSWER, large):
        for kind, parts in answer.breakdown_by_kind.items():
            assert kind in theme.OF_KIND
            assert explain(kind)
            assert all(explain(f"part.{part}") for part in parts)
    assert set(theme.OF_MEMORY) == set(_ANSWER.memory_bytes) - {"total", "capacity"}
    assert all(explain(f"memory.{part}") for part in theme.OF_MEMORY)


def _names() -> list[str]:
    """The fields of a scenario and those of all pages."""
    of_pages = [each for view in views() for each in import_module(view.module).FIELDS]
    return [each.name for each in (*fields(), *of_pages)]


def test_every_field_is_explained() -> None:
    assert all(explain(name) for name in _names())
    assert len(set(_names())) == len(_names()), "pages share a session, so their fields need names of their own"


def test_nothing_is_explained_that_is_not_there() -> None:
    known = {*_names(), *theme.OF_KIND}
    for term in terms():
        assert term in known or term.startswith(("part.", "memory.")) or f'"{term}"' in _SOURCES, term


def test_explanations_are_short_sentences() -> None:
    for term, words in terms().items():
        assert words.endswith("."), term
        assert len(words) < 260, term


@pytest.mark.parametrize("end", [3e-6, 0.0171, 0.47, 5.0, 55.0, 61.0, 1054.0, 4000.0, 90000.0, 5e7])
def test_time_axes_have_round_ticks(end: float) -> None:
    axis = theme.time_axis(end)
    ticks, texts = axis["tickvals"], axis["ticktext"]
    assert isinstance(ticks, list)
    assert isinstance(texts, list)
    assert 2 <= len(ticks) <= 6
    assert ticks[-1] <= end
    assert len({round(later - earlier, 9) for earlier, later in pairwise(ticks)}) == 1
    assert all(len(text) <= 9 for text in texts)


def test_log_axes_have_written_ticks() -> None:
    narrow, wide = theme.log_axis(30.0, 400.0), theme.log_axis(0.01, 1e4)
    assert {"50", "100", "200"} <= set(narrow["ticktext"])  # type: ignore[call-overload]
    assert {"0.01", "1", "10,000"} <= set(wide["ticktext"])  # type: ignore[call-overload]
    assert "50" not in wide["ticktext"]  # type: ignore[operator]
