"""The files surface (seed 003): `/api/storage/*`, `/api/uploads/*`, `/api/folders/*`, `/api/public/*`."""
