"""The package's version: here, so that its rooms need not import the package's root."""

__version__ = "0.1.0"
