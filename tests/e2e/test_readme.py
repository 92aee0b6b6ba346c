"""What the READMEs show is what happens. (The signer's guide has a test of its own, with everything that it prints.)"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from lab import Lab
from readme import Step, files, follow, steps

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "verifier/README.md", "signer/README.md", "bootloader-sim/README.md")
RUN = [page for page in PAGES if "<!-- run -->" in (ROOT / page).read_text(encoding="utf-8")]
MAX_EXAMPLE = 30
"""Lines of the updater that verifier/README.md promises."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the pages' commands are for bash")
@pytest.mark.parametrize("page", RUN)
def test_a_page_does_what_it_says(page: str, lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(lab.two, tmp_path / "repository")
    shutil.copy(lab.root, tmp_path)
    shutil.copy(lab.folder / "boot.pub", tmp_path)
    assert follow((ROOT / page).read_text(encoding="utf-8"), tmp_path) > 0


def test_the_pages_with_commands_for_a_board_are_run() -> None:
    assert {"verifier/README.md", "bootloader-sim/README.md"} <= set(RUN)


def test_the_updater_is_as_short_as_it_is_said_to_be() -> None:
    example = files((ROOT / "verifier/README.md").read_text(encoding="utf-8"))["updater.py"]
    assert len(example.splitlines()) < MAX_EXAMPLE


PAGE = """
<!-- file: a.txt -->
```text
one
```

<!-- run -->
```console
$ cat a.txt; cd ..
one
$ false
# exit 1
```

```console
$ not run
```
"""


def test_what_is_read_out_of_a_page() -> None:
    assert files(PAGE) == {"a.txt": "one\n"}
    assert list(steps(PAGE)) == [Step("cat a.txt; cd ..", ("one",), 0), Step("false", (), 1)]


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
@pytest.mark.parametrize(
    ("change", "words"), [(("one\n$", "two\n$"), "lacks: two"), (("exit 1", "exit 2"), "exit 1, not 2")]
)
def test_a_page_that_is_wrong_is_found(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert follow(PAGE, tmp_path) == 2
    with pytest.raises(AssertionError, match=words):
        follow(PAGE.replace(*change), tmp_path)
