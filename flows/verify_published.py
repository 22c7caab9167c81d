"""An example of what may follow a publication: the new version is opened and compared with its manifest."""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger

from augment import load_dataset


@flow(name="verify-published", persist_result=False)
def verify_published(path: str) -> None:
    """Open the version in the folder ``path``, which compares every byte of it, and say what it holds.

    Raises:
        IntegrityError: it is altered or not blessed.
    """
    dataset = load_dataset(path)
    get_run_logger().info("%s opens and is as published", dataset.path)
