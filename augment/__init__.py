"""What happens to data: sources, split, training, generation, validation and publication, as plain functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_dataset"]

if TYPE_CHECKING:
    from augment.reader import load_dataset


def __getattr__(name: str) -> Any:
    # The reader needs pyarrow; `import augment` alone stays cheap for the command line.
    if name == "load_dataset":
        from augment.reader import load_dataset

        return load_dataset
    raise AttributeError(f"module 'augment' has no attribute '{name}'")
