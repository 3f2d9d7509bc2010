"""`run`: the daemon in the foreground, until SIGTERM or SIGINT; SIGHUP reads the configuration again."""

from __future__ import annotations

import logging
import signal

from sidecar import __version__
from sidecar.assembly import assemble
from sidecar.logs import set_up
from sidecar.options import Options

INTERRUPTED = 130

log = logging.getLogger("sidecar.run")


def run(options: Options) -> int:
    """Run until told to stop; exit code 0 after SIGTERM, which is how services are ended. 130 after Ctrl-C."""
    set_up(options.log_format, options.log_level)
    ended_by: list[int] = []
    signal.signal(signal.SIGHUP, lambda *_: None)  # until there is something to reload; else it would end us
    with assemble(options) as house:

        def end(number: int, _: object) -> None:
            ended_by.append(number)
            house.stop.set()
            house.daemon.wake.set()

        def again(*_: object) -> None:
            house.daemon.reload.set()
            house.daemon.wake.set()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGHUP, again)
        log.info("litestream-sidecar %s answers at %s/ready", __version__, house.server.url)
        house.daemon.run()
        log.info("ended")
    return INTERRUPTED if signal.SIGINT in ended_by else 0
