"""One file a set, NAME.py: its `ENTRY`, how its raw files are read, and its imitation.

What may be added: a set, as one file; nothing else has to know of it (docs/data.md shows how). What
several sets share stands in a file with a leading underscore.
"""
