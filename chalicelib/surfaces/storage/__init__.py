"""The storage surface (seed 002): `/storage/*`."""
