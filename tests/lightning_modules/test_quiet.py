"""Lightning, told to speak up only when something is wrong."""

import logging

import pytest

from lightning_modules.quiet import quiet_lightning


def test_lightning_only_warns_within_and_speaks_as_before_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lightning.pytorch")
    logger.setLevel(logging.INFO)
    with quiet_lightning():
        logger.info("not heard")
        logger.warning("heard")
    logger.info("heard again")
    assert caplog.messages == ["heard", "heard again"]


def test_it_speaks_as_before_after_a_failure_too() -> None:
    logger = logging.getLogger("lightning.pytorch")
    logger.setLevel(logging.INFO)
    with pytest.raises(KeyError), quiet_lightning():
        raise KeyError
    assert logger.isEnabledFor(logging.INFO)
