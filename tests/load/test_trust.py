"""What the user allows, and how a refusal reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

from deadrelu.load.trust import Origin, Trust, sha256_of


def test_the_hash_is_that_of_hashlib(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc" * 1_000_000)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_trust_covers_all_files_or_those_of_a_hash_and_by_default_none() -> None:
    assert not Trust().covers("ab")
    assert Trust(all=True).covers("ab")
    assert Trust(sha256=("AB",)).covers("ab")
    assert not Trust(sha256=("cd",)).covers("ab")
    assert not Trust(allow=("pkg.Net",)).covers("ab")


def test_a_refusal_names_every_global_and_each_flag_that_would_allow_it() -> None:
    error = Origin(Path("m.pt"), "ab12", Path("m.pt")).refuse_names(["pkg.Net", "__main__.Other", "builtins.exec"])
    assert error.message == "m.pt asks to run code: __main__.Other, builtins.exec, pkg.Net"
    assert "--trust runs" in error.hint
    assert "--trust-sha256 ab12" in error.hint
    assert "--allow pkg.Net" in error.hint
    assert "--arch FILE.py:Other" in error.hint


def test_a_refusal_never_proposes_to_allow_a_builtin() -> None:
    assert "--allow" not in Origin(Path("m.pt"), "ab", Path("m.pt")).refuse_names(["builtins.exec", "os.system"]).hint
