"""Memory of NVIDIA GPUs, through NVML where it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

GpuReader = Callable[[], Iterable[tuple[str, int]]]
"""Gives the index of each GPU, as a label, and its bytes in use; nothing where there is none."""


class Nvml:
    """Reads GPUs through ``nvidia-ml-py``, initialised when first asked; safe from any thread.

    A machine without the library, the driver or a GPU has no readings, and is not asked again.
    """

    def __init__(self) -> None:
        """Load nothing yet."""
        self._lock = threading.Lock()
        self._library: Any = None
        self._absent = False

    def __call__(self) -> list[tuple[str, int]]:
        """Return (index, bytes in use) of each GPU that answers."""
        with self._lock:
            if self._absent:
                return []
            if self._library is None:
                try:
                    import pynvml

                    pynvml.nvmlInit()
                except Exception:  # noqa: BLE001 - absent, in whichever way
                    self._absent = True
                    return []
                self._library = pynvml
            return self._read(self._library)

    @staticmethod
    def _read(library: Any) -> list[tuple[str, int]]:
        readings = []
        try:
            for index in range(library.nvmlDeviceGetCount()):
                try:
                    handle = library.nvmlDeviceGetHandleByIndex(index)
                    used = int(library.nvmlDeviceGetMemoryInfo(handle).used)
                except library.NVMLError:  # lost, or not ours to see: the others still count
                    continue
                readings.append((str(index), used))
        except library.NVMLError:
            return []
        return readings


nvml_memory = Nvml()
"""The reader of this process."""
