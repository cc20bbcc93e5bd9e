"""``python -m metarl`` is the command ``metarl``, and ``torchrun -m metarl`` many of it."""

import importlib
import sys

if __name__ == "__main__":
    # By name: the core imports nothing of what is built on it.
    sys.exit(importlib.import_module("metarl.experiments.cli.main").main())
