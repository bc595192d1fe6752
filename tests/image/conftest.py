"""The image's tree, assembled once, and a layout whose ports nobody listens on."""

from collections.abc import Iterator

import pytest

from local import services
from local.layout import HOST, Layout
from local.ports import choose, reserve
from tests.image.containers import Container, fingerprint
from tools.image.runtime import Unavailable
from tools.image.tree import Image, image


@pytest.fixture(scope="session")
def made() -> Iterator[Image]:
    """The tree; at the end nothing in it, or in its base, has been written."""
    try:
        made = image()
    except Unavailable as error:
        pytest.skip(f"no base for the image on this machine: {error}")
    before = fingerprint(made.app), fingerprint(made.base.root)
    yield made
    assert (fingerprint(made.app), fingerprint(made.base.root)) == before, "something was written to the tree"


@pytest.fixture(scope="session")
def container(made: Image) -> Container:
    return Container(made, {"/app": made.app})


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    block, mark = reserve()
    yield Layout(str(tmp_path_factory.mktemp("nothing")), choose(services.port_names(), {}, {}, block), HOST)
    mark.close()
