"""Forms of the ops that only a CPU runs, where they are faster than what XLA makes of the op.

What may be added: another form of an op, with its timings in benchmarks/. Tests compare each form
with the op's own, which every other device runs.
"""
