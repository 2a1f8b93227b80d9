"""Who asks, and may they: principals, API keys, user tokens, permission."""
