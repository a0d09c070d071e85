"""Files in, batches out."""

from datamodules.budgeted_questions import BudgetedQuestionsDataModule
from datamodules.controller import ControllerDataModule
from datamodules.profile import ProfileDataModule
from datamodules.question import QuestionDataModule
from datamodules.suite import SuiteDataModule
from datamodules.vqa import VQADataModule

__all__ = [
    "BudgetedQuestionsDataModule",
    "ControllerDataModule",
    "ProfileDataModule",
    "QuestionDataModule",
    "SuiteDataModule",
    "VQADataModule",
]
