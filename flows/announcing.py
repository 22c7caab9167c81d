"""What others see of a run that ended: artifacts in Prefect's interface, an event, and the asset with its metadata."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from augment.publishing import Publication
from augment.store import hash_file

PICTURE_BYTES = 200_000  # of the picture inside an artifact; the published one keeps its size
PICTURE_WIDTHS = (1200, 800, 500, 300)


def announce(publication: Publication) -> None:
    """Show ``publication`` in Prefect and tell who listens: ``augment.dataset.published`` or ``.refused``."""
    create_markdown_artifact(summary(publication), key="summary", description="What became of the run.")
    create_table_artifact(gate_rows(publication), key="gates", description="Every gate with its figure and limit.")
    if publication.picture is not None:
        create_image_artifact(
            small_picture(Path(publication.picture)), key="samples", description="Real rows beside synthetic ones."
        )
    if publication.status == "published":
        _materialised(publication)
    if publication.status != "unchanged":
        emit_event(f"augment.dataset.{publication.status}", resource=resource(publication), payload=facts(publication))


def facts(publication: Publication) -> dict[str, Any]:
    """What an event and the asset say: name, version, path and the hash of the manifest."""
    manifest = Path(publication.path) / "MANIFEST.json"
    return {
        "name": publication.dataset,
        "version": publication.version,
        "path": publication.path,
        "sha256": hash_file(manifest),
        "verdict": publication.verdict,
        "rows": publication.rows,
    }


def resource(publication: Publication) -> dict[str, str]:
    """The resource of an event: the dataset, whatever its version."""
    return {
        "prefect.resource.id": f"augment.dataset.{publication.dataset}",
        "prefect.resource.name": publication.dataset,
    }


def _materialised(publication: Publication) -> None:
    """Tell Prefect that the dataset, as an asset, has new content."""
    asset = Asset(
        key=f"augment://datasets/{publication.dataset}",
        properties=AssetProperties(name=publication.dataset, description="Real and synthetic rows, audited."),
    )

    @materialize(asset, by="augment", name="materialise", cache_policy=NO_CACHE, persist_result=False)
    def materialise() -> None:
        add_asset_metadata(asset, facts(publication))

    materialise()


def summary(publication: Publication) -> str:
    """What became of the run, as Markdown."""
    lines = [
        f"# {publication.dataset}: {publication.status}",
        "",
        f"Version `{publication.version}`, {publication.verdict}." if publication.version else "Nothing was published.",
        "",
        "| class | real | synthetic |",
        "|---|---:|---:|",
        *(f"| {name} | {n['real']:,} | {n['synthetic']:,} |" for name, n in publication.rows.items()),
        "",
        *(f"- {gate.sentence}" for gate in publication.gates if gate.passed is False),
        "",
        f"Folder: `{publication.path}`",
    ]
    return "\n".join(lines)


def gate_rows(publication: Publication) -> list[dict[str, Any]]:
    """The gates as rows of a table."""
    verdict = {True: "passed", False: "failed", None: "not measured"}
    return [
        {
            "gate": gate.gate,
            "verdict": verdict[gate.passed],
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
