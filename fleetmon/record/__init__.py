"""Remembers: what happened to a fleet, in one file that outlives the process.

:class:`~fleetmon.record.recorder.Recorder` writes, :class:`~fleetmon.record.reader.Recording`
reads, also while it is written and after a crash of the process that wrote.
"""
