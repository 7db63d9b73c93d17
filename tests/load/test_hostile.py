"""Files that try to run code, or to be too big: nothing runs, and each is refused."""

from __future__ import annotations

import io
import os
import pickle
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deadrelu import open_model
from deadrelu.errors import DeadreluError, FileError, TrustError
from deadrelu.load.trust import Trust

Save = Callable[..., Path]


def _net(**attributes: Any) -> nn.Module:
    """A net whose ReLU carries more in its `__dict__` than the class would put there."""
    relu = nn.ReLU()
    vars(relu).update(attributes)
    return nn.Sequential(nn.Linear(2, 2), relu)


def test_the_payload_of_these_tests_does_run_under_plain_unpickling(save: Save, payload: Any, marker: Path) -> None:
    torch.load(save(payload), weights_only=False)
    assert marker.exists()


def test_exec_is_refused_by_name(save: Save, payload: Any, marker: Path) -> None:
    with pytest.raises(TrustError, match=r"builtins\.exec"):
        open_model(save({"model": payload}))
    assert not marker.exists()


def test_os_system_is_refused_by_name(save: Save, call: Any, marker: Path) -> None:
    path = save({"w": torch.ones(2), "x": call(os.system, f"touch {marker}")})
    with pytest.raises(TrustError, match=r"(posix|nt)\.system"):
        open_model(path)
    assert not marker.exists()


def test_a_state_dict_beside_a_payload_is_refused(save: Save, payload: Any, marker: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\ndef net(): return nn.Linear(2, 2)\n")
    path = save({"state_dict": nn.Linear(2, 2).state_dict(), "extra": payload})
    with pytest.raises(TrustError, match=r"builtins\.exec"):
        open_model(path, arch=f"{tmp_path / 'net.py'}:net")
    assert not marker.exists()


def test_a_nested_torch_load_is_refused(save: Save, call: Any, payload: Any, marker: Path) -> None:
    inner = io.BytesIO()
    torch.save(payload, inner)
    path = save({"model": call(torch.storage._load_from_bytes, inner.getvalue()), "w": torch.ones(1)})
    with pytest.raises(TrustError, match=r"torch\.storage\._load_from_bytes"):
        open_model(path)
    assert not marker.exists()


def test_a_constructor_call_with_the_files_arguments_is_refused_and_allocates_nothing(save: Save, call: Any) -> None:
    net = nn.Sequential(nn.ReLU())
    net._modules["0"] = call(nn.Linear, 100_000, 200_000)  # 80 GB
    start = time.monotonic()
    with pytest.raises(TrustError, match=r"torch\.nn\.modules\.linear\.Linear"):
        open_model(save(net))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "name", ["forward", "__call__", "__deepcopy__", "_compiled_call_impl", "parameters", "__class__"]
)
def test_a_state_that_would_replace_a_method_is_refused(save: Save, name: str) -> None:
    # torch leaves `_compiled_call_impl` out when it saves: so write another of its length, and rename it in the file.
    written = name.replace("_impl", "_imp1")
    path = save(_net(**{written: F.relu}))
    _replace(path, written.encode(), name.encode())
    with pytest.raises(TrustError, match=name):
        open_model(path)


def _replace(path: Path, old: bytes, new: bytes) -> None:
    """Edit the pickle of a torch zip, with correct checksums."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            assert not name.endswith("data.pkl") or old in content
            archive.writestr(name, content.replace(old, new) if name.endswith("data.pkl") else content)


@pytest.mark.parametrize("value", [F.relu, [["weight_ih_l0"]]], ids=["function", "names"])
def test_a_property_cannot_be_shadowed(save: Save, value: object) -> None:
    rnn = nn.LSTM(2, 2)
    vars(rnn)["all_weights"] = value
    with pytest.raises(TrustError, match="its own 'all_weights', which would replace that of LSTM"):
        open_model(save(rnn))


@pytest.mark.parametrize("table", ["_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks"])
def test_hooks_are_refused(save: Save, table: str) -> None:
    with pytest.raises(TrustError, match="hooks"):
        open_model(save(_net(**{table: OrderedDict({0: F.relu})})))


def test_a_payload_as_an_attribute_or_as_a_hook_is_refused(save: Save, payload: Any, marker: Path) -> None:
    for attributes in ({"note": payload}, {"_forward_hooks": {0: payload}}, {"note": [(payload,)]}):
        with pytest.raises(TrustError, match=r"builtins\.exec"):
            open_model(save(_net(**attributes)))
    assert not marker.exists()


def test_a_module_as_a_plain_attribute_of_a_torch_class_is_refused(save: Save) -> None:
    net = _net(note=[nn.ReLU()])
    with pytest.raises(TrustError, match="not a plain value"):
        open_model(save(net))


def test_a_payload_left_on_the_pickles_stack_is_refused(save: Save, marker: Path) -> None:
    path = save(nn.Sequential(nn.ReLU()))
    code = f"open({str(marker)!r}, 'w')".encode()
    push = b"cbuiltins\nexec\n(X" + len(code).to_bytes(4, "little") + code + b"tR"
    _replace(path, b"\x80\x02", b"\x80\x02" + push)
    with pytest.raises(TrustError, match=r"builtins\.exec"):
        open_model(path)
    assert not marker.exists()


def test_a_pickle_of_a_later_protocol_is_refused_with_its_names(save: Save, payload: Any, marker: Path) -> None:
    with pytest.raises(TrustError, match=r"builtins\.exec"):
        open_model(save({"a": payload}, pickle_protocol=4))
    assert not marker.exists()


def test_a_legacy_file_with_a_payload_is_refused(save: Save, payload: Any, marker: Path) -> None:
    path = save({"w": torch.ones(2), "x": payload}, _use_new_zipfile_serialization=False)
    with pytest.raises(TrustError, match=r"builtins\.exec"):
        open_model(path)
    assert not marker.exists()


def test_a_plain_pickle_is_refused_unread(tmp_path: Path, payload: Any, marker: Path) -> None:
    (tmp_path / "m.pt").write_bytes(pickle.dumps(payload))
    with pytest.raises(FileError, match="plain pickle"):
        open_model(tmp_path / "m.pt", trust=Trust(all=True))
    assert not marker.exists()


def test_a_tensor_of_a_trillion_elements_over_four_bytes_is_refused_at_once(save: Save) -> None:
    path = save(nn.ParameterList([nn.Parameter(torch.ones(1).expand(10**12))]))
    start = time.monotonic()
    with pytest.raises(FileError, match="more elements than it holds"):
        open_model(path)
    assert time.monotonic() - start < 5


def test_a_storage_that_claims_more_than_its_record_holds_is_refused(save: Save) -> None:
    net = nn.Sequential(nn.Linear(40, 50, bias=False))
    path = save(net)
    _replace(path, b"M\xd0\x07", b"M\xd0\x7f")  # 2000 elements become 32720
    with pytest.raises(FileError):
        open_model(path)


def test_deep_nesting_and_shared_lists_end_quickly(save: Save) -> None:
    laughs: Any = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    start = time.monotonic()
    assert isinstance(open_model(save(_net(note=laughs))).module, nn.Sequential)
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    open_model(save(_net(note=deep)))
    assert time.monotonic() - start < 5


def test_only_our_errors_come_out_of_a_file_that_is_cut_anywhere(save: Save) -> None:
    path = save(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    content = path.read_bytes()
    for end in range(0, len(content), 64):
        path.write_bytes(content[:end])
        with pytest.raises(DeadreluError):
            open_model(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_only_our_errors_come_out_of_a_file_with_flipped_bytes(save: Save, zipped: bool) -> None:
    value = nn.Sequential(nn.Linear(4, 4), nn.ReLU()) if zipped else nn.Linear(4, 4).state_dict()
    path = save(value, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    outcomes = set()
    start = time.monotonic()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            open_model(path, arch=None if zipped else "torch.nn:Identity")
            outcomes.add("opened")
        except DeadreluError as error:
            outcomes.add(type(error).__name__)
    assert "FileError" in outcomes
    assert time.monotonic() - start < 60
