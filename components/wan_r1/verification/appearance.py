"""How a level and its player look, learned from the given first frame: what frames are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft

BLUR = 1.0
"""Standard deviation of the blur that is forgiven, in pixels of the reading resolution."""
MOST_BLUR = 1.2
"""How many times the effect of that blur is forgiven at most."""

_FAINTEST = 24.0
"""Least colour distance between the player and its floor, in levels, at which it can be followed."""
_VISIBLE = 0.08
"""Where the player would stand out by less than this share of what it does on the floor, it can hide."""


class SceneError(ValueError):
    """The given first frame does not show what the level says; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """A level as it should look, at the reading resolution ``[H, W]``.

    Attributes:
        background: float32 [3, H, W], the level without its player.
        unknown: bool [H, W], background that the player covers in the given image and nothing tells; not looked at.
        leak: float32 [3, H, W], what a blur by one pixel adds to the background; so much is forgiven.
        nearby: float32 [2, H, W, 3], sums of `background` and of `leak` over each pixel and its neighbours.
        colour: float32 [3, H, W], the player's colour times its opacity, with its centre at the origin.
        opacity: float32 [H, W], the player's opacity, likewise.
        look: complex64 [4, H, W // 2 + 1], conjugate spectra of `colour` and of minus `opacity`.
        shape: complex64 [H, W // 2 + 1], conjugate spectrum of the player's shape (0 or 1).
        energy: float32 [H, W], squared difference that the player would make to the background if centred at a pixel;
            infinite where it can hide.
        hideouts: bool [H, W], where it can hide and may be.
        paint: float32 [3, H, W], inner product with a difference from the background that tells how much of a pixel
            has the player's mean colour (0 to 1).
        area: pixels of that colour that the player has.
        anchor: (x, y) of the player's centre in pixels when the match is at pixel (0, 0).
        home: (x, y) of the player's centre in pixels when it stands on the start.
        radius: distance in pixels from the player's centre to its farthest pixel.
    """

    background: np.ndarray
    unknown: np.ndarray
    leak: np.ndarray
    nearby: np.ndarray
    colour: np.ndarray
    opacity: np.ndarray
    look: np.ndarray
    shape: np.ndarray
    energy: np.ndarray
    hideouts: np.ndarray
    paint: np.ndarray
    area: float
    anchor: tuple[float, float]
    home: tuple[float, float]
    radius: float


def learn_appearance(
    image: np.ndarray,
    background: np.ndarray,
    unknown: np.ndarray,
    floor: np.ndarray,
    *,
    corner: tuple[float, float],
    centre: tuple[float, float],
    cell: float,
    name: str,
) -> Appearance:
    """The appearance of a level from its first frame with and without the player.

    Args:
        image: float32 [H, W, 3], the given first frame at the reading resolution.
        background: float32 [H, W, 3], the same without the player.
        unknown: see `Appearance`.
        floor: float32 [3], mean colour under the player.
        corner: (y, x) in pixels of the window, one cell wide, in which the player is.
        centre: (x, y) of the player's centre in pixels.
        cell: pixels a cell.
        name: where the player should be, for messages.

    Raises:
        SceneError: if no player can be told from the floor.
    """
    opacity, colour, anchor, radius = _player(image, background, corner, centre, cell, name)
    mean = colour.sum((0, 1)) / opacity.sum()
    towards = (mean - background).transpose(2, 0, 1)
    apart = (towards**2).sum(0)
    visible = apart > _VISIBLE * ((mean - floor) ** 2).sum()
    paint = np.divide(towards, apart, out=np.zeros_like(towards), where=visible)

    empty = np.ascontiguousarray(background.transpose(2, 0, 1))
    leak = cv2.GaussianBlur(background, (0, 0), BLUR).transpose(2, 0, 1) - empty
    shape = (opacity > 0.1).astype(np.float32)
    look = scipy.fft.rfft2(np.concatenate([colour.transpose(2, 0, 1), -opacity[None]])).conj()
    energy = _energy(empty, opacity, colour)
    hideouts = energy < _VISIBLE * energy[int(centre[1]), int(centre[0])]
    return Appearance(
        background=empty,
        unknown=unknown,
        leak=leak,
        nearby=sum_neighbours(np.stack([empty, leak]).transpose(0, 2, 3, 1)),
        colour=colour.transpose(2, 0, 1),
        opacity=opacity,
        look=look,
        shape=scipy.fft.rfft2(shape).conj(),
        energy=np.where(hideouts, np.float32(np.inf), energy),
        hideouts=hideouts,
        paint=paint.astype(np.float32),
        area=float(np.clip(((image - background).transpose(2, 0, 1) * paint).sum(0), -1, 1).sum()),
        anchor=anchor,
        home=centre,
        radius=radius,
    )


def sum_neighbours(images: np.ndarray) -> np.ndarray:
    """Sum of each pixel of ``[..., H, W, channels]`` and its neighbours inside the frame."""
    rows = images.copy()
    rows[..., 1:, :, :] += images[..., :-1, :, :]
    rows[..., :-1, :, :] += images[..., 1:, :, :]
    total = rows.copy()
    total[..., 1:, :] += rows[..., :-1, :]
    total[..., :-1, :] += rows[..., 1:, :]
    return total


def _player(
    image: np.ndarray,
    background: np.ndarray,
    corner: tuple[float, float],
    centre: tuple[float, float],
    cell: float,
    name: str,
) -> tuple[np.ndarray, np.ndarray, tuple[float, float], float]:
    """The player's look, rolled to the origin: opacity [H, W], colour times it [H, W, 3]; its anchor and radius."""
    side = image.shape[0]
    top, left = corner
    window = np.zeros((side, side), bool)
    window[int(top) : int(np.ceil(top + cell)), int(left) : int(np.ceil(left + cell))] = True
    difference = (image - background) * window[..., None]
    strength = np.sqrt((difference**2).sum(-1))
    strongest = np.sort(strength, axis=None)[-max(2, int(0.1 * cell**2)) :].mean()
    if strongest < _FAINTEST:
        raise SceneError(
            f"no player can be told from the floor {name} in the given first frame (colour "
            f"difference {strongest:.0f} of at least {_FAINTEST:.0f} levels)"
        )
    # Compared with the floor alone opacity and colour cannot be told apart; a sprite is mostly opaque inside.
    # Where its colours happen to be the floor's it is closed, or it would be see-through there on the goal.
    opacity = np.clip(strength / (0.7 * strongest), 0, 1).astype(np.float32)
    opacity[opacity < 0.1] = 0
    opacity = cv2.morphologyEx(opacity, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) * window
    colour = (difference + opacity[..., None] * background) * (opacity > 0)[..., None]
    rows, columns = np.nonzero(opacity)
    weight = opacity[rows, columns]
    y, x = float((rows + 0.5) @ weight / weight.sum()), float((columns + 0.5) @ weight / weight.sum())
    solid = opacity[rows, columns] > 0.3
    radius = float(np.hypot(rows[solid] + 0.5 - y, columns[solid] + 0.5 - x).max()) + 0.5
    # The anchor keeps the place's centre, not the sprite's: a sprite may sit low in its cell.
    centre_x, centre_y = centre
    at = int(centre_y), int(centre_x)
    roll = (-at[0], -at[1])
    return (
        np.roll(opacity, roll, (0, 1)).astype(np.float32),
        np.roll(colour, roll, (0, 1)).astype(np.float32),
        (centre_x - at[1], centre_y - at[0]),
        radius,
    )


def _energy(background: np.ndarray, opacity: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Squared difference [H, W] that the player makes to the background [3, H, W] when centred at each pixel."""
    side = opacity.shape
    planes = scipy.fft.rfft2(background)
    mixed = scipy.fft.rfft2(opacity[..., None] * colour, axes=(0, 1)).transpose(2, 0, 1)
    squares = scipy.fft.rfft2((background**2).sum(0))
    spectrum = squares * scipy.fft.rfft2(opacity**2).conj() - 2 * (planes * mixed.conj()).sum(0)
    return (scipy.fft.irfft2(spectrum, s=side) + (colour**2).sum()).astype(np.float32)
