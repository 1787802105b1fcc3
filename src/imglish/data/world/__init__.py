"""The World: little scenes drawn from a seed, with every kind of annotation derived from one scene graph."""
