"""The codec: what was written comes back, what is wrong is named, files change whole or not."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from headway.codec import (
    KEY,
    Count,
    Format,
    convert,
    decode,
    decode_document,
    encode,
    encode_document,
    read_bytes,
    replacing,
    write_bytes,
)
from headway.errors import InvalidRequest

FORM = Format(what="a tree of ours", key="headway_tree", version=2, remedy="plant it again")


class Pair(NamedTuple):
    a: int
    b: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    size: Count
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.size == 13:
            raise ValueError("13 is no size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    leaf: Leaf
    other: Leaf | None = None
    more: tuple[Leaf, ...] = ()
    pairs: tuple[Pair, ...] = ()
    named: Mapping[str, Leaf] = field(default_factory=dict)
    kind: Literal["oak", "elm"] = "oak"


TREE = Tree(
    leaf=Leaf(size=1),
    other=Leaf(size=2, weight=0.1),
    more=(Leaf(size=3),),
    pairs=(Pair(1, True),),
    named={"x": Leaf(size=4)},
    kind="elm",
)


@pytest.mark.parametrize("tree", [TREE, Tree(leaf=Leaf(size=0))])
def test_what_was_written_comes_back(tree: Tree) -> None:
    assert decode(Tree, encode(tree), "here") == tree
    assert decode(Tree, encode(tree, terse=True), "here") == tree
    assert decode_document(Tree, encode_document(tree, FORM), FORM, "here") == tree


def test_terse_leaves_out_defaults_all_the_way_down() -> None:
    tree = Tree(leaf=Leaf(size=1), more=(Leaf(size=2),))
    assert encode(tree, terse=True) == b'{"leaf":{"size":1},"more":[{"size":2}]}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"leaf":{"size":1,"colour":2}}', "here: leaf.colour: unknown key"),
        ('{"leaf":{}}', "here: leaf.size: missing"),
        ('{"leaf":{"size":"1"}}', "here: leaf.size: expected `int`, got `str`"),
        ('{"leaf":{"size":-1}}', "here: leaf.size: expected `int` >= 0"),
        ('{"leaf":{"size":13}}', "here: leaf: 13 is no size"),
        ('{"leaf":{"size":true}}', "here: leaf.size: expected `int`, got `bool`"),
        ('{"leaf":{"size":1,"weight":1e999}}', "here: leaf.weight: number out of range"),
        ('{"leaf":{"size":1,"weight":NaN}}', "here: JSON is malformed"),
        ('{"leaf":{"size":1},"other":{"s":1}}', "here: other.s: unknown key"),
        ('{"leaf":{"size":1},"more":[{"size":1,"s":1}]}', r"here: more\[0\].s: unknown key"),
        ('{"leaf":{"size":1},"named":{"x":{"s":1}}}', r"here: named\[...\].s: unknown key"),
        ('{"leaf":{"size":1},"pairs":[[1]]}', r"here: pairs\[0\]: expected `array` of length 2"),
        ('{"leaf":{"size":1},"kind":"ash"}', "here: kind: invalid enum value 'ash'"),
        ('{"leaf":{"size":1}} and more', "here: JSON is malformed"),
        ("[" * 100_000, "here: "),
        ("", "here: "),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        decode(Tree, text, "here")
    assert "\n" not in caught.value.message


def test_plain_data_is_read_as_strictly() -> None:
    assert convert(Tree, {"leaf": {"size": 1}}, "here") == Tree(leaf=Leaf(size=1))
    with pytest.raises(InvalidRequest, match="unknown key") as caught:
        convert(Tree, {"leaf": {"size": 1}, "more": [{"size": 1, "s": 2}]}, "here")
    assert caught.value.field == "more[0].s"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"headway_tree":1,"anything":2}', "here has version 1 .* reads 2: plant it again"),
        ('{"leaf":{"size":1}}', "here is not a tree of ours"),
        ("[]", "here is not a tree of ours"),
        ("{", "here is not a tree of ours"),
        ('{"headway_tree":2,"leaf":{"s":1}}', "here: leaf.s: unknown key"),
    ],
)
def test_another_version_or_kind_of_file_is_said(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        decode_document(Tree, text, FORM, "here")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "kept"
    write_bytes(path, b"old", make_folder=True)
    with contextlib.suppress(RuntimeError), replacing(path) as file:
        file.write(b"half of the n")
        file.flush()
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in path.parent.iterdir()] == ["kept"]


def test_links_and_devices_are_written_to(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    write_bytes(link, b"x")
    assert link.is_symlink()
    assert target.read_bytes() == b"x"
    write_bytes("/dev/null", b"x")
    assert not Path("/dev/null").is_file()


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot write .*: No such file"):
        write_bytes(tmp_path / "no" / "folder", b"x")
    with pytest.raises(InvalidRequest, match=r"cannot read .*: No such file"):
        read_bytes(tmp_path / "absent")
    write_bytes(tmp_path / "large", b"12345")
    assert read_bytes(tmp_path / "large", most=5) == b"12345"
    with pytest.raises(InvalidRequest, match="too large"):
        read_bytes(tmp_path / "large", most=4)


def test_a_field_may_be_called_otherwise_in_files() -> None:
    assert decode(Renamed, '{"old":1}', "here") == Renamed(new=1)
    assert encode(Renamed(new=1), terse=True) == b'{"old":1}'
    with pytest.raises(InvalidRequest, match="here: old: expected `int`"):
        decode(Renamed, '{"old":"x"}', "here")
    with pytest.raises(InvalidRequest, match="here: new: unknown key"):
        decode(Renamed, '{"new":1}', "here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    new: int = field(default=0, metadata={KEY: "old"})
