"""One file per comparison with a peer; results/ holds the tables that were really measured.

What may be added: another comparison. Peers are imported where they are timed.
"""
