"""The one exception that means something to a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.error_catalog import ErrorKind, ErrorReason


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field of a request, in the terms of the contracts' 422 body."""

    field: str
    """Dotted path of the field."""
    message: str
    """What is wrong, for a person."""
    type: str = "value_error"
    """A machine-readable word, pydantic's where there is one."""


@dataclass(eq=False)
class ReelwayError(Exception):
    """A refusal or failure with a reason from the table; everything else is an internal error.

    `detail` reaches the client: never put a host name, bucket, local path or foreign exception text in it.
    """

    reason: ErrorReason
    detail: str = ""
    """Replaces the table's message where there is more to say."""
    violations: Sequence[FieldViolation] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    """Facts for machines, carried in google.rpc.ErrorInfo."""

    @property
    def kind(self) -> ErrorKind:
        """The reason's row of the table."""
        return self.reason.value

    @property
    def message(self) -> str:
        """What the client is told."""
        return self.detail or self.kind.message

    def __str__(self) -> str:
        """For logs: with the failure behind it, such as what Redis said."""
        behind = f" ({type(self.__cause__).__name__}: {self.__cause__})" if self.__cause__ is not None else ""
        return f"{self.reason.name}: {self.message}{behind}"


def invalid_field(field: str, message: str, kind: str = "value_error") -> ReelwayError:
    """INVALID_REQUEST for one wrong field, see `FieldViolation`; `kind` is its type."""
    return ReelwayError(ErrorReason.INVALID_REQUEST, f"{field}: {message}", [FieldViolation(field, message, kind)])
