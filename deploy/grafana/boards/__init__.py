"""The dashboards, one module for each audience."""

from __future__ import annotations

from boards import duty, fleet, platform, services

BOARDS = (*fleet.BOARDS, *duty.BOARDS, *services.BOARDS, *platform.BOARDS)
"""All of them, in the order in which they are listed."""
