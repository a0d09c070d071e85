"""Whether a promise is about the policy that runs, or about another one, whose margins and bounds are borrowed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from profiling.promises.promise import Promise
from profiling.schema import Environment

NOTHING_IS_PROMISED: Final = "Nothing is promised."

# A latency estimator is not compared: what it expected is in the promise's own table.
_WAYS: Final = ("stops_at_deadline", "checks_time", "tracks_pace", "tiling")
_SURROUNDINGS: Final = ("device", "torch", "engine", "dtype", "num_threads")
_NAMED_BY: Final = {"controller": "controller", "weights": "snapshot"}  # what has a digest, and who names it
_CHECKPOINT: Final = ".ckpt"
_MOST_NAMED: Final = 8  # budgets in a sentence


@dataclass(frozen=True, kw_only=True)
class Validity:
    """What a promise is worth for a policy that runs with it.

    Args:
        promise: The promise.
        differing: What is not as it was when the promise was found, in words.
        unknown: What could not be compared, since the promise's file does not say it.
    """

    promise: Promise
    differing: tuple[str, ...]
    unknown: tuple[str, ...]

    def is_promised(self, budget_ms: float) -> bool:
        """Whether something is promised for just this budget."""
        return not self.differing and self.promise.is_promised(budget_ms)

    def warning(self) -> str | None:
        """Say what differs and what is not known, if anything."""
        said = [self._differing] if self.differing else []
        said += [self._unknown] if self.unknown else []
        return " ".join(said) or None

    def sentence(self, budgets_ms: Sequence[float]) -> str:
        """Say what is promised to requests under these budgets."""
        if self.differing:
            return self._differing
        kept = [budget_ms for budget_ms in budgets_ms if self.is_promised(budget_ms)]
        others = [budget_ms for budget_ms in budgets_ms if not self.is_promised(budget_ms)]
        level = self.promise.terms.level
        said = []
        if kept:
            share = f"at most {level.alpha:.3g} missed, confidence {1 - level.delta:.3g}"
            said.append(f"Promised for {_listed(kept)}: {share}.")
        if others:
            said.append(f"Nothing is promised for {_listed(others)}.")
        return " ".join([*said, self._unknown] if self.unknown else said)

    @property
    def _differing(self) -> str:
        return f"Nothing is promised: the promise was found with another {'; '.join(self.differing)}."

    @property
    def _unknown(self) -> str:
        return f"Not compared, since the promise does not say them: {', '.join(self.unknown)}."


def validity(
    promise: Promise,
    *,
    policy: Mapping[str, Any],
    digests: Mapping[str, str],
    environment: Environment,
    online_margin: bool = False,
) -> Validity:
    """Compare a policy that runs with the one that a promise was found with.

    Args:
        promise: The promise.
        policy: The arguments of the policy that runs.
        digests: What it is made of, see ``Promise.digests``.
        environment: What it runs on.
        online_margin: Whether margins follow what happens, as they never do in a calibration.
    """
    differing = [_difference("online_margin", False, online_margin)]
    differing += [_difference(name, promise.policy.get(name), policy[name]) for name in _WAYS]
    differing += [
        _difference(name, getattr(promise.environment, name), getattr(environment, name)) for name in _SURROUNDINGS
    ]
    unknown = []
    for name, argument in _NAMED_BY.items():
        is_same = _is_same(name, argument, promise, policy, digests)
        if is_same is None:
            unknown.append(name)
        elif not is_same:
            differing.append(_other_content(name, promise.policy.get(argument), policy[argument]))
    if not _are_checkpoints(policy["controller"]) and "profile" in digests:
        # What a chooser that has no checkpoint knows of settings is from the profile.
        differing.append(_difference("profile", promise.digests.get("profile"), digests["profile"]))
    return Validity(promise=promise, differing=tuple(filter(None, differing)), unknown=tuple(unknown))


def _difference(name: str, then: object, now: object) -> str:
    return "" if then is None or then == now else f"{name} ({then} then, {now} now)"


def _other_content(name: str, then: object, now: object) -> str:
    return f"{name} (other content of {now})" if then == now else f"{name} ({then} then, {now} now)"


def _is_same(
    name: str, argument: str, promise: Promise, policy: Mapping[str, Any], digests: Mapping[str, str]
) -> bool | None:
    """Compare by digest; by the name of a chooser where the file has none; ``None`` if that says nothing."""
    then, now = promise.digests.get(name), digests[name]
    if then is not None:
        return then == now
    named = promise.policy.get(argument)
    if name == "controller" and named is not None and not _are_checkpoints(named, policy[argument]):
        return bool(named == policy[argument])
    return None


def _are_checkpoints(*controllers: str) -> bool:
    return all(controller.endswith(_CHECKPOINT) for controller in controllers)


def _listed(budgets_ms: Sequence[float]) -> str:
    if len(budgets_ms) > _MOST_NAMED:
        return f"{len(budgets_ms)} of the budgets"
    return f"{', '.join(f'{budget_ms:g}' for budget_ms in budgets_ms)} ms"
