"""The container images that stages run in: one per set of dependencies.

``WAN_R1_CPU_IMAGE`` and ``WAN_R1_GPU_IMAGE`` name a user's own registry when pipelines are compiled.
"""

from __future__ import annotations

import os

from wan_r1 import __version__

CPU_IMAGE = os.environ.get("WAN_R1_CPU_IMAGE", f"wan-r1-cpu:{__version__}")
"""Image of the stages that make and check data and reports."""
GPU_IMAGE = os.environ.get("WAN_R1_GPU_IMAGE", f"wan-r1-gpu:{__version__}")
"""Image of the stages that run the video model; it also runs without a GPU."""
