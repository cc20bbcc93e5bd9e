"""Batched environments that hold a task in every sub-environment."""
