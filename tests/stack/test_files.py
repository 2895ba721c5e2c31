"""Folders that are whole or absent, locks with one holder, ports that are free."""

import threading
from pathlib import Path

import pytest

from stack.files import build_folder, cause_told, locked, remembered_ports


def test_build_folder__leaves_nothing_when_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "built"

    def interrupted(unfinished: Path) -> None:
        (unfinished / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_folder(folder, interrupted)
    assert not folder.exists()
    build_folder(folder, lambda unfinished: (unfinished / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_locked__lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with locked(tmp_path / "lock"):
            inside.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path / "lock"):
        thread.start()
        assert waiting.wait(timeout=5)
        thread.join(timeout=0.2)
        inside.append("first")
    thread.join(timeout=5)
    assert inside == ["first", "second"]


def test_remembered_ports__are_the_same_next_time(tmp_path: Path) -> None:
    first = remembered_ports(tmp_path / "ports", 2)
    assert len(set(first)) == 2
    assert remembered_ports(tmp_path / "ports", 2) == first


def test_cause_told__is_the_error_and_not_what_was_tidied_up_behind_it() -> None:
    output = (
        "creating directory ... ok\n"
        "2026-01-01 FATAL:  could not create shared memory segment\n"
        "child process exited with exit code 1\n"
        "initdb: error: failed to remove data directory\n"
    )
    assert "shared memory" in cause_told(output)
    assert cause_told("nothing special\nthe end\n") == "the end"
    assert cause_told("") == ""
