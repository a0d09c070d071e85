"""Objects as plain values, so that a checkpoint holds which ones a module was made with."""

from copy import deepcopy
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def described(instance: object) -> dict[str, Any]:
    """Return an object's class path and arguments; each argument must be an attribute of that name."""
    kind = type(instance)
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    names = [name for name, parameter in signature(kind).parameters.items() if parameter.kind not in variadic]
    arguments = {name: getattr(instance, name) for name in names}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}


def rebuilt(given: Kind | dict[str, Any], kind: type[Kind]) -> Kind:
    """Return the object that ``described`` described, or a copy of the object itself.

    Raises:
        ValueError: If the description is of no such class.
    """
    if isinstance(given, kind):
        return deepcopy(given)
    assert isinstance(given, dict), "a checkpoint describes objects"
    module, _, name = given["class_path"].rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as err:
        raise ValueError(f"class_path: there is no {given['class_path']!r}") from err
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ValueError(f"class_path: must be a {kind.__name__}, got {given['class_path']!r}")
    return found(**given["init_args"])
