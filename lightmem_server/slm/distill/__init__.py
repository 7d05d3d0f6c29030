"""How the Selector that comes with LightMem was made: a small cross-encoder trained on a larger one's judgements.

    python -m lightmem_server.slm.distill --data FOLDER --work FOLDER

Needs the extra `train`. Nothing of this is imported by the server.
"""
