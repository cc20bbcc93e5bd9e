"""Few-shot recognition of images."""
