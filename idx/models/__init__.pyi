from .blocks import Blocks, Survival
from .fusion import LateFusion
from .survival import CoxModel
from .validation import Evaluation, evaluate

__all__ = ["Blocks", "CoxModel", "Evaluation", "LateFusion", "Survival", "evaluate"]
