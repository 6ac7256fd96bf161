"""The terminal dashboard of fleetmon; needs the extra ``tui`` (``pip install "fleetmon[tui]"``)."""

from fleetmon._version import __version__

__all__ = ["__version__"]
