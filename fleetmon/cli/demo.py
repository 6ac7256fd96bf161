"""``fleetmon demo``: its options. What it does lives in :mod:`fleetmon.demo`, loaded late."""

from __future__ import annotations

import argparse
import math
import os

ADDRESS = "127.0.0.1:9003"
"""Where metrics are served unless told otherwise."""

VARIABLE = "FLEETMON_METRICS"
"""Environment variable that replaces :data:`ADDRESS`; ``--metrics`` wins over it."""

CONTROL = "FLEETMON_CONTROL"
"""Environment variable that stands for ``--control``; 0 serves no control plane at all."""

_LAST_PORT = 65535
_LONGEST = 1e7  # seconds; some four months


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--path",
        metavar="DIR",
        help="work on the files below DIR (default: the standard library's source)",
    )
    parser.add_argument(
        "--duration",
        metavar="SECONDS",
        type=_duration,
        help="end by itself after that long (default: run until Ctrl-C)",
    )
    parser.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        type=_address,
        default=None,
        help=f"where to serve /metrics; port 0 takes a free one (default: ${VARIABLE}, "
        f"else {ADDRESS})",
    )
    parser.add_argument(
        "--control",
        metavar="HOST:PORT",
        type=_address,
        default=None,
        help=f"serve the control plane there as well, beside its socket (default: ${CONTROL}); "
        "wants a token in $FLEETMON_CONTROL_TOKEN",
    )
    parser.add_argument(
        "--seed", metavar="N", type=_seed, default=0, help="decides files and faults (default: 0)"
    )
    parser.add_argument(
        "--agents",
        metavar="FILE",
        help="another roster, TOML or YAML (default: the Elite Agent Collective of 40)",
    )
    parser.add_argument(
        "--record", metavar="FILE", help="keep a record of the fleet there, to look at afterwards"
    )
    parser.add_argument(
        "--chaos", action="store_true", help="inject faults of seven kinds, by seed"
    )
    parser.add_argument(
        "--log",
        metavar="FILE",
        help="append a JSON line for each task and event; - is standard output, and all else then "
        "goes to standard error",
    )
    parser.add_argument(
        "--trace",
        metavar="URL",
        nargs="?",
        const="",
        help="send spans there by OTLP (default: $OTEL_EXPORTER_OTLP_ENDPOINT, without it no "
        "spans; --trace alone: http://localhost:4318)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object on standard output at the end, everything else on standard error",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration; returns its exit code."""
    metrics = arguments.metrics
    if metrics is None:
        given = os.environ.get(VARIABLE)
        try:
            metrics = _address(given or ADDRESS)
        except argparse.ArgumentTypeError as error:
            import sys

            sys.stderr.write(f"fleetmon demo: {VARIABLE}: {error}\n")
            return 2
    control = arguments.control or os.environ.get(CONTROL, "1")
    if control not in {"0", "1"}:
        try:
            control = _address(control)
        except argparse.ArgumentTypeError as error:
            import sys

            sys.stderr.write(f"fleetmon demo: {CONTROL}: {error}\n")
            return 2
    from fleetmon.demo.host import DemoOptions, run_demo

    return run_demo(
        DemoOptions(
            path=arguments.path,
            duration=arguments.duration,
            metrics=metrics,
            control=control,
            record=arguments.record,
            seed=arguments.seed,
            agents=arguments.agents,
            chaos=arguments.chaos,
            as_json=arguments.json,
            log=arguments.log,
            trace=arguments.trace,
        )
    )


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST:
        msg = f"{text!r} is no duration; give seconds above 0, for example 60"
        raise argparse.ArgumentTypeError(msg)
    return seconds


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        msg = f"{text!r} is no seed; give a whole number, for example 7"
        raise argparse.ArgumentTypeError(msg) from None


def _address(text: str) -> str:
    # a port alone, above all "0", means this machine
    whole = f"127.0.0.1:{text}" if text.isdecimal() else text
    host, colon, port = whole.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > _LAST_PORT:
        msg = f"{text!r} is no address; give HOST:PORT, for example {ADDRESS}, or 0 for a free port"
        raise argparse.ArgumentTypeError(msg)
    return whole
