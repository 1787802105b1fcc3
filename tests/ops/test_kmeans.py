from __future__ import annotations

import torch
from torch.nn import functional as F

from imglish.ops.kmeans import spherical_kmeans


def test_means_find_separate_bundles_and_count_them() -> None:
    torch.manual_seed(0)
    axes = torch.eye(3)
    samples = F.normalize(axes.repeat_interleave(torch.tensor([10, 20, 30]), 0) + 0.05 * torch.randn(60, 3))
    means, counts = spherical_kmeans(samples, samples[[0, 10, 30]])
    assert counts.tolist() == [10, 20, 30]
    # The mean of ten directions with a noise of 0.05 lies within a cosine of 0.999 of the axis.
    assert (means * axes).sum(1).min() > 0.999
    torch.testing.assert_close(means.norm(dim=1), torch.ones(3))


def test_a_mean_without_samples_stays_where_it_is() -> None:
    samples = F.normalize(torch.tensor([[1.0, 0.1], [1.0, -0.1]]))
    means, counts = spherical_kmeans(samples, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert counts.tolist() == [2, 0]
    torch.testing.assert_close(means, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))


def test_similarity_is_cosine_not_distance_to_the_unscaled_mean() -> None:
    # The last round's averages have unequal lengths before they are put onto the sphere.
    wide = F.normalize(torch.tensor([[1.0, 0.9], [1.0, -0.9]]))
    narrow = F.normalize(torch.tensor([[-1.0, 0.1], [-1.0, -0.1]]))
    means, _ = spherical_kmeans(torch.cat([wide, narrow]), torch.tensor([[0.8, 0.6], [-1.0, 0.0]]))
    torch.testing.assert_close(means, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
