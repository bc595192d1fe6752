"""A cluster with the schema of this checkout, made once and copied for each throw-away stack.

What is made of the same sources is the same; a stack runs its own steps over the copy all the same, and what no two
stacks may share is made anew: passwords, context keys and the key of the seal.
"""

import hashlib
import importlib.metadata
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from local import postgres
from local.durable import locked
from local.layout import administrators, login_role, logins
from local.postgres_home import PACKAGE, NotStarted, Owner, binary

CHECKOUT = Path(__file__).parent.parent
TEMPLATES = CHECKOUT / "build" / "postgres"
SOURCES = (
    *("migrations/*.sql", "migrations/*.py", "common/register*", "functions/catalog.yaml"),
    *("local/postgres*.py", "local/logins.py", "local/layout.py"),
)
# As migration 0001 makes it.
NEW_SEAL = (
    "WITH fresh AS (SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) AS key)"
    " UPDATE platform.seal_key SET inner_pad = platform.hmac_pad(key, 54), outer_pad = platform.hmac_pad(key, 92)"
    " FROM fresh;"
)


def digest(owner: Owner) -> str:
    """What a template is made of, and whose it is."""
    found = hashlib.sha256(f"{importlib.metadata.version(PACKAGE)} {owner.uid}".encode())
    for path in sorted({path for pattern in SOURCES for path in CHECKOUT.glob(pattern)}):
        found.update(f"\0{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:32]


def copy(root: Path, owner: Owner) -> None:
    """Give a stack its cluster; the first one after a change of the sources makes the template, others wait for it.

    Where there is no room for one, or it is somebody else's, the cluster is made as for any other stack.
    """
    fresh = postgres.data_dir(root).with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    template = TEMPLATES / digest(owner)
    try:
        TEMPLATES.mkdir(parents=True, exist_ok=True)
        with locked(TEMPLATES / "lock"):
            if not template.exists():
                for old in TEMPLATES.glob("*/"):
                    shutil.rmtree(old)
                make(template, owner)
            _copied(template, owner.own(fresh), owner)
    except OSError:
        postgres.create(root, owner, fast=True)
        return
    _make_own(root, fresh, owner)
    fresh.rename(postgres.data_dir(root))


def make(template: Path, owner: Owner) -> None:
    """A cluster of no stack, stopped in good order; it gets its name when it is complete."""
    from local.logins import make as make_logins
    from local.ports import reserve
    from migrations.apply import bootstrap, migrate
    from migrations.connection import connected

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o711)
        block, mark = reserve()
        port = block[0]
        server = postgres.start(root, port, fast=True)
        try:
            password = secrets.token_urlsafe()
            with connected(postgres.admin_dsn(root, port), "postgres") as admin:
                make_logins(admin, {login_role(each): password for each in (*logins(), *administrators())})
            (account,) = (each for each, kind in administrators().items() if kind == "admin")
            url = f"postgresql://{login_role(account).replace('@', '%40')}:{password}@127.0.0.1:{port}/"
            bootstrap(url, postgres.DATABASE)
            migrate(url, postgres.DATABASE)
        finally:
            postgres.stop(server)
            mark.close()
        fresh = owner.own(template.with_name("new"))
        _copied(postgres.data_dir(root), fresh, owner)
        postgres.forget(root)
        fresh.rename(template)


def _copied(source: Path, target: Path, owner: Owner) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
    if owner.is_other:
        for path in target.rglob("*"):
            os.chown(path, owner.uid, owner.gid)


def _make_own(root: Path, data: Path, owner: Owner) -> None:
    """The superuser's password and the key of the seal, by a server of one user that nobody can reach."""
    statements = (
        f"ALTER ROLE {postgres.SUPERUSER} PASSWORD {postgres.quoted(postgres.admin_password(root))};\n{NEW_SEAL}\n"
    )
    program = binary(root, owner, "postgres")
    done = owner.run(program, "--single", "-D", str(data), "-c", "fsync=off", postgres.DATABASE, given=statements)
    if done.returncode != 0 or "ERROR" in done.stderr:
        raise NotStarted(f"The copied cluster could not be made the stack's own: {done.stderr.strip()}")
