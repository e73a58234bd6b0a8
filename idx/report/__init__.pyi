from .document import write_case_report
from .inputs import KeyNumber, SurvivalSummary

__all__ = ["KeyNumber", "SurvivalSummary", "write_case_report"]
