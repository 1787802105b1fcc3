"""Parity families of BEiT v2 and BEiT."""

from __future__ import annotations

from tests.parity.case import Family

FAMILIES: tuple[Family, ...] = ()
