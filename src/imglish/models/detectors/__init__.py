"""Detectors: backbone, neck and the heads that find boxes and masks."""
