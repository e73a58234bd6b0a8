"""The parts of scikit-learn that models rest on; without the package the error names the extra."""

try:
    from sklearn.base import BaseEstimator, clone
    from sklearn.model_selection import StratifiedKFold
except ImportError as error:
    from idx.errors import MissingDependency

    raise MissingDependency(f"scikit-learn must be installed for outcome models; importing it gave: {error}. Run: pip install 'idx[models]'") from error

__all__ = ["BaseEstimator", "StratifiedKFold", "clone"]
