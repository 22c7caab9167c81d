"""Signals that ask a training run to stop: noted at once, obeyed after the checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Inside the block SIGTERM and SIGINT only set ``received``; :meth:`deliver` hands the signal on.

    Python lets only the main thread handle signals; in any other thread the block changes nothing. A signal that was
    ignored before stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        self._install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if error is None and self.received is not None:
            signal.raise_signal(self.received)  # came after the last step

    def deliver(self) -> None:
        """Give the signal to whoever handled it before this block; where that returns, the block goes on."""
        assert self.received is not None
        number, self.received = self.received, None
        self._restore()
        signal.raise_signal(number)
        self._install()

    def _install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous = signal.getsignal(number)
            # None: set by code outside Python, which could not be put back.
            if previous is not None and previous != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
