"""The deletion certificate: whether raw data may be deleted once a movie is stored, and why (not)."""
