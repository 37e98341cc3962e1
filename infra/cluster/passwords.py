"""Passwords of this installation. In: .env.example. Out: .env, which only its owner can read, with a password of its own for each."""

import secrets
from collections.abc import Mapping
from pathlib import Path

from infra.cluster.compose import INFRA

EXAMPLE = INFRA / ".env.example"
ENV = INFRA / ".env"


def read(env: Path = ENV) -> dict[str, str]:
    """What .env says; nothing where there is none yet."""
    lines = env.read_text().splitlines() if env.exists() else []
    return {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines) if name[:1] != "#"}


def told(made: Mapping[str, str]) -> str:
    """What a person is shown, once."""
    return "\nmade in infra/.env, and shown only this time:\n" + "\n".join(f"    {name}={value}" for name, value in made.items())


def make(env: Path = ENV, example: Path = EXAMPLE) -> dict[str, str]:
    """The passwords that were made just now: those that the example leaves empty and .env does not have. Others are kept."""
    if not env.exists():
        env.touch(mode=0o600)
        env.write_text(example.read_text())
    lines, had = env.read_text().splitlines(), read(env)
    wanted = [line.removesuffix("=") for line in example.read_text().splitlines() if line.endswith("=") and line[0] != "#"]
    made = {name: secrets.token_urlsafe(18) for name in wanted if not had.get(name)}
    if made:
        kept = [line for line in lines if line.partition("=")[0] not in made]
        env.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in made.items())]) + "\n")
    return made
