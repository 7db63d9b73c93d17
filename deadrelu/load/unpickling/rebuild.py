"""Make live modules out of inert stubs: `cls.__new__` and a state that was checked value by value, no constructor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deadrelu.errors import ArchitectureError, FileError
from deadrelu.load.trust import Origin
from deadrelu.load.unpickling.known import GETATTR, PARTIAL, TORCH_FUNCTIONS, torch_classes, torch_functions
from deadrelu.load.unpickling.stub import Stub, StubClass
from deadrelu.programs.code import blame

_SCALARS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
_TABLES = ("_parameters", "_buffers", "_modules")
_HOOKS = frozenset(key for key, value in vars(nn.Module()).items() if "hook" in key and isinstance(value, dict))
_OVERLOADS = "__overloads__"
"""What `torch.jit.script` leaves in a module that it was given: names of overloaded methods. Only it reads them."""

Code = type[Any] | Callable[..., Any]


def rebuild(stub: Stub, origin: Origin, allowed: Mapping[str, Code]) -> nn.Module:
    """The module that `stub` describes, with shared modules and tied tensors kept shared.

    `allowed` are the user's own classes and functions by pickle name; torch.nn's are known. Raises `TrustError`, saying
    where and why, if the state is more than plain values, tensors and known modules; `ArchitectureError` if a user's
    class does not take its state.
    """
    try:
        made = _Rebuilder(origin, allowed).made(stub, "the model")
    except RecursionError as error:
        raise FileError(f"{origin.path} nests its values too deeply", hint="save the state dict instead") from error
    if not isinstance(made, nn.Module):
        raise FileError(f"{origin.path} holds a {stub.path}, not a torch module", hint="save the nn.Module itself")
    return made


def unknown(names: tuple[str, ...], allowed: Mapping[str, Code]) -> list[str]:
    """Those of the file's globals that are neither torch.nn's nor the user's."""
    builtin = (GETATTR, TORCH_FUNCTIONS) if TORCH_FUNCTIONS in names else ()
    known = (*torch_classes(), *torch_functions(), *allowed, *builtin, *((PARTIAL,) if allowed else ()))
    return [name for name in names if name not in known]


def _is_overloads(value: Any) -> bool:
    """Whether a value is a plain dictionary from names to lists of names."""
    return type(value) is dict and all(
        type(key) is str and type(names) is list and all(type(name) is str for name in names)
        for key, names in value.items()
    )


class _Rebuilder:
    """One file's objects, each made once: the memo is what keeps a shared ReLU shared."""

    def __init__(self, origin: Origin, allowed: Mapping[str, Code]) -> None:
        self.origin = origin
        self.allowed = allowed
        self.memo: dict[int, Any] = {}
        self.open: set[int] = set()

    def made(self, stub: Stub, where: str) -> Any:
        """The object of a stub."""
        if id(stub) in self.memo:
            if id(stub) in self.open and stub.path not in self.allowed:
                raise self.origin.refuse(f"has a module that contains itself ({where})")
            return self.memo[id(stub)]
        theirs = stub.path in self.allowed
        code = self.allowed[stub.path] if theirs else torch_classes().get(stub.path)
        if code is None:
            raise self.origin.refuse_names([stub.path])
        if not isinstance(code, type):
            raise self.origin.refuse(f"calls {stub.path} to make {where}", [stub.path])
        if issubclass(code, Enum) and len(stub.args) == 1:
            return self._remember(stub, self._member(code, stub.args[0], where))
        if stub.args or stub.called:
            raise self.origin.refuse(f"calls {stub.path} with arguments of its own to make {where}", [stub.path])
        return self._filled(stub, code, where, theirs)

    def _filled(self, stub: Stub, code: type[Any], where: str, theirs: bool) -> Any:
        """A bare object of class `code`, with the stub's state in it."""
        try:
            made: Any = object.__new__(code)
            self.memo[id(stub)] = made
        except Exception as error:
            raise ArchitectureError(
                f"{stub.path} cannot be made without arguments: {blame(error)}",
                hint="save and load its state dict instead",
            ) from error
        self.open.add(id(stub))
        if issubclass(code, nn.Module):
            state = self._module_state(stub, code, where, theirs)
        else:
            state = self.value({} if stub.state is None else stub.state, where, theirs)
        self.open.discard(id(stub))
        try:
            if hasattr(made, "__setstate__"):
                made.__setstate__(state)
            else:
                made.__dict__.update(state)
        except Exception as error:
            message = f"{where} in {self.origin.path} does not fit the class {stub.path}: {blame(error)}"
            raise ArchitectureError(message, hint="was the file saved with another version of that class?") from error
        return made

    def _module_state(self, stub: Stub, code: type[nn.Module], where: str, theirs: bool) -> dict[str, Any]:
        """The checked `__dict__` of a module."""
        if type(stub.state) not in (dict, OrderedDict):
            raise self.origin.refuse(f"gives {where} a state that is not a dictionary", [stub.path])
        items = dict(dict.items(stub.state))
        if any(type(items.get(table)) not in (dict, OrderedDict) for table in _TABLES):
            raise self.origin.refuse(f"gives {where} no parameters, buffers or modules", [stub.path])
        state: dict[str, Any] = {}
        for key, value in items.items():
            if key == _OVERLOADS and _is_overloads(value):
                continue
            self._check_key(key, code, where)
            path = f"{where}, {key}"
            if key in _TABLES:
                state[key] = {name: self._entry(key, name, inner, where) for name, inner in dict.items(value)}
            elif key in _HOOKS:
                if not isinstance(value, (dict, OrderedDict)) or dict.__len__(value):
                    raise self.origin.refuse(f"gives {where} hooks ({key}), which are code", [stub.path])
                state[key] = OrderedDict()
            elif key == "_all_weights":
                state[key] = self._names(value, path)
            else:
                state[key] = self.value(value, path, theirs)
        return state

    def _check_key(self, key: Any, code: type[nn.Module], where: str) -> None:
        """Refuse a name that would shadow a method or property of the class."""
        if type(key) is not str:
            raise self.origin.refuse(f"gives {where} a state key that is not a string")
        held = getattr(code, key, None)
        if key.startswith("__") or key == "_compiled_call_impl" or callable(held) or isinstance(held, property):
            raise self.origin.refuse(f"gives {where} its own {key!r}, which would replace that of {code.__name__}")

    def _entry(self, table: str, name: Any, value: Any, where: str) -> Any:
        """One parameter, buffer or child module."""
        if type(name) is not str or not name or "." in name or name.startswith("__"):
            raise self.origin.refuse(f"gives {where} a part called {name!r}")
        path = name if where == "the model" else f"{where}.{name}"
        if value is None:
            return None
        if table == "_modules" and isinstance(value, Stub):
            child = self.made(value, path)
            if isinstance(child, nn.Module):
                return child
        elif table != "_modules" and isinstance(value, Tensor):
            tensor = self.value(value, path, False)
            if table == "_buffers" or isinstance(tensor, nn.Parameter):
                return tensor
        raise self.origin.refuse(f"gives {where} a {type(value).__name__} as {name!r}, in its {table[1:]}")

    def value(self, value: Any, where: str, theirs: bool) -> Any:
        """A copy of a plain value: nothing of the file's own objects is kept, since they can carry attributes."""
        if type(value) in _SCALARS:
            return value
        if id(value) in self.memo and not isinstance(value, Stub):
            return self.memo[id(value)]
        if isinstance(value, Tensor):
            return self._remember(value, self._tensor(value, where))
        if type(value) is tuple:
            return self._remember(value, tuple(self.value(inner, where, theirs) for inner in value))
        if type(value) is list:
            copy = self._remember(value, [])
            copy.extend(self.value(inner, where, theirs) for inner in value)
            return copy
        if type(value) is set:
            return self._remember(value, {self.value(inner, where, theirs) for inner in value})
        if type(value) in (dict, OrderedDict):
            table = self._remember(value, type(value)())
            for key, inner in dict.items(value):
                table[self.value(key, where, theirs)] = self.value(inner, where, theirs)
            return table
        return self._code(value, where, theirs)

    def _code(self, value: Any, where: str, theirs: bool) -> Any:
        """An activation function of torch; in a user's class also their own functions, classes and objects."""
        if isinstance(value, StubClass):
            name = value.path
        elif isinstance(value, Stub) and value.path == GETATTR:
            holder, attribute = value.args if len(value.args) == 2 else (None, None)
            name = f"{holder.path}.{attribute}" if isinstance(holder, StubClass) else GETATTR
        elif isinstance(value, Stub) and theirs:
            return self._partial(value, where) if value.path == PARTIAL else self.made(value, where)
        else:
            raise self.origin.refuse(
                f"holds an object that is not a plain value at {where}", [getattr(value, "path", "")]
            )
        if name in torch_functions():
            return torch_functions()[name]
        if theirs and (name in self.allowed or name in torch_classes()):
            return self.allowed.get(name) or torch_classes()[name]
        raise self.origin.refuse(f"holds code at {where}: {name}", [name])

    def _partial(self, stub: Stub, where: str) -> Any:
        """A `functools.partial` of what a user's class may hold anyway, with plain arguments; it is not called."""
        if type(stub.state) is not tuple or len(stub.state) != 4 or stub.state[3]:
            raise self.origin.refuse(f"holds a partial function with attributes of its own at {where}", [stub.path])
        function, args, keywords, _ = stub.state
        if not isinstance(function, StubClass) or type(args) is not tuple or type(keywords) is not dict:
            raise self.origin.refuse(f"holds a partial of no known function at {where}", [stub.path])
        made = partial(self._code(function, where, True), *self.value(args, where, True))
        made.keywords.update(self.value(keywords, where, True))
        return self._remember(stub, made)

    def _member(self, code: type[Enum], value: Any, where: str) -> Enum:
        """A member of a user's enumeration, found by its value."""
        try:
            return code(self.value(value, where, False))
        except Exception as error:
            message = f"{where} in {self.origin.path} does not fit the class {code.__name__}: {blame(error)}"
            raise ArchitectureError(message, hint="was the file saved with another version of that class?") from error

    def _tensor(self, tensor: Tensor, where: str) -> Tensor:
        """The same values in a new tensor object, through the class and not through what the object may carry."""
        if type(tensor) not in (Tensor, nn.Parameter):
            raise self.origin.refuse(f"holds a tensor of class {type(tensor).__name__} at {where}")
        fresh = Tensor.detach(tensor)
        if type(tensor) is nn.Parameter:
            return nn.Parameter(fresh, requires_grad=tensor.requires_grad)
        return Tensor.requires_grad_(fresh, tensor.requires_grad)

    def _names(self, value: Any, where: str) -> Any:
        """The weight names of an RNN: lists of lists of strings, since anything else sends its set-up into loops."""
        if type(value) is list and all(type(row) is list and all(type(n) is str for n in row) and row for row in value):
            return [list(row) for row in value]
        raise self.origin.refuse(f"holds no names of weights at {where}")

    def _remember(self, value: Any, copy: Any) -> Any:
        """Note the copy, so that what the file shares stays shared."""
        self.memo[id(value)] = copy
        return copy
