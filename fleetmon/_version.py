"""The version, in the one place that the build, the package and the build-info metric read."""

__version__ = "0.1.0"
