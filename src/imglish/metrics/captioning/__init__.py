"""Scores of captions against human ones, as COCO's caption evaluation reports them."""
