"""What others see of a run that ended: artifacts in Prefect's interface, an event, and the asset with its metadata."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.logging import get_run_logger

from augment.publishing import Publication
from augment.report import summary_markdown
from augment.report.wording import gate_word
from augment.store import hash_file

PICTURE_BYTES = 200_000  # of the picture inside an artifact; the published one keeps its size
PICTURE_WIDTHS = (1200, 800, 500, 300)


def announce(publication: Publication, wanted: Mapping[str, int]) -> None:
    """Show ``publication`` in Prefect and tell who listens: ``augment.dataset.published`` or ``.refused``.

    ``wanted`` are the synthetic rows of each class that the plan asked for. What Prefect does not take is logged and no
    error: the dataset is published by now, or set aside.
    """
    with or_logged("summary", publication.path):
        said = f"What became of the run: {publication.status}."
        create_markdown_artifact(summary(publication, wanted), key="summary", description=said)
    with or_logged("gate table", publication.path):
        create_table_artifact(gate_rows(publication), key="gates", description="Every gate with its figure and limit.")
    with or_logged("picture", publication.path):
        if publication.picture is not None:
            content = small_picture(Path(publication.picture))
            create_image_artifact(content, key="samples", description="Real rows beside synthetic ones.")
    with or_logged("asset", publication.path):
        if publication.status == "published":
            _materialise(publication)
    with or_logged("event", publication.path):
        if publication.status != "unchanged":
            name = f"augment.dataset.{publication.status}"
            emit_event(name, resource=resource(publication), payload=facts(publication))


@contextlib.contextmanager
def or_logged(what: str, path: str) -> Iterator[None]:
    """A block whose failure is logged and no more."""
    try:
        yield
    except Exception:  # noqa: BLE001  (whatever it is, the dataset stands)
        get_run_logger().exception("The %s of %s cannot be given to Prefect.", what, path)


def facts(publication: Publication) -> dict[str, Any]:
    """What an event and the asset say: name, version, path and the hash of the manifest."""
    manifest = _manifest(publication)
    return {
        "name": publication.dataset,
        "version": publication.version,
        "path": publication.path,
        "sha256": hash_file(manifest),
        "verdict": publication.verdict,
        "rows": publication.rows,
    }


def _manifest(publication: Publication) -> Path:
    return Path(publication.path) / "MANIFEST.json"


def resource(publication: Publication) -> dict[str, str]:
    """The resource of an event: the dataset, whatever its version."""
    return {
        "prefect.resource.id": f"augment.dataset.{publication.dataset}",
        "prefect.resource.name": publication.dataset,
    }


def _materialise(publication: Publication) -> None:
    """Tell Prefect that the dataset, as an asset, has new content."""
    asset = Asset(
        key=f"augment://datasets/{publication.dataset}",
        properties=AssetProperties(name=publication.dataset, description="Real and synthetic rows, audited."),
    )

    @materialize(asset, by="augment", name="materialise", cache_policy=NO_CACHE, persist_result=False)
    def materialise() -> None:
        add_asset_metadata(asset, facts(publication))

    materialise()


def summary(publication: Publication, wanted: Mapping[str, int]) -> str:
    """What became of the run, as Markdown."""
    counts = {name: {"requested": wanted.get(name, 0), **rows} for name, rows in publication.rows.items()}
    found = json.loads(_manifest(publication).read_text()).get("worth")
    return summary_markdown(
        publication.dataset, publication.version, publication.gates, counts, publication.path, worth=found
    )


def gate_rows(publication: Publication) -> list[dict[str, Any]]:
    """The gates as rows of a table."""
    return [
        {
            "gate": gate.gate,
            "verdict": gate_word(gate),
            "value": gate.value,
            "limit": gate.limit,
            "says": gate.sentence,
        }
        for gate in publication.gates
    ]


def small_picture(path: Path) -> str:
    """The picture as a data address, made smaller until it is at most 200 kB."""
    from PIL import Image

    content = path.read_bytes()
    for width in PICTURE_WIDTHS:
        if len(content) <= PICTURE_BYTES:
            break
        with Image.open(path) as image:
            reduced = image.convert("RGB")
            reduced.thumbnail((width, 4 * width))
            buffer = io.BytesIO()
            reduced.save(buffer, "PNG", optimize=True)
            content = buffer.getvalue()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
