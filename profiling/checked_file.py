"""Small JSON files of ours whose fields are checked where they enter."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Content = TypeVar("Content", bound=BaseModel)


def read_checked(path: Path | str, kind: type[Content], *, error: type[ValueError], written_by: str) -> Content:
    """Read a file as a model of pydantic's.

    Args:
        path: The file.
        kind: What it must be.
        error: Type of what is raised.
        written_by: Says where such files come from, for who has none.

    Raises:
        ValueError: Of type ``error``: if the file is missing or not of that kind; names file and first wrong field.
    """
    try:
        return kind.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError as err:
        raise error(f"{path}: no such file; {written_by}") from err
    except ValidationError as err:
        first, *rest = err.errors(include_url=False)
        where = ".".join(map(str, first["loc"])) or "file"
        more = f" (and {len(rest)} more)" if rest else ""
        raise error(f"{path}: {where}: {first['msg']}{more}") from err
