"""Blocking or deferring the imports of libraries' optional dependencies, for a faster start."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import LazyLoader, find_spec, module_from_spec


@contextmanager
def block_import(module: str) -> Iterator[None]:
    """Make imports of a module fail during the block, as if it were not installed. No effect if already loaded."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def lazy_import(module: str) -> None:
    """Load a module at its first use instead of at import. No effect if it is loaded already.

    For modules that a library imports whether it needs them or not.
    """
    spec = find_spec(module)
    if module not in sys.modules and spec is not None and spec.loader is not None:
        spec.loader = loader = LazyLoader(spec.loader)
        sys.modules[module] = empty = module_from_spec(spec)
        loader.exec_module(empty)
