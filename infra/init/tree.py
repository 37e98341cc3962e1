"""The repository as texts. In: a directory. Out: its text files by path, and the same written back."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

Tree = Mapping[str, str]  # path, from the root on, with / -> text
HIDDEN = (".ci", ".github")  # the only hidden directories that are the repository's own


def read(root: Path) -> dict[str, str]:
    """Every text file but those that the targets make."""
    found = {}
    for directory, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name in HIDDEN or not (name.startswith(".") or name == "__pycache__"))
        for name in sorted(names):
            file = Path(directory) / name
            try:
                found[file.relative_to(root).as_posix()] = file.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue
    return found


def write(root: Path, before: Tree, after: Tree) -> None:
    """Write what differs, remove what is gone; directories that are empty then go too."""
    for path in sorted(after):
        if before.get(path) != after[path]:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(after[path], encoding="utf-8")
    for path in sorted(set(before) - set(after)):
        (root / path).unlink(missing_ok=True)
        for parent in (root / path).parents:
            if parent == root or any(parent.iterdir()):
                break
            parent.rmdir()


def told(before: Tree, after: Tree) -> list[str]:
    """A line for each file that differs."""
    lines = []
    for path in sorted({*before, *after}):
        if path not in after:
            lines.append(f"  remove  {path}")
        elif path not in before:
            lines.append(f"  write   {path}")
        elif before[path] != after[path]:
            lines.append(f"  change  {path}")
    return lines


def changes_of_its_own(root: Path) -> int:
    """How many files of a git tree are changed and not committed; 0 where there is no git."""
    try:
        done = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 0
    return len(done.stdout.splitlines()) if done.returncode == 0 else 0
