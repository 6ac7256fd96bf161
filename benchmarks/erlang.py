"""Runs the Erlang/OTP programs beside our own, on this machine, where ``erl`` is installed."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "erlang" / "otp_bench.erl"
TIME_LIMIT = 180.0  # seconds for one program; a storm of 10,000 takes OTP 25 some seconds a round
CRASH_CYCLES = 100  # short rounds suit OTP best: its supervisor walks through its past restarts


@dataclass(frozen=True)
class Peer:
    """What OTP took, or why it could not be asked.

    Attributes:
        seconds: median over the rounds: of one crash cycle, or of a whole storm; `None` if not run.
        release: the OTP release, such as ``25``.
        rounds: seconds of each round.
        reason: why there is no figure; empty if there is one.
    """

    seconds: float | None = None
    release: str = ""
    rounds: tuple[float, ...] = ()
    reason: str = ""


def crash(*, rounds: int = 100) -> Peer:
    """Measure crash to replacement running, for one child under an OTP supervisor."""
    return _measure("crash", CRASH_CYCLES, rounds)


def storm(children: int, *, rounds: int = 3) -> Peer:
    """Measure all children killed at once to all running again, under one OTP supervisor."""
    return _measure("storm", children, rounds)


def _measure(mode: str, size: int, rounds: int) -> Peer:
    erl, erlc = shutil.which("erl"), shutil.which("erlc")
    if erl is None or erlc is None:
        return Peer(reason="Erlang/OTP is not installed (Debian: erlang-nox)")
    with tempfile.TemporaryDirectory(prefix="fleetmon-otp-") as build:
        try:
            _run([erlc, "-o", build, str(SOURCE)])
            start = [erl, "-noshell", "-pa", build, "-run", "otp_bench", "main"]
            out = _run([*start, mode, str(size), str(rounds)])
        except subprocess.TimeoutExpired:
            return Peer(reason=f"OTP's {mode} of {size} took more than {TIME_LIMIT:g} s")
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout or "").strip()
            return Peer(reason=f"erl ended with {error.returncode}: {said[-200:]}")
    answer = json.loads(out)
    taken = tuple(micros / 1e6 for micros in answer["microseconds"])
    return Peer(statistics.median(taken), answer["otp"], taken)


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIME_LIMIT,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def main() -> None:
    """Print the three peers' figures."""
    for name, peer in (
        ("crash to replacement", crash()),
        ("storm of 1,000", storm(1_000, rounds=7)),
        ("storm of 10,000", storm(10_000)),
    ):
        if peer.seconds is None:
            print(f"{name}: not run: {peer.reason}")
        else:
            print(f"{name}: {peer.seconds * 1e6:,.1f} µs (OTP {peer.release}, median)")


if __name__ == "__main__":
    main()
