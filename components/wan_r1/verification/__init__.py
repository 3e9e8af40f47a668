"""From frames to facts: where the player went, what it broke, whether the background held, and the field's metrics."""

from wan_r1.verification.verdict import STATES, VIOLATIONS, StrictRules, Verdict, Violation
from wan_r1.verification.verifier import verify
from wan_r1.verification.vr_bench import BenchmarkRules

__all__ = ["STATES", "VIOLATIONS", "BenchmarkRules", "StrictRules", "Verdict", "Violation", "verify"]
