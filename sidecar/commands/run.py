"""`run`: the daemon in the foreground, until SIGTERM or SIGINT; SIGHUP reads the configuration again."""

from __future__ import annotations

import logging
import signal

from sidecar import __version__
from sidecar.assembly import Running, assemble
from sidecar.logs import set_up
from sidecar.options import Options

INTERRUPTED = 130

log = logging.getLogger("sidecar.run")


def run(options: Options) -> int:
    """Run until told to stop; exit code 0 after SIGTERM, which is how services are ended. 130 after Ctrl-C."""
    set_up(options.log_format, options.log_level)
    ended_by: list[int] = []
    running: list[Running] = []

    def end(number: int, _: object) -> None:
        ended_by.append(number)
        for each in running:
            each.stop.set()
            each.daemon.wake.set()

    def again(*_: object) -> None:
        for each in running:
            each.daemon.reload.set()
            each.daemon.wake.set()

    # From the start on: whoever sees HTTP answer may tell us to end before the loop has begun.
    for number, handler in ((signal.SIGTERM, end), (signal.SIGINT, end), (signal.SIGHUP, again)):
        signal.signal(number, handler)
    with assemble(options) as house:
        running.append(house)
        if ended_by:
            house.stop.set()
        log.info("litestream-sidecar %s answers at %s/ready", __version__, house.server.url)
        house.daemon.run()
        log.info("ended")
    return INTERRUPTED if signal.SIGINT in ended_by else 0
