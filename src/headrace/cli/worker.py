"""`headrace worker`: drives the runs that other processes accept."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import click

from headrace.cli.serve import Until, prepare
from headrace.cli.shared import data_option, demo_option, egress_option, level_option, say, settings_of

logger = logging.getLogger(__name__)


@click.command(short_help="Drives the runs that other processes accept.")
@click.option("--host", help="Address of the probes.  [HEADRACE_HOST; default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Serve /healthz, /readyz and /metrics at this port; 0 picks a free one. Without it, nothing is served.",
)
@data_option
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Written once runs are claimed: JSON with the URL of the probes.",
)
@demo_option
@egress_option
@level_option
def worker(
    host: str | None,
    port: int | None,
    data: Path | None,
    ready_file: Path | None,
    demo_model: bool | None,
    egress_allow: tuple[str, ...],
    log_level: str | None,
) -> None:
    """Drives runs that other processes on the same database accept: `headrace serve`, or `headrace serve --no-worker`.

    It has the same settings as they, and serves no API. Stop it with Ctrl-C or SIGTERM: it claims no more runs, lets
    those in progress end for HEADRACE_DRAIN_SECONDS, and leaves the rest to other workers.
    """
    gc.disable()  # faster start; `server.worker` enables it again
    settings = settings_of(
        host=host,
        port=port,
        data=data,
        demo_model=demo_model,
        egress_allow=egress_allow,
        log_level=log_level,
    )
    scrubber = prepare(settings, ready_file)
    from headrace.server.serving import write_ready_file
    from headrace.server.worker import work

    until = Until()

    def on_ready(url: str | None) -> None:
        until.serving = True
        if ready_file is not None:
            write_ready_file(ready_file, {"url": url})
        message = "The worker claims runs" + (f"; its probes are at {url}" if url else "")
        if settings.log_format == "json":
            logger.info("%s", message)
        else:
            say(message)

    until.run(work(settings, scrubber, on_ready, probes=port is not None))
