"""The demo: the whole method on drawn pictures, and tasks from the weights in the package."""
