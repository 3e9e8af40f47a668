"""Scoring of videos that any tool has made, against a data set in our layout or VR-Bench's."""

from wan_r1.score.levels import LAYOUTS, ScoreError
from wan_r1.score.stage import SCORE_SCHEMA, run

__all__ = ["LAYOUTS", "SCORE_SCHEMA", "ScoreError", "run"]
