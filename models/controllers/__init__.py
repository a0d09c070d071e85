"""What chooses a setting for each request: rewards, objectives and networks. Nothing here reads a file."""

from models.controllers.controller import Controller
from models.controllers.decider import Decider, decide
from models.controllers.draw import Draw
from models.controllers.feedback import Feedback
from models.controllers.frozen import FrozenDecider, FrozenNetwork
from models.controllers.grid_shape import GridShape, grid_shape
from models.controllers.heads import FactorisedHeads, JointHead
from models.controllers.llm_based import BudgetStates, LLMBased, LLMTwoStage, remaining_blocks
from models.controllers.objectives import Objective
from models.controllers.policy import choose, masked_log_prob
from models.controllers.prompt_memory import PromptMemory, TierPrompts
from models.controllers.request_decider import RequestDecider, Vector
from models.controllers.rewards import Goodput, Lagrangian, OverrunPenalty, Reward
from models.controllers.two_stage import SettingNetwork, TierNetwork, TwoStage

__all__ = [
    "BudgetStates",
    "Controller",
    "Decider",
    "Draw",
    "FactorisedHeads",
    "Feedback",
    "FrozenDecider",
    "FrozenNetwork",
    "Goodput",
    "GridShape",
    "JointHead",
    "LLMBased",
    "LLMTwoStage",
    "Lagrangian",
    "Objective",
    "OverrunPenalty",
    "PromptMemory",
    "RequestDecider",
    "Reward",
    "SettingNetwork",
    "TierNetwork",
    "TierPrompts",
    "TwoStage",
    "Vector",
    "choose",
    "decide",
    "grid_shape",
    "masked_log_prob",
    "remaining_blocks",
]
