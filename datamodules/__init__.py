"""Files in, batches out."""

from datamodules.controller import ControllerDataModule
from datamodules.profile import ProfileDataModule
from datamodules.suite import SuiteDataModule
from datamodules.vqa import VQADataModule

__all__ = ["ControllerDataModule", "ProfileDataModule", "SuiteDataModule", "VQADataModule"]
