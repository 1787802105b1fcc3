"""A colour for each class: the published ones of ADE20K and Cityscapes, else colours far from each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Colours in the order of the ids. ADE20K: color150 of the scene parsing benchmark (MIT CSAIL), as in
# mmsegmentation. Cityscapes: labels.py of cityscapesScripts.
_ADE20K = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846
    08ff33 ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc
    ff095c 7009ff 08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14
    ff0829 ff0599 0633ff eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff
    ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00
    008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014
    ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900
    00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070
    5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff
    ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff
    4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""
_CITYSCAPES = """
    804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e
    000046 003c64 005064 0000e6 770b20
"""
# Names by which a list of classes is known, with its colours: its length, its first and its last name.
_PUBLISHED = (((150, "wall", "flag"), _ADE20K), ((19, "road", "bicycle"), _CITYSCAPES))

_DARKEST = 31  # of each channel; steps of 32 lead from there to 255


def class_colors(names: Sequence[str]) -> NDArray[np.uint8]:
    """Colours (classes, 3) in RGB; a list of classes always has the same ones.

    Args:
        names: Of the classes, in the order of their ids.
    """
    told = (len(names), names[0], names[-1]) if names else (0, "", "")
    for known, listed in _PUBLISHED:
        if told == known:
            return np.array([list(bytes.fromhex(code)) for code in listed.split()], dtype=np.uint8)
    return np.array([_distinct(number) for number in range(len(names))], dtype=np.uint8).reshape(-1, 3)


def _distinct(number: int) -> tuple[int, int, int]:
    """Spread the bits of 1 + ``number`` over the channels, the lowest first, as the highest bit of each.

    The first classes lie as far apart as can be, and the first 255 of them differ by 32 at least (as colours
    of PASCAL VOC do, which begin with black and are darker).
    """
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (number + 1 >> bit & 1) << 7 - bit // 3
    red, green, blue = (_DARKEST + channel for channel in channels)
    return red, green, blue
