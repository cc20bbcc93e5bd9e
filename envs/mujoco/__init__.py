"""Robots on MuJoCo: goals, dynamics and terrain that vary."""
