"""Which code a run is done by."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mrm import code_state
from mrm.code_state import code_digest, git_commit, local_changes


def make(root: Path) -> Path:
    (root / "mrm").mkdir(parents=True)
    (root / "mrm" / "a.py").write_text("one = 1\n")
    (root / "experiments").mkdir()
    (root / "experiments" / "b.yaml").write_text("two: 2\n")
    return root


def test_code_digest_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1"), make(tmp_path / "2")
    assert code_digest(first) == code_digest(second)
    (second / "mrm" / "notes.txt").write_text("no code")
    assert code_digest(first) == code_digest(second)
    (second / "mrm" / "a.py").rename(second / "mrm" / "c.py")
    assert code_digest(first) != code_digest(second)
    (first / "experiments" / "b.yaml").write_text("two: 3\n")
    assert code_digest(first) not in (code_digest(second), code_digest(make(tmp_path / "3")))


def test_outside_a_checkout_nothing_is_known_of_commit_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_state, "ROOT", make(tmp_path / "plain"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert git_commit() == "unknown" and local_changes() == ""


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_local_changes_are_the_patch_and_the_names_of_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "checkout")
    monkeypatch.setattr(code_state, "ROOT", root)

    def git(*words: str) -> None:
        names = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *names, "-C", str(root), *words], check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assert local_changes() == "" and len(git_commit()) == 40
    (root / "mrm" / "a.py").write_text("one = 11\n")
    (root / "mrm" / "new.py").write_text("")
    changes = local_changes()
    assert "# not in the commit: mrm/new.py" in changes and "-one = 1\n+one = 11\n" in changes
    assert git_commit().endswith("-dirty")
    (root / "mrm" / "new.py").unlink()
    patch = local_changes()
    git("checkout", ".")
    subprocess.run(["git", "-C", str(root), "apply"], input=patch, text=True, check=True)  # the code can be had again
    assert (root / "mrm" / "a.py").read_text() == "one = 11\n"
