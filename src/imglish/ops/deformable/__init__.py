"""The forms of multi-scale deformable attention, one file each; `ops/deformable_attention.py` chooses."""
