"""Every error that idx raises on purpose.

A message reads "{what} must be {constraint}; got {value} ({where}). {what to do}."
"""


class IdxError(Exception):
    """Base of all errors raised by idx."""


class GeometryError(IdxError, ValueError):
    """Positions, spacings, grids or frames that do not fit together."""


class UnitError(IdxError, ValueError):
    """A physical size that is unknown or given in the wrong unit."""


class FormatError(IdxError, ValueError):
    """A file or folder that is damaged, ambiguous or of a kind that idx does not read."""


class PixelAccessError(IdxError, OSError):
    """Pixels that are declared by a file but cannot be read from it."""


class MissingDependency(IdxError, ImportError):
    """An optional package or a device that was asked for and is not there."""


class PrivacyError(IdxError):
    """An operation that would let a patient's identity out."""
