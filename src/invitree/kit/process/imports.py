"""Keeping libraries from loading others that nothing here uses with them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import LazyLoader, find_spec, module_from_spec


@contextmanager
def block_import(module: str) -> Iterator[None]:
    """Let imports of a module fail during the block, as if it were not installed; nothing if it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def lazy_import(module: str) -> None:
    """Let a module be loaded when something in it is first used, and not when it is imported; nothing if it is already.

    For what a library imports whether it needs it or not.
    """
    spec = find_spec(module)
    if module not in sys.modules and spec is not None and spec.loader is not None:
        spec.loader = loader = LazyLoader(spec.loader)
        sys.modules[module] = empty = module_from_spec(spec)
        loader.exec_module(empty)
