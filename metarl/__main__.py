"""``python -m metarl`` is the command ``metarl``; ``torchrun -m metarl`` runs several of it."""

import importlib
import sys

if __name__ == "__main__":
    # Imported by name: the core does not import the layers above it.
    sys.exit(importlib.import_module("metarl.experiments.cli.main").main())
