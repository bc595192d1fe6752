"""The provisioning of the cloud, with what the local stack has for Secret Manager."""

from common.settings import admin_url
from local import keys
from local.layout import Layout, login_role
from local.secrets_store import SecretStore
from local.serving import arguments
from migrations.provision import provision


def main() -> None:
    """`python -m local.provision --layout FILE`, by the login of DATABASE_ADMIN_URL; safe to run again."""
    layout: Layout = arguments(__doc__ or "").parse_args().layout
    store = SecretStore(layout.path())
    provision(admin_url(), lambda name: store.latest(name) or b"", login_role)
    keys.context_keys(layout.path())


if __name__ == "__main__":
    main()
