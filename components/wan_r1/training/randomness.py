"""Randomness that does not depend on what was drawn before, so that a resumed run continues bit for bit."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2^63) from any parts, such as ``(seed, "rollout", iteration)``; stable across processes."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by `derived_seed`; CPU, so that a GPU run draws the same numbers."""
    return torch.Generator().manual_seed(derived_seed(*parts))


def numpy_generator(*parts: object) -> np.random.Generator:
    """A numpy generator seeded by `derived_seed`."""
    return np.random.default_rng(derived_seed(*parts))
