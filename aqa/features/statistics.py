"""Mean and standard deviation of each channel over some videos, and features brought to zero and one by them."""

from __future__ import annotations

import torch
from torch import Tensor

from aqa.errors import AqaError

ROUNDING = 2.0**-24  # of a channel's mean: a deviation that small is what float32 leaves of a constant
LEAST, MOST = torch.finfo(torch.float32).tiny, 1e37  # deviations that float32 can divide by, and take differences of
Statistics = dict[str, tuple[Tensor, Tensor]]  # modality -> mean (D,), standard deviation (D,)


class Moments:
    """Mean and squared deviations (D,) of the clips so far, video by video (Chan, Golub and LeVeque 1979)."""

    def __init__(self, width: int, device: torch.device):
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.mean)

    def add(self, clips: Tensor) -> None:
        """Take in the clips (n, D) of one more video, n at least 1."""
        variance, mean = torch.var_mean(clips.double(), dim=0, correction=0)
        count = self.count + len(clips)
        apart = mean - self.mean
        self.squares += len(clips) * (variance + apart.square() * (self.count / count))
        self.mean += apart * (len(clips) / count)
        self.count = count

    def mean_and_deviation(self, modality: str) -> tuple[Tensor, Tensor]:
        """Mean (D,) and standard deviation (D,), 1 for a constant channel; AqaError beyond float32."""
        deviation = (self.squares / self.count).sqrt()
        large = (deviation > MOST) | (self.mean.abs() > MOST)
        if large.any():
            channel = int(large.nonzero()[0])
            raise AqaError(
                f"data.standardize: channel {channel} of {modality} has mean {self.mean[channel]:.3g} and standard "
                f"deviation {deviation[channel]:.3g}, which is more than float32 can standardize; see aqa inspect"
            )
        varies = (deviation > ROUNDING * self.mean.abs()) & (deviation >= LEAST)
        return self.mean.float(), torch.where(varies, deviation, 1.0).float()


def standardized(values: Tensor, statistics: tuple[Tensor, Tensor]) -> Tensor:
    """Clips (n, D) less the mean, over the deviation: in place in float32, as a new tensor where they are narrower."""
    mean, deviation = (number.to(values.device) for number in statistics)
    return values.float().sub_(mean).div_(deviation)
