"""Reads from the source of a module's forward, without running it, whether it can call an activation function.

If it calls nothing but modules, hooks see everything that it does. Anything unknown is assumed to call a function; what
is wrongly assumed not to is found by the audits of `WatchState`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Hashable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import nn

from deadrelu.programs.callsites import spellings

_FEED_FORWARDS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Torch's layers that call an activation passed to them: `self.activation(self.linear1(x))`."""

_FUNCTIONS = frozenset({"add", "cat", "flatten", "matmul", "mean", "mul", "stack", "sum"})
"""Functions of torch that neither are nor call an activation."""

_METHODS = frozenset(
    {"add", "add_", "chunk", "contiguous", "dim", "expand", "flatten", "matmul", "mean", "mul", "permute", "repeat"}
    | {"reshape", "size", "split", "squeeze", "sum", "t", "transpose", "unsqueeze", "view"}
)
"""Such methods of a tensor."""

_ATTRIBUTES = frozenset({"T", "device", "dtype", "mT", "ndim", "shape"})

_SYNTAX: tuple[type[ast.AST], ...] = (
    *(ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.If, ast.IfExp, ast.Pass, ast.Return),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
    *(ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Subscript, ast.Slice, ast.Starred, ast.keyword),
    ast.expr_context,
)
"""Nodes that call nothing by themselves."""


def is_stock(module: nn.Module) -> bool:
    """Whether the module is torch's own and its forward calls no activation function itself."""
    if isinstance(module, _FEED_FORWARDS) and not isinstance(module.activation, nn.Module):
        return False
    return type(module).__module__.startswith("torch.nn.modules.") and not _is_altered(module)


def only_calls_modules(module: nn.Module) -> bool:
    """Whether every activation that the forward of a module can call is one of its submodules."""
    return is_stock(module) or (not _is_altered(module) and _is_plain(module, "forward", set()))


def feed(module: nn.Module) -> nn.Module | None:
    """The submodule whose output is all that one of torch's transformer layers passes to its activation function.

    A hook on it sees what a function mode would see. None for every other module.
    """
    if type(module) not in _FEED_FORWARDS or _is_altered(module):
        return None
    return module.get_submodule("linear1")


def feeds(own: list[nn.Module], modules: list[nn.Module]) -> list[tuple[nn.Module, nn.Module]]:
    """Each layer that passes the output of a submodule, which it alone owns, to an activation function; with both."""
    owners = Counter(id(child) for module in modules for child in module.children())

    def can_be_read(layer: nn.Module, feeding: nn.Module) -> bool:
        activation = layer.activation
        return owners[id(feeding)] == 1 and isinstance(activation, Hashable) and activation in spellings()

    found = [(layer, feeding) for layer in own if (feeding := feed(layer)) is not None]
    return [pair for pair in found if can_be_read(*pair)]


def _is_altered(module: nn.Module) -> bool:
    """Whether a call runs anything besides the methods of the class."""
    replaced = any(callable(value) and hasattr(type(module), name) for name, value in module.__dict__.items())
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(not getattr(hook, "__module__", "").startswith("deadrelu.measure.") for hook in hooks) or replaced


def _is_plain(module: nn.Module, name: str, seen: set[str]) -> bool:
    """Whether a method, and the other methods of the module that it calls, are harmless."""
    kind = type(module)
    function = inspect.getattr_static(kind, name, None)
    overridden = any(getattr(kind, call) is not getattr(nn.Module, call) for call in ("__call__", "__getattr__"))
    if overridden or not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        return False
    tree = _parsed(function)
    if tree is None or not tree.args.args:
        return False
    seen.add(name)
    reader = _Reader(module, tree.args.args[0].arg, function.__globals__)
    plain = all(reader.is_harmless(node) for statement in tree.body for node in ast.walk(statement))
    return plain and all(method in seen or _is_plain(module, method, seen) for method in reader.methods)


@cache
def _parsed(function: FunctionType) -> ast.FunctionDef | None:
    """The syntax tree of a function; None where there is no source."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        return None
    return tree if isinstance(tree, ast.FunctionDef) else None


class _Reader:
    """Checks one method node by node, each call before what it calls, and collects the other methods that it calls."""

    def __init__(self, module: nn.Module, me: str, names: dict[str, Any]) -> None:
        """`me` is the name of `self` in the method, and `names` are its globals."""
        self._module, self._me, self._names = module, me, names
        self._callees: set[ast.AST] = set()
        self._compared: set[ast.AST] = set()
        self.methods: set[str] = set()

    def is_harmless(self, node: ast.AST) -> bool:
        """Whether this node calls nothing that may be an activation, apart from a submodule or a method of `self`."""
        if isinstance(node, ast.Call):
            self._callees.add(node.func)
            return isinstance(node.func, ast.Attribute)
        if isinstance(node, ast.Attribute):
            return (self._is_called if node in self._callees else self._is_read)(node)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            self._compared.add(node.left)
        return isinstance(node, _SYNTAX)

    def _is_called(self, node: ast.Attribute) -> bool:
        if self._is_mine(node):
            if node.attr in self._module.__dict__:
                return self._module.__dict__[node.attr] is None  # an optional layer that this module does without
            if node.attr not in self._module._modules:
                self.methods.add(node.attr)
            return True
        owner = self._names.get(node.value.id) if isinstance(node.value, ast.Name) else None
        return node.attr in (_FUNCTIONS if owner is torch else _METHODS)

    def _is_read(self, node: ast.Attribute) -> bool:
        """Whether a read attribute is plain data: a module or object may be called later under another name."""
        if not self._is_mine(node):
            return node.attr in _ATTRIBUTES
        if node in self._compared and node.attr in self._module._modules:
            return True
        values = self._module.__dict__ | self._module._parameters | self._module._buffers
        return node.attr in values and isinstance(values[node.attr], (bool, int, float, str, torch.Tensor, type(None)))

    def _is_mine(self, node: ast.Attribute) -> bool:
        return isinstance(node.value, ast.Name) and node.value.id == self._me
