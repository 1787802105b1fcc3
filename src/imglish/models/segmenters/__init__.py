"""Backbone and head, joined for segmentation."""
