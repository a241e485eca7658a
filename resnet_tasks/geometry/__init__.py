"""Pure functions of boxes, in `keras.ops`: no state, no settings, nothing of the rest of this package."""
