"""Scripts that measure speed. Not part of the wheel."""
