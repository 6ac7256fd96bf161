"""Measurements of fleetmon against its goals: ``python -m benchmarks`` prints them as one table."""
