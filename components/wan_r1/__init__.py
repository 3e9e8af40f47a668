"""wan-r1: verifiable reinforcement learning for video reasoning, as a Kubeflow pipeline."""

__version__ = "0.1.0"
