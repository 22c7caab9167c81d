"""The Croissant description of a version (MLCommons Croissant 1.0 with its Responsible AI vocabulary), as JSON-LD."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from augment._layout import CROISSANT, PARTS, REPORT, Part, published_schema
from augment._manifest import Manifest
from augment.columns import STORED_TYPES

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write_croissant(folder: Path, manifest: Manifest) -> None:
    """Write ``croissant.json``: each data file with its SHA-256, and its columns as a record set."""
    synthetic = sum(c["synthetic"] for c in manifest.rows.values())
    files = [(part, name) for part in PARTS for name in sorted(manifest.files) if Path(name).match(part.pattern)]
    description = f"Real and synthetic training rows of {manifest.dataset}, with real rows for validation and test."
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": manifest.dataset,
        "description": description,
        "datePublished": manifest.created,
        "version": "1.0.0",
        "identifier": manifest.version,
        "url": REPORT,
        "rai:dataCollection": "Real rows come from the source in MANIFEST.json; a model trained on them drew the rest.",
        "rai:dataCollectionType": ["Secondary Data Analysis", *(["Synthetic"] if synthetic else [])],
        "rai:hasSyntheticData": synthetic > 0,
        "rai:dataLimitations": "Synthetic rows are no observations; measure on the real validation and test rows only.",
        "distribution": [_file(name, manifest) for _, name in files],
        "recordSet": [_record_set(part, name, manifest) for part, name in files],
    }
    (folder / CROISSANT).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _file(name: str, manifest: Manifest) -> dict[str, Any]:
    entry = manifest.files[name]
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{entry.bytes} B",
        "encodingFormat": "application/x-parquet",
        "sha256": entry.sha256,
    }


def _record_set(part: Part, file: str, manifest: Manifest) -> dict[str, Any]:
    number = Path(file).stem.rpartition("-")[2]
    name = part.name if int(number) == 0 else f"{part.name}-{number}"
    fields = [_field(field, f"{name}/{field.name}", file) for field in published_schema(manifest.dataset_schema, part)]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "key": {"@id": f"{name}/sample_id"}, "field": fields}


def _field(field: pa.Field, name: str, file: str) -> dict[str, Any]:
    repeated = pa.types.is_list(field.type)
    arrow = field.type.value_type if repeated else field.type
    stored = next(stored for stored in STORED_TYPES.values() if stored.arrow == arrow)
    source = {"fileObject": {"@id": file}, "extract": {"column": field.name}, **stored.extract}
    described = {"@type": "cr:Field", "@id": name, "name": name, "dataType": stored.croissant, "source": source}
    return {**described, "repeated": True} if repeated else described
