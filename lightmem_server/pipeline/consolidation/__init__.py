"""Offline: from turns to summaries and facts that code can tie to them.

    worker ─▶ run ─▶ consolidate: turns → normalise → episodes → summaries
                                          │         → windows  → proposals (Writer) or extract (no model) → gate
                                          └─▶ denials ──▶ integrate into what is known → profiles → forget

A model's line is a proposal, never a memory: `gate` keeps it only where code can tie it to the turn that it cites. The rules
read English; a turn in another language is left as it is and yields no facts.
"""
