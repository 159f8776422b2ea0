"""Compiled numerics of the emulated vector unit: scalar functions, element-wise operations and tiled products."""
