"""Files in, batches out."""

from datamodules.profile import ProfileDataModule
from datamodules.vqa import VQADataModule

__all__ = ["ProfileDataModule", "VQADataModule"]
