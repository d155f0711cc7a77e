"""Which commands of clients may become jobs here: by their text, their inputs, and what this machine can cage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.errors import ReelwayError
from services.ffmpeg.addresses import AddressPolicy, video_id_of
from services.ffmpeg.command_policy import plan
from services.ffmpeg.isolation import Isolation, require_ready
from services.ffmpeg.limits import Limits
from services.ffmpeg.plan import Plan


@dataclass(frozen=True)
class Commands:
    """Judges specs of JobKind.COMMAND: `command`, `input_files`, `output_files`."""

    limits: Limits
    addresses: AddressPolicy
    isolation: Isolation | None
    """None: there is no ffmpeg."""

    def plan(self, spec: Mapping[str, Any]) -> Plan:
        """What would run; raises COMMAND_REFUSED, INPUT_REFUSED."""
        planned = plan(spec["command"], spec["input_files"], spec["output_files"], self.limits)
        for placeholder, url in spec["input_files"].items():
            try:
                if video_id_of(url) is None:
                    self.addresses.check_url(url)
            except ReelwayError as error:
                raise ReelwayError(error.reason, f"{placeholder}: {error.message}") from None
        return planned

    def require_runnable(self, spec: Mapping[str, Any]) -> None:
        """The same, and ISOLATION_UNAVAILABLE where nothing may run here."""
        self.plan(spec)
        require_ready(self.isolation)
