"""`make sbom`: build/sbom.json, the CycloneDX bill of materials of the image's tree, the same bytes each time.

It lists what is really in lib, with the licences that the packages declare, and who needs whom; the lock file has the
hashes. The base is Debian's packages: a registry's scanner reads those from the image itself.
"""

import argparse
import sys
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.image.runtime import Unavailable
from tools.image.tree import BUILD, Image, image

OURS = "dev-context"
UNDECLARED = {"zxcvbn-rs-py": "MIT"}  # in the text of its licence alone
SPDX = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def sbom(made: Image) -> str:
    """The bill as JSON text."""
    found = sorted(PathDistribution.discover(path=[str(made.app / "lib")]), key=name_of)
    bom = Bom()
    bom.metadata.timestamp = None  # type: ignore[assignment] # the time of a run would be all that two of them differ in
    bom.metadata.component = Component(name=OURS, type=ComponentType.APPLICATION, bom_ref=OURS)
    components = {name_of(each): component(each) for each in found}
    bom.components.update(components.values())
    for each in found:
        needed = [components[name] for name in needs(each, made.base.python) if name in components]
        bom.register_dependency(components[name_of(each)], needed)
    bom.register_dependency(bom.metadata.component, components.values())
    bom.serial_number = uuid5(NAMESPACE_URL, "".join(sorted(str(each.purl) for each in components.values())))
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def name_of(distribution: Distribution) -> str:
    """Its name as the lock file writes it."""
    return str(canonicalize_name(distribution.metadata["Name"]))


def component(distribution: Distribution) -> Component:
    """One package."""
    name, version = name_of(distribution), distribution.version
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        licenses=licences(distribution),
    )


def licences(distribution: Distribution) -> list[License]:
    """What the package says of itself: an SPDX expression, else its classifiers, else its field of free text."""
    metadata = distribution.metadata
    make = LicenseFactory()
    if metadata["License-Expression"]:
        return [make.make_from_string(metadata["License-Expression"])]
    classifiers = [
        line for line in metadata.get_all("Classifier") or () if line.startswith("License :: OSI Approved ::")
    ]
    if classifiers:
        names = [line.rsplit(" :: ", 1)[1] for line in classifiers]
        return [make.make_from_string(SPDX.get(name, name)) for name in names]
    first = (metadata["License"] or "").strip().splitlines()
    said = first[0] if first else UNDECLARED.get(name_of(distribution))
    return [make.make_from_string(said)] if said else []


def needs(distribution: Distribution, python: str) -> list[str]:
    """The packages that it requires in the image, without extras."""
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}
    required = [Requirement(line) for line in distribution.requires or ()]
    return sorted({canonicalize_name(each.name) for each in required if not each.marker or each.marker.evaluate(here)})


def main() -> int:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=BUILD / "sbom.json")
    target = parser.parse_args().output
    try:
        target.write_text(sbom(image()))
    except Unavailable as error:
        sys.stderr.write(f"no base for the image on this machine: {error}\n")
        return 1
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
