"""The leases of the upload service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from services.common.lease import Lease

MakeLease: TypeAlias = Callable[[str], Lease]
"""The lease under which the upload of this video id is compacted."""
