"""Whose names a checkpoint has: a module for each convention, each with `read(tensors, details) -> Reading | None`."""
