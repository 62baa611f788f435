# ruff: noqa: INP001 (a script that stands alone)
"""Prints what an image holds, as SPDX 2.3: `python deploy/sbom.py NAME`, run by the environment that it describes.

Python distributions of this environment, and packages of the Debian below it. The same content prints the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from typing import TypeAlias

Package: TypeAlias = "dict[str, object]"

CREATOR = "Tool: dpu deploy/sbom.py"
UNKNOWN = "NOASSERTION"


def python_packages() -> list[Package]:
    """Return what is installed in this environment."""
    found = {each.metadata["Name"].lower().replace("_", "-"): each for each in distributions()}
    return [
        _package("python", name, each.version, f"pkg:pypi/{name}@{each.version}", each.metadata["License-Expression"])
        for name, each in sorted(found.items())
    ]


def debian_packages() -> list[Package]:
    """Return what is installed below it; nothing where this is no Debian."""
    try:
        table = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture}\n"],  # noqa: S607 (Debian's)
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    except OSError:
        return []
    rows = sorted(line.split() for line in table.splitlines())
    return [
        _package("debian", name, version, f"pkg:deb/debian/{name}@{version}?arch={architecture}")
        for name, version, architecture in rows
    ]


def _package(kind: str, name: str, version: str, purl: str, licence: str | None = None) -> Package:
    return {
        "SPDXID": f"SPDXRef-{kind}-{name.replace('+', 'plus')}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence or UNKNOWN,
        "copyrightText": UNKNOWN,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl},
        ],
    }


def bill(name: str, packages: list[Package], made: int) -> dict[str, object]:
    """Return the bill of materials of the image `name`, made at a time in seconds since 1970."""
    digest = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"dpu-{name}",
        "documentNamespace": f"urn:dpu:sbom:{name}:{digest}",
        "creationInfo": {
            "created": datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [CREATOR],
        },
        "packages": packages,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            }
            for package in packages
        ],
    }


if __name__ == "__main__":
    moment = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    json.dump(bill(sys.argv[1], python_packages() + debian_packages(), moment), sys.stdout, indent=1)
