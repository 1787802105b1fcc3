"""Parity families of ViT-Adapter."""

from __future__ import annotations

from tests.parity.case import Family

FAMILIES: tuple[Family, ...] = ()
