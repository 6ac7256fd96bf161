"""Jobs on series of numbers: PRISM, PULSE, ORACLE, PHOTON, ORBIT, SENTRY.

A file's series is the length of its lines, in characters or bytes.
"""

from __future__ import annotations

import binascii
import itertools
import math
import statistics
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from fleetmon.demo.jobs._base import Facts, Job, read_bytes, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleetmon.demo.corpus import Kind


def line_lengths(path: Path, most: int = 1_500) -> list[int]:
    """Return the lengths of a text's first lines, in characters."""
    return [len(line) for line in read_text(path).splitlines()[:most]]


class Prism(Job):
    """Data science: a file as a table of lines."""

    name: ClassVar[str] = "PRISM"
    task_types: ClassVar[tuple[str, ...]] = ("describe_columns", "correlate_columns")

    def describe_columns(self, path: Path) -> Facts:
        """Describe the lengths of the lines; Welford's one pass must agree with two passes."""
        values = line_lengths(path)
        if not values:
            return {"rows": 0}
        mean = spread = 0.0
        for count, value in enumerate(values, 1):
            step = value - mean
            mean += step / count
            spread += step * (value - mean)
        variance = spread / len(values)
        agree = math.isclose(variance, float(statistics.pvariance(values)), abs_tol=1e-6)
        return {"rows": len(values), "mean": round(mean, 3), "median": statistics.median(values),
                "stdev": round(math.sqrt(variance), 3), "max": max(values),
                "agree": agree}  # fmt: skip

    def correlate_columns(self, path: Path) -> Facts:
        """Correlate each line's indentation with its length and words (Pearson, -1 to 1)."""
        lines = [line for line in read_text(path).splitlines()[:1_500] if line.strip()]
        indents = [len(line) - len(line.lstrip()) for line in lines]
        lengths = [len(line.strip()) for line in lines]
        words = [len(line.split()) for line in lines]
        pairs = {"indent_length": (indents, lengths), "length_words": (lengths, words)}
        found = {name: _pearson(*pair) for name, pair in pairs.items()}
        within = all(r is None or -1 <= r <= 1 for r in found.values())
        return {"rows": len(lines), **found, "within_bounds": within}


def _pearson(xs: Sequence[int], ys: Sequence[int]) -> float | None:
    if len(set(xs)) < 2 or len(set(ys)) < 2:  # noqa: PLR2004 - undefined for a constant
        return None
    return round(statistics.correlation(xs, ys), 4)


class Pulse(Job):
    """Healthcare: the rhythm and the vital signs of a text."""

    name: ClassVar[str] = "PULSE"
    task_types: ClassVar[tuple[str, ...]] = ("detect_rhythm", "screen_vitals")

    def detect_rhythm(self, path: Path) -> Facts:
        """Find the period after which the lines' lengths resemble themselves most."""
        values = line_lengths(path, 500)
        mean = sum(values) / (len(values) or 1)
        centred = [value - mean for value in values]
        power = sum(map(float.__mul__, centred, centred))
        if not power:
            return {"beats": len(values), "period": None}
        lags = range(2, min(41, len(centred)))
        resemblance = {lag: sum(map(float.__mul__, centred, centred[lag:])) / power for lag in lags}
        best = max(resemblance, key=resemblance.__getitem__, default=0)
        strength = resemblance.get(best, 0.0)
        return {"beats": len(values), "period": best, "strength": round(strength, 4),
                "within_bounds": abs(strength) <= 1 + 1e-9}  # fmt: skip

    def screen_vitals(self, path: Path) -> Facts:
        """Count lines far from the median (Iglewicz and Hoaglin's 3.5 deviations)."""
        values = line_lengths(path)
        if not values:
            return {"readings": 0, "outliers": 0}
        median = statistics.median(values)
        deviation = statistics.median(abs(value - median) for value in values)
        limit = 3.5 * deviation / 0.6745
        outliers = [value for value in values if deviation and abs(value - median) > limit]
        return {"readings": len(values), "median": median, "deviation": deviation,
                "outliers": len(outliers), "worst": max(outliers, default=None)}  # fmt: skip


class Oracle(Job):
    """Forecasting: the next line's length, from those before."""

    name: ClassVar[str] = "ORACLE"
    task_types: ClassVar[tuple[str, ...]] = ("forecast_series", "backtest_model")

    def prepare(self) -> None:
        """Start without a series of sizes."""
        self._sizes: deque[int] = deque(maxlen=500)

    def forecast_series(self, path: Path) -> Facts:
        """Forecast this file's size from the files before it, then look, and learn."""
        size = path.stat().st_size
        level = holt(list(self._sizes), 0.2, 0.05)[-1] if self._sizes else None
        self._sizes.append(size)
        error = None if level is None else round(abs(level - size), 1)
        forecast = None if level is None else round(level, 1)
        return {"observed": size, "forecast": forecast, "error": error, "history": len(self._sizes)}

    def backtest_model(self, path: Path) -> Facts:
        """Choose Holt's factors on the first two thirds, compare with guessing the last value."""
        values = line_lengths(path, 600)
        cut = len(values) * 2 // 3
        if cut < 3:  # noqa: PLR2004 - nothing to learn from
            return {"points": len(values), "beats_naive": None}
        grid = [(a / 10, b / 10) for a in (1, 3, 5, 8) for b in (0, 1, 3)]
        errors = {pair: _mean_error(values[:cut], holt(values[:cut], *pair)) for pair in grid}
        alpha, beta = min(errors, key=errors.__getitem__)
        held = _mean_error(values[cut:], holt(values, alpha, beta)[cut:])
        naive = _mean_error(values[cut:], [float(v) for v in values[cut - 1 :]])
        return {"points": len(values), "alpha": alpha, "beta": beta, "error": round(held, 3),
                "naive_error": round(naive, 3), "beats_naive": held < naive}  # fmt: skip


def holt(values: Sequence[int], alpha: float, beta: float) -> list[float]:
    """Return one-step forecasts by Holt's linear smoothing: one a value, then the next one."""
    level, trend = float(values[0]), 0.0
    forecasts = []
    for value in values:
        forecasts.append(level + trend)
        before = level
        level = alpha * value + (1 - alpha) * (level + trend)
        trend = beta * (level - before) + (1 - beta) * trend
    return [*forecasts, level + trend]


def _mean_error(values: Sequence[int], forecasts: Sequence[float]) -> float:
    return sum(abs(v - f) for v, f in zip(values, forecasts, strict=False)) / (len(values) or 1)


class Photon(Job):
    """Edge and IoT: a signal made small enough for a thin line."""

    name: ClassVar[str] = "PHOTON"
    task_types: ClassVar[tuple[str, ...]] = ("downsample_signal", "pack_deltas")
    wants: ClassVar[Kind] = "any"

    def downsample_signal(self, path: Path) -> Facts:
        """Keep 32 of the bytes' points by largest triangles (Steinarsson, 2013), ends included."""
        values = list(read_bytes(path, 4 * 1024))
        kept = largest_triangles(values, 32)
        ends = not values or (kept[0] == 0 and kept[-1] == len(values) - 1)
        ordered = all(a < b for a, b in itertools.pairwise(kept))
        return {"points": len(values), "kept": len(kept), "ends_kept": ends, "ordered": ordered}

    def pack_deltas(self, path: Path) -> Facts:
        """Pack the offsets of line ends as zigzag varint differences, and unpack them."""
        data = read_bytes(path)
        offsets = [at for at, byte in enumerate(data) if byte == 0x0A]  # noqa: PLR2004 - a newline
        packed = pack(offsets)
        return {"values": len(offsets), "bytes": len(packed), "plain_bytes": 4 * len(offsets),
                "exact": unpack(packed) == offsets}  # fmt: skip


def largest_triangles(values: Sequence[int], count: int) -> list[int]:
    """Return the indices of ``count`` points that keep the line's look; first and last stay."""
    if len(values) <= count:
        return list(range(len(values)))
    every = (len(values) - 2) / (count - 2)
    kept = [0]
    for bucket in range(count - 2):
        start, end = int(bucket * every) + 1, int((bucket + 1) * every) + 1
        after = values[end : int((bucket + 2) * every) + 1] or values[-1:]
        x, y = end + len(after) / 2, sum(after) / len(after)
        a = kept[-1]
        kept.append(max(range(start, end), key=lambda i: abs(
            (a - x) * (values[i] - values[a]) - (a - i) * (y - values[a])
        )))  # fmt: skip
    return [*kept, len(values) - 1]


def pack(values: Sequence[int]) -> bytes:
    """Encode differences as zigzag varints, seven bits a byte, the low ones first."""
    packed = bytearray()
    before = 0
    for value in values:
        step = value - before
        before = value
        rest = 2 * step if step >= 0 else -2 * step - 1
        while rest > 0x7F:  # noqa: PLR2004 - seven bits
            packed.append(rest & 0x7F | 0x80)
            rest >>= 7
        packed.append(rest)
    return bytes(packed)


def unpack(packed: bytes) -> list[int]:
    """Decode what :func:`pack` encoded."""
    values = []
    before = rest = shift = 0
    for byte in packed:
        rest |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number
            before += rest >> 1 if rest % 2 == 0 else -(rest + 1 >> 1)
            values.append(before)
            rest = shift = 0
    return values


class Orbit(Job):
    """Embedded and satellite: frames that survive the way down."""

    name: ClassVar[str] = "ORBIT"
    task_types: ClassVar[tuple[str, ...]] = ("frame_telemetry", "correct_bitflips")
    wants: ClassVar[Kind] = "any"

    def prepare(self) -> None:
        """Reset the packet counter."""
        self._sequence = 0

    def frame_telemetry(self, path: Path) -> Facts:
        """Frame the file as CCSDS space packets with a CRC-16, read them back, spoil one."""
        data = read_bytes(path, 16 * 1024)
        frames = []
        for at in range(0, len(data), 512):
            chunk = data[at : at + 512]
            self._sequence = (self._sequence + 1) % 0x4000
            # CCSDS 133.0: version 0, telemetry, application 42; unsegmented; length less one
            head = (42).to_bytes(2, "big") + (0xC000 | self._sequence).to_bytes(2, "big")
            frame = head + (len(chunk) + 1).to_bytes(2, "big") + chunk
            frames.append(frame + binascii.crc_hqx(frame, 0xFFFF).to_bytes(2, "big"))
        intact = all(binascii.crc_hqx(frame, 0xFFFF) == 0 for frame in frames)
        back = b"".join(frame[6:-2] for frame in frames)
        noticed = True
        if frames:
            spoiled = bytearray(frames[0])
            spoiled[len(spoiled) // 2] ^= 0x10
            noticed = binascii.crc_hqx(spoiled, 0xFFFF) != 0
        return {"frames": len(frames), "intact": intact, "exact": back == data,
                "spoiling_noticed": noticed}  # fmt: skip

    def correct_bitflips(self, path: Path) -> Facts:
        """Guard nibbles with Hamming's (7,4) code, flip a bit in each word, correct them all."""
        data = read_bytes(path, 2 * 1024)
        nibbles = [half for byte in data for half in (byte >> 4, byte & 15)]
        sent = [_HAMMING[nibble] for nibble in nibbles]
        received = [word ^ 1 << (at % 7) for at, word in enumerate(sent)]
        corrected = [_CORRECT[word] for word in received]
        return {"words": len(sent), "flipped": sum(map(int.__ne__, sent, received)),
                "exact": corrected == nibbles}  # fmt: skip


def _hamming(nibble: int) -> int:
    d = [nibble >> at & 1 for at in range(4)]
    bits = [d[0] ^ d[1] ^ d[3], d[0] ^ d[2] ^ d[3], d[0], d[1] ^ d[2] ^ d[3], d[1], d[2], d[3]]
    return sum(bit << at for at, bit in enumerate(bits))


_HAMMING = [_hamming(nibble) for nibble in range(16)]
# Each of the 128 words lies within one flip of exactly one code word: the code is perfect.
_CORRECT = {
    word ^ flip: nibble
    for nibble, word in enumerate(_HAMMING)
    for flip in (0, *(1 << at for at in range(7)))
}


class Sentry(Job):
    """Observability: quantiles in little memory, and what is out of the ordinary."""

    name: ClassVar[str] = "SENTRY"
    task_types: ClassVar[tuple[str, ...]] = ("sketch_quantiles", "detect_anomalies")
    accuracy = 0.01

    def prepare(self) -> None:
        """Start with no expectation."""
        self._mean = self._spread = 0.0
        self._seen = 0

    def sketch_quantiles(self, path: Path) -> Facts:
        """Sketch the lines' lengths in logarithmic buckets (DDSketch); check the promised error."""
        values = sorted(value for value in line_lengths(path) if value)
        gamma = (1 + self.accuracy) / (1 - self.accuracy)
        buckets: dict[int, int] = {}
        for value in values:
            key = math.ceil(math.log(value, gamma))
            buckets[key] = buckets.get(key, 0) + 1
        facts: Facts = {"values": len(values), "buckets": len(buckets)}
        worst = 0.0
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            if values:
                rank = int(q * (len(values) - 1))
                below = 0
                for key in sorted(buckets):
                    below += buckets[key]
                    if below > rank:
                        break
                estimate = 2 * gamma**key / (gamma + 1)
                facts[name] = round(estimate, 2)
                worst = max(worst, abs(estimate - values[rank]) / values[rank])
        return {**facts, "error": round(worst, 5), "as_promised": worst <= self.accuracy + 1e-9}

    def detect_anomalies(self, path: Path) -> Facts:
        """Compare the file's mean line with a moving expectation; three deviations alarm."""
        values = line_lengths(path)
        mean = sum(values) / (len(values) or 1)
        deviation = math.sqrt(self._spread)
        known = self._seen >= 10  # noqa: PLR2004 - before that nothing is ordinary
        score = (mean - self._mean) / deviation if known and deviation else 0.0
        step = mean - self._mean if self._seen else 0.0
        self._mean = self._mean + 0.05 * step if self._seen else mean
        self._spread = 0.95 * (self._spread + 0.05 * step * step)
        self._seen += 1
        return {
            "mean": round(mean, 2),
            "expected": round(self._mean, 2),
            "score": round(score, 2),
            "alarm": abs(score) > 3,  # noqa: PLR2004 - three deviations
        }
