"""Integrated diagnostics: a patient's CT and the pathology slides of the same lesion in one space."""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
