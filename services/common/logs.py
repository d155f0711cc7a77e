"""Structured logs, one line an event, with the request's id on each."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from services.common.caller import current_caller


def _add_request_id(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if request_id := current_caller().request_id:
        event.setdefault("request_id", request_id)
    return event


def _harmless(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what a terminal obeys instead of showing it: clients choose paths, and more that stands in a line."""
    return {key: _escaped(value) if isinstance(value, str) else value for key, value in event.items()}


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    shown = (each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text)
    return "".join(shown)


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether gRPC's library tells of a fault: not where a client left while it was written to."""
    return not str(record.msg).startswith("ExecuteBatchError raised in core")


def configure(process: str, level: str, log_format: str) -> None:
    """Set up logging of the whole process, the standard library's included."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
    ]
    # JSON escapes by itself.
    renderers: list[Any] = (
        [structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [_harmless, structlog.dev.ConsoleRenderer(colors=False)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda _, __, event: {"process": process, **event},
                # Plain tracebacks: the dict form would log local variables, secrets among them.
                structlog.processors.format_exc_info,
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("botocore", "aiobotocore", "asyncio", "urllib3", "grpc", "redis"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_fault)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; call it with an event and key-value facts."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
