"""Predictors: pictures and words in, plain Python out."""
