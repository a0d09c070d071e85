"""Files in, batches out."""

from datamodules.controller import ControllerDataModule
from datamodules.profile import ProfileDataModule
from datamodules.question import QuestionDataModule
from datamodules.suite import SuiteDataModule
from datamodules.vqa import VQADataModule

__all__ = ["ControllerDataModule", "ProfileDataModule", "QuestionDataModule", "SuiteDataModule", "VQADataModule"]
