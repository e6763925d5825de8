"""The data folder: where it is, and what is kept in it for its owner only."""

import json
import os
import stat
from pathlib import Path

import pytest

from hermes.data_dir import (
    data_folder,
    kept_secret,
    make_data_dir,
    node_file,
    operator_key,
    remove_node_file,
    write_node_file,
    write_private,
)
from hermes.errors import SettingsError


@pytest.mark.parametrize(
    ("option", "environ", "folder"),
    [
        ("/x", {"HERMES_DATA_DIR": "/y"}, "/x"),
        (None, {"HERMES_DATA_DIR": "/y", "XDG_DATA_HOME": "/z"}, "/y"),
        (None, {"XDG_DATA_HOME": "/z", "HOME": "/h"}, "/z/hermes"),
        (None, {"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/hermes"),
        (None, {"HOME": "/h"}, "/h/.local/share/hermes"),
    ],
)
def test_data_folder_is_chosen(option: str | None, environ: dict[str, str], folder: str) -> None:
    assert data_folder(option, environ) == Path(folder)


def test_data_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = make_data_dir(tmp_path / "a/b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert make_data_dir(folder) == folder
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"--data-dir: .*/file cannot be made"):
        make_data_dir(tmp_path / "file")


def test_operator_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    key = operator_key(tmp_path, {})
    assert len(key) > 40
    assert operator_key(tmp_path, {}) == key
    assert stat.S_IMODE((tmp_path / "operator.key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["operator.key"]


def test_operator_key_of_the_environment_wins_and_is_not_stored(tmp_path: Path) -> None:
    assert operator_key(tmp_path, {"HERMES_OPERATOR_KEY": "mine"}) == "mine"
    assert os.listdir(tmp_path) == []
    with pytest.raises(SettingsError, match=r"^HERMES_OPERATOR_KEY: expected printable ASCII"):
        operator_key(tmp_path, {"HERMES_OPERATOR_KEY": "a\nb"})


def test_secret_file_that_cannot_be_used_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "folder").mkdir()
    for name, reason in (("empty", "is empty"), ("folder", "cannot be read")):
        with pytest.raises(SettingsError, match=f"{name}: {reason}"):
            kept_secret(tmp_path / name, lambda: "x")
    with pytest.raises(SettingsError, match="cannot be written"):
        write_private(tmp_path / "no/such/folder", "x")


def test_node_file_tells_where_the_node_is_and_goes_with_its_process(tmp_path: Path) -> None:
    assert node_file(tmp_path) is None
    write_node_file(tmp_path, "http://127.0.0.1:1")
    assert node_file(tmp_path) == ("http://127.0.0.1:1", os.getpid())
    remove_node_file(tmp_path)
    assert node_file(tmp_path) is None
    write_node_file(tmp_path, "http://h", pid=1)
    remove_node_file(tmp_path)
    assert node_file(tmp_path) == ("http://h", 1)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": "x"}', '{"url": "x", "pid": "y"}', "\xff"])
def test_node_file_that_cannot_be_read_is_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "node.json").write_text(content, encoding="latin-1")
    assert node_file(tmp_path) is None


def test_node_file_is_json_for_others_too(tmp_path: Path) -> None:
    write_node_file(tmp_path, "http://h", pid=5)
    assert json.loads((tmp_path / "node.json").read_text()) == {"url": "http://h", "pid": 5}
