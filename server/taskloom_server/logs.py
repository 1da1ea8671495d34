"""Logging: lines for people on a terminal, JSON otherwise; always on stderr."""

import logging
import sys
from typing import Literal

import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logging(level: str, form: Literal["auto", "console", "json"]) -> None:
    """Set structlog, and the standard library's logging beneath gRPC and Peewee, alike."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if console:
        renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer()
        tracebacks: list[structlog.typing.Processor] = []
    else:
        renderer = structlog.processors.JSONRenderer()
        # Without the frames' locals: they hold requests, and those are the users' own.
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        tracebacks = [structlog.processors.ExceptionRenderer(frames)]
    structlog.configure(
        processors=[*shared, *tracebacks, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *tracebacks,
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(_LEVELS[level], 30), force=True)
