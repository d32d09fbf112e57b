"""Removing trees that somebody else has filled."""

from __future__ import annotations

import os
from pathlib import Path

from pannier.runtime.removal import remove_tree


def test_everything_goes_but_what_links_point_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").write_text("x")
    (tree / "a" / "to-directory").symlink_to(outside)
    (tree / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "fifo")
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "file").read_text() == "stays"


def test_deeper_than_paths_and_recursion_go(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 100, dir_fd=fd)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(str(tree))
    assert not tree.exists()


def test_gone_or_no_directory(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "none"))
    (tmp_path / "file").write_text("x")
    remove_tree(str(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_place_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    remove_tree(str(tmp_path / "link"))
    assert (tmp_path / "kept").exists()
    assert not (tmp_path / "link").is_symlink()
