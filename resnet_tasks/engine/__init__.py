"""The engine: one loop that trains any task, and what it writes.  It imports no task."""
