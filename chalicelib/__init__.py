"""Stowage: object storage over buckets that its users own.

Imports point one way: surfaces → core → (access, providers, tables) → (errors, settings, seam, aws).
"""
