"""Worlds to record, act and be scored in: our own sprites, BabyAI, Procgen, and any Gymnasium id with pixels.

Nothing is imported here, so that `import retrodict.envs` needs no simulator; start at `retrodict.envs.catalog.make`.
"""
