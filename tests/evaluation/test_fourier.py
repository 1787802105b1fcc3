"""Fourier amplitudes of features, against a plain computation and waves that are known."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from imglish.evaluation.fourier import fourier_chart, relative_log_amplitude


def test_it_is_numpys_transform_along_the_diagonal() -> None:
    features = torch.randn(3, 5, 8, 8, generator=torch.Generator().manual_seed(0)) + 2
    logs = np.log(np.abs(np.fft.fft2(features.numpy().astype(np.float64)))).mean(axis=(0, 1))
    expected = [logs[k, k] - logs[0, 0] for k in range(5)]
    np.testing.assert_allclose(relative_log_amplitude(features).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("wave", [1, 3, 4])
def test_a_wave_along_the_diagonal_shows_at_its_frequency(wave: int) -> None:
    place = torch.arange(8, dtype=torch.float64)
    phase = 2 * torch.pi * wave * (place[:, None] + place) / 8
    found = relative_log_amplitude((1 + 0.5 * phase.cos())[None, None])
    # cos is two waves of half the amplitude, which at the highest frequency are one.
    amplitude = 0.5 if wave == 4 else 0.25
    assert found[wave].item() == pytest.approx(np.log(amplitude))
    others = [k for k in range(1, 5) if k != wave]
    assert max(found[others].tolist()) < -20 and found[0] == 0


def test_blurred_features_hold_less_of_high_frequencies() -> None:
    sharp = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    sharp = sharp + 1
    blurred = (sharp + sharp.roll(1, 2) + sharp.roll(1, 3) + sharp.roll((1, 1), (2, 3))) / 4
    assert (relative_log_amplitude(blurred)[4:] < relative_log_amplitude(sharp)[4:]).all()


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (3, 8, 8), (0, 3, 8, 8)])
def test_what_is_no_square_map_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected \\(B, C, n, n\\)"):
        relative_log_amplitude(torch.zeros(shape))


def test_the_chart_is_a_whole_svg_file_with_names() -> None:
    text = fourier_chart({"ViT": [0.0, -1.0, -2.0], "ViT & more": [0.0, -0.5, -1.0]}, size=4, title="a < b")
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    told = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ViT", "ViT & more"} <= set(told)
    lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 2 and len(lines[0].attrib["points"].split()) == 3
