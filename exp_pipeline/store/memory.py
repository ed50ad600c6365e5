"""Which allocator Arrow uses: said once for the process, by whoever reads columns first."""

from __future__ import annotations

from functools import cache

_KEPT_MILLISECONDS = 10_000


@cache
def settle_arrow() -> None:
    """Let Arrow keep for some seconds what it freed.

    Columns come and go by the hundred megabytes. Handed back to the system at once, as Arrow's usual
    allocator does, each page is cleared again for the next column: up to a fifth of all time. The system's
    own allocator does no better beside the engine.
    """
    import pyarrow as pa

    if "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
        pa.jemalloc_set_decay_ms(_KEPT_MILLISECONDS)
    else:
        pa.set_memory_pool(pa.system_memory_pool())
