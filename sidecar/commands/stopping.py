"""Being told to stop in the foreground: an event instead of an exception, so that nothing is left lying about."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.core.errors import Stopped


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C, TERM and a closed terminal set; a second one raises KeyboardInterrupt at once.

    What the block raises as `Stopped` leaves it as KeyboardInterrupt.
    """
    stop = threading.Event()

    def end(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # `nohup` and the like mean it
            signal.signal(number, end)
    try:
        yield stop
    except Stopped:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
