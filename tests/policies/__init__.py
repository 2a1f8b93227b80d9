"""What a policy means, measured against PostgreSQL 15."""
