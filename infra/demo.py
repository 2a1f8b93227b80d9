"""Prints a new admin key and a new demo tenant as one JSON object; its own process, for settings are read once a process."""

import json
from dataclasses import asdict

from chalicelib.core import tenants


def main() -> None:
    """Create both and print them."""
    print(json.dumps({"admin_key": tenants.create_admin_key(), **asdict(tenants.create_tenant("demo"))}))


if __name__ == "__main__":
    main()
