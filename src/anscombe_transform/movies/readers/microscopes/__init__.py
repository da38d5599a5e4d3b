"""Recordings as the programs and microscopes of vendors write them.

Three are read here, by their own description: Prairie View of Bruker (`bruker`), ThorImage of Thorlabs
(`thorlabs`) and Scanbox of Neurolabware (`scanbox`). A recording of theirs is several files; `folders` finds
the one that describes the others, and `tiff_files` makes a movie of TIFFs that a description orders. The
formats of other microscopes are read by libraries (`libraries`).
"""
