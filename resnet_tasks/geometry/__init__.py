"""Pure functions of boxes, in `keras.ops`, and of windows: no state, no settings, nothing of other rooms."""
