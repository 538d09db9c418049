"""Faults made on purpose: each module is a command that makes one and prints what was lost and what was said.

python -m tests.faults.kills --times=50 --seed=0
python -m tests.faults            # all of them: the table of docs/reliability.md
"""
