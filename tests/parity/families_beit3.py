"""Parity families of BEiT-3."""

from __future__ import annotations

from tests.parity.case import Family

FAMILIES: tuple[Family, ...] = ()
