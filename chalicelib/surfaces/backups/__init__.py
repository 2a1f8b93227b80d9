"""Backups and the storages that they go to (seed 001)."""
