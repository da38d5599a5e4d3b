"""What is stored: the array, its metadata, the journal of unfinished work, and where all of it lies."""
