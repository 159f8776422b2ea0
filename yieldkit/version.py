"""The version of the package, kept where importing it costs nothing."""

__version__ = "0.1.0"
