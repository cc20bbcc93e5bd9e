"""Tuned hyperparameters of AD and DPT: the first pattern that matches a family counts."""

from metarl.agents.training.preset import Preset

AD_PRESETS: tuple[Preset, ...] = (Preset("ad", "*", 3_000, {}, num_eval_tasks=400),)
DPT_PRESETS: tuple[Preset, ...] = (Preset("dpt", "*", 3_000, {}, num_eval_tasks=400),)
PRESETS = (*AD_PRESETS, *DPT_PRESETS)
