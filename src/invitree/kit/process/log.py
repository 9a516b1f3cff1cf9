"""Logging: one event per line to stderr, as JSON or in colors for a terminal."""

import logging
import sys
from contextvars import ContextVar

import structlog
from prometheus_client import Counter

from invitree.kit.process.output import Output

_DROPPED = Counter("invitree_log_lines_dropped", "Lines of the log that could not be written.")

trace_id: ContextVar[str] = ContextVar("trace_id")
"""The id of the current request."""


def configure_logging(log_format: str) -> None:
    """Set up structlog and the standard library's logging; `log_format` is `json`, `console` or `auto`."""
    Output.on_drop = _DROPPED.inc
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        _add_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Without local variables: a traceback must not contain passwords and tokens.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: list[structlog.typing.Processor] = (
        [plain] if console else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_drop_meta, *renderer])
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _add_trace_id(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if trace := trace_id.get(None):
        event["trace_id"] = trace
    return event


def _drop_meta(
    logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, name, event)
