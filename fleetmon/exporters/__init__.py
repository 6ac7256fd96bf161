"""Tells: the metric families of Ryot, ΣLANG and ΣVAULT. Public names are loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetmon.exporters._families import MetricClashError, receive
    from fleetmon.exporters._instrument import Observation, instrument, wrap_methods
    from fleetmon.exporters.ryot import RyotExporter
    from fleetmon.exporters.sigmalang import SigmaLangExporter
    from fleetmon.exporters.sigmavault import SigmaVaultExporter

_WHERE = {
    "MetricClashError": "_families",
    "Observation": "_instrument",
    "RyotExporter": "ryot",
    "SigmaLangExporter": "sigmalang",
    "SigmaVaultExporter": "sigmavault",
    "instrument": "_instrument",
    "receive": "_families",
    "wrap_methods": "_instrument",
}

__all__ = [
    "MetricClashError",
    "Observation",
    "RyotExporter",
    "SigmaLangExporter",
    "SigmaVaultExporter",
    "instrument",
    "receive",
    "wrap_methods",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
