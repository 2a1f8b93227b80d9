"""The vault: storages, keys and deltas (seed 000)."""
