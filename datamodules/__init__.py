"""Files in, batches out."""

from datamodules.profile import ProfileDataModule

__all__ = ["ProfileDataModule"]
