"""`make bundle`: each service serves from its ZIP, by functions-framework's own server and the locked packages."""

import zipfile
from pathlib import Path

import pytest

from local import bundle
from local.layout import Layout, catalog
from local.stack import function_environment
from tests.image.containers import Container
from tools.image.tree import Image


@pytest.mark.parametrize(("service", "entry"), catalog().items(), ids=list(catalog()))
def test_it_answers(made: Image, layout: Layout, tmp_path: Path, service: str, entry: dict) -> None:
    with zipfile.ZipFile(bundle.bundle(service, tmp_path)) as archive:
        archive.extractall(tmp_path / "source")
    tmp_path.chmod(0o755)
    requirements = (tmp_path / "source" / "requirements.txt").read_bytes()
    assert requirements == (bundle.CHECKOUT / "requirements.txt").read_bytes(), "the packages of the image's lib"
    container = Container(made, {"/app": made.app / "lib", "/workspace": tmp_path / "source"})
    port = layout.ports[f"function:{service}"]
    command = ["/usr/bin/python3", "-m", "functions_framework", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--target", entry["entry"], "--source", "/workspace/main.py"]
    environment = function_environment(layout, service, {}) | {"PYTHONPATH": "/app:/workspace"}
    environment |= {"SECRETS_DIR": "/secrets", "PYTHONDONTWRITEBYTECODE": "1"}

    with container.serving(command, environment, port, tmp=True) as answer:
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
