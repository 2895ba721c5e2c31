"""`make` on a machine that lacks something: the first line says what, and what to do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the first step of every target reads, and a folder with the only programs there are."""
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("make", "df", "awk", "mkdir", "rm"):
        (programs / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def first_line(checkout: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["make", "up"],
        cwd=checkout,
        env={"PATH": str(checkout / "programs"), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    return done.stderr.splitlines()[0]


def python(checkout: Path, script: str) -> None:
    program = checkout / "programs" / "python3"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("script", [None, "exit 1"])
def test_no_python__or_only_an_old_one(checkout: Path, script: str | None) -> None:
    if script is not None:
        python(checkout, script)
    told = first_line(checkout)
    assert told == "make: Python 3.11 or newer is needed, none was found"


def test_python__without_venv(checkout: Path) -> None:
    python(checkout, f'case "$2" in *venv*) exit 1;; esac; exec {sys.executable} "$@"')
    told = first_line(checkout)
    assert told == "make: python3 has no venv (on Debian: apt install python3-venv)"


def test_package_index__that_is_away(checkout: Path) -> None:
    python(checkout, f'exec {sys.executable} "$@"')
    away = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "HOME": os.devnull}
    told = first_line(checkout, away)
    assert told.startswith("make: cannot install uv: is the package index reachable? ")
    assert told.endswith(" MiB free on disk; more in .build/pip.log")
