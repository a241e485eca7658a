"""A polite stop: SIGINT and SIGTERM are noted, and the loop ends after the step it is in."""

import signal
import threading


class StopRequest:
    """While entered, notes SIGINT and SIGTERM in `requested`; a second signal is acted on at once."""

    def __init__(self):
        self.requested: str | None = None
        self._before: dict = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self.requested = signal.Signals(number).name
        for known, handler in self._before.items():
            signal.signal(known, handler)
