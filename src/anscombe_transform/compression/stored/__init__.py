"""Stored data: the array, its metadata, the journal of unfinished work, and their places."""
