"""Files in, batches out."""

from datamodules.profile import ProfileDataModule
from datamodules.suite import SuiteDataModule
from datamodules.vqa import VQADataModule

__all__ = ["ProfileDataModule", "SuiteDataModule", "VQADataModule"]
