"""Files of weights, the names in them, and where they come from; imports nothing of ours but `errors`."""
