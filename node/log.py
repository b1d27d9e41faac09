"""Structured logs: JSON for machines, coloured lines for people."""

import logging
import sys

import structlog


def configure_logging(log_format: str, level: str) -> None:
    """Send every log record, ours and libraries', to standard error in one format."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
    ]
    renderers: list[structlog.types.Processor] = (
        # Local variables are what was asked for, which is nobody's business here.
        [
            structlog.dev.ConsoleRenderer(
                exception_formatter=structlog.dev.RichTracebackFormatter(show_locals=False)
            )
        ]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # aiormq tells every failed dial and lost connection at length; our own line says it once.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
    for name in ("aiormq", "aio_pika", "httpx", "httpcore", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(logging.ERROR, root.level))
