"""The examples of the README run, one after the other, as one program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(README.read_text())
    assert len(blocks) == 7
    from processes import Helper

    program = "\n".join(blocks) + "\nprint(db.execute('SELECT group_concat(name) FROM job').fetchone()[0])\n"
    with Helper("exec(sys.stdin.read())", "unused") as helper:
        out, err = helper.process.communicate(program, timeout=30)
    assert out == "first,second,after 2,third,fourth\n", err


def test_the_settings_of_django_are_those_of_its_tests() -> None:
    assert '"ENGINE": "penholder.django"' in README.read_text()


def test_the_recipes_are_as_the_readme_has_them() -> None:
    for row in re.findall(r"^\| \S+ \| `(.*?)` \| \[(.*?)\]", README.read_text(), re.MULTILINE):
        code, script = row
        called: Any = code.partition("(")[0]
        assert called in (README.parent / "recipes" / script).read_text()
