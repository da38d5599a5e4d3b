"""Readers of formats, one file for each family.

Each reader takes a path (or a store) and a `Choice`, and returns a `Movie`. Readers import from the folder
above (`movie`, `selection`, `metadata`, `arrays`, `errors`) and never `opening`, which calls them. A new
format is a new file here with one function ``open_...(path, choice)``, and a line in `opening`.
"""
