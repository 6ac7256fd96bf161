"""Tells: metrics."""
