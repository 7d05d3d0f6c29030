"""Turns into what is known: the text side of consolidation. Functions of memories and models; no store, no jobs.

    turns → normalise → episodes → summaries
                      → windows  → proposals (Writer) or extract (no model) → gate → facts

A model's line is a proposal, never a memory: `gate` keeps it only where code can tie it to the turn that it cites. The rules
read English; a turn in another language is left as it is and yields no facts.
"""
