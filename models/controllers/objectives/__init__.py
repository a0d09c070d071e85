"""How controllers learn: one interface, chosen by class path and arguments."""

from models.controllers.objectives.base import Objective, ObjectiveLoss
from models.controllers.objectives.cross_entropy import ArgmaxSetCrossEntropy, HardCrossEntropy, SoftCrossEntropy
from models.controllers.objectives.grpo import Grpo
from models.controllers.objectives.pairwise_rank import PairwiseRank
from models.controllers.objectives.policy_gradient import ExactPolicyGradient, GroupObjective, Rloo
from models.controllers.objectives.regression import QRegression

__all__ = [
    "ArgmaxSetCrossEntropy",
    "ExactPolicyGradient",
    "GroupObjective",
    "Grpo",
    "HardCrossEntropy",
    "Objective",
    "ObjectiveLoss",
    "PairwiseRank",
    "QRegression",
    "Rloo",
    "SoftCrossEntropy",
]
