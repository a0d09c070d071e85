from pathlib import Path

import pytest

from profiling.promises.digests import file_digest, profiles_digest
from profiling.schema import ProfileError


def test_a_digest_is_of_the_content_whatever_the_name() -> None:
    for name, content in (("a.parquet", "x"), ("b.parquet", "x"), ("c.parquet", "y")):
        Path(name).write_text(content)
    assert file_digest("a.parquet") == file_digest(Path("b.parquet")) != file_digest("c.parquet")
    assert profiles_digest(["*.parquet"]) == profiles_digest(["a.parquet", "b.parquet", "c.parquet"])
    assert profiles_digest(["a.parquet"]) != profiles_digest(["a.parquet", "c.parquet"])
    with pytest.raises(ProfileError, match="no file matches"):
        profiles_digest(["*.json"])
