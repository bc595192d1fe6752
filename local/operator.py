"""`python -m local.operator ACT …`: migrations.operator against the local stack, by the rights of a Cloud Run job."""

import os
import sys

from local import attached, stack

ROTATE = "rotate-keys"  # the act, and the job that may do it
USUAL = "operator"


def main() -> int:
    """Run it in the environment that the Cloud Run job has; its exit code."""
    layout, rest = attached.choose(sys.argv[1:])
    environment = dict(os.environ)
    if layout is not None:
        job = ROTATE if rest[:1] == [ROTATE] else USUAL
        environment = stack.cloud_job_environment(layout, job, os.environ)
    os.execve(sys.executable, [sys.executable, "-m", "migrations.operator", *rest], environment)  # noqa: S606 - our own module, no shell


if __name__ == "__main__":
    sys.exit(main())
