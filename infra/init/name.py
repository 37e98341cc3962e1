"""A project's name. In: the repository as texts, a name. Out: the same, so named. Pure."""

import re

from infra.init.tree import Tree

PLACES = {  # path -> what stands around the name
    "pyproject.toml": r'(?m)^(name = ")([\w.-]+)(")$',
    "README.md": r"\A(# )(.+)()$",
    "infra/cluster/compose.py": r'(?m)^(PROJECT = ")([\w.-]+)(")$',
}
WANTED = "want a name of small letters, digits and hyphens that begins with a letter, such as my-kpis"


def checked(name: str) -> str:
    """A name that pip and docker compose both take. Raises ValueError.

    >>> checked("my-kpis")
    'my-kpis'
    """
    if not re.fullmatch(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9])){0,39}", name):
        raise ValueError(f"NAME: got {name!r}, {WANTED}")
    return name


def renamed(tree: Tree, name: str) -> dict[str, str]:
    """The repository under a name: the package's, the title of the README, the project of docker compose."""
    return {
        path: re.sub(PLACES[path], rf"\g<1>{name}\g<3>", text, count=1, flags=re.MULTILINE) if path in PLACES else text
        for path, text in tree.items()
    }
