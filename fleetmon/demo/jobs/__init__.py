"""The jobs of the forty, by codename; any other agent gets one of them."""

from __future__ import annotations

import hashlib

from fleetmon.demo.jobs import code, language, mathematics, quality, signals, systems, trust
from fleetmon.demo.jobs._base import Facts, Job, UnknownTaskTypeError

__all__ = ["JOBS", "Facts", "Job", "UnknownTaskTypeError", "fallback_job"]

_CLASSES: tuple[type[Job], ...] = (
    code.Apex, trust.Cipher, code.Architect, mathematics.Axiom, systems.Velocity,
    mathematics.Quantum, mathematics.Tensor, quality.Fortress, mathematics.Neural, trust.Crypto,
    systems.Flux, signals.Prism, systems.Synapse, code.Core, mathematics.Helix,
    language.Vanguard, quality.Eclipse, language.Nexus, language.Genesis, systems.Omniscient,
    systems.Atlas, code.Forge, signals.Sentry, systems.Vertex, systems.Stream,
    signals.Photon, trust.Lattice, code.Morph, quality.Phantom, signals.Orbit,
    language.Canvas, language.Lingua, quality.Scribe, quality.Mentor, quality.Bridge,
    trust.Aegis, trust.Ledger, signals.Pulse, trust.Arbiter, signals.Oracle,
)  # fmt: skip

JOBS: dict[str, type[Job]] = {job.name: job for job in _CLASSES}
"""Each codename's job, in the roster's order."""


def fallback_job(agent_id: str) -> type[Job]:
    """Return a job for an agent that is none of the forty: always the same for the same id."""
    digest = hashlib.blake2b(agent_id.encode("utf-8", "replace"), digest_size=4).digest()
    return _CLASSES[int.from_bytes(digest, "big") % len(_CLASSES)]
