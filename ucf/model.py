"""The UCF detector: its lean path for scoring, and the whole of it for training on pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unmasked.ucf.networks import Decoder, Head, Projection
from unmasked.ucf.xception import Xception, scaled_channels

MINIMUM_SIZE_PX = 64


@dataclass(frozen=True)
class PairOutput:
    """What the losses need of one batch of P pairs; rows are P reals, then their P fakes.

    Attributes:
        common_logits: (2P, 2) real or fake, from the common features.
        method_logits: (2P, M) which method, from the specific features.
        common_features: (2P, F) pooled; in the order that the decoder saw.
        specific_features: (2P, F) pooled.
        self_real, self_fake: (P, 3, H, W) an image's content under its own fingerprint.
        cross_real, cross_fake: (P, 3, H, W) its content under the fingerprint of the other half's row.
    """

    common_logits: Tensor
    method_logits: Tensor
    common_features: Tensor
    specific_features: Tensor
    self_real: Tensor
    self_fake: Tensor
    cross_real: Tensor
    cross_fake: Tensor


class UCF(nn.Module):
    """UCF (Yan et al. 2023): common forgery features told apart from method and content.

    At width 1 the state dict has the names, order, shapes and types of the published checkpoints.

    Args:
        width: multiplier of every number of channels, rounded to multiples of 8.
        method_classes: kinds that the specific head tells apart, "real" being one of them.
        head_dropout: share of logits that are zeroed in training.
        decoder_dropout: share of the decoder's values that are zeroed in training.
    """

    def __init__(
        self,
        width: float = 1.0,
        method_classes: int = 5,
        *,
        head_dropout: float = 0.2,
        decoder_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        c512, c256, c128, c64 = (scaled_channels(n, width) for n in (512, 256, 128, 64))
        self.width = width
        self.method_classes = method_classes
        self.encoder_f = Xception(width)
        self.encoder_c = Xception(width)
        # The decoder is given the two branches side by side, so its input is twice a branch.
        self.con_gan = Decoder((2 * c256, c256, c128, c64), decoder_dropout)
        self.head_spe = Head(c256, c512, method_classes, head_dropout)
        self.head_sha = Head(c256, c512, 2, head_dropout)
        self.block_spe = Projection(c512, c256, c256)
        self.block_sha = Projection(c512, c256, c256)

    @property
    def cam_layer(self) -> nn.Module:
        """The layer to explain with Grad-CAM: the last map that is shared by both branches.

        Its output is (N, 512 x width, about H / 32, about W / 32), rectified.
        """
        return self.encoder_f.adjust_channel

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, 2) logits of real and fake, by the lean path only."""
        return self._common_head(images)[0]

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, 256 x width) pooled common features."""
        return self._common_head(images)[1]

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` and `features` of the same images at the price of one."""
        return self._common_head(images)

    def forward_pairs(self, images: Tensor, common_order: Tensor | None = None) -> PairOutput:
        """Everything that training needs of a batch of pairs.

        Args:
            images: (2P, 3, H, W) in [-1, 1]: P reals, then P fakes.
            common_order: (2P,) a permutation of the rows of the common features that keeps reals
                among reals and fakes among fakes; None leaves them in place.
        """
        _check_size(images)
        forgery = self.encoder_f(images)
        specific, common = self.block_spe(forgery), self.block_sha(forgery)
        if common_order is not None:
            common = common[common_order]
        fingerprint = torch.cat([specific, common], dim=1)  # (2P, 512, h, w)
        content = self.encoder_c(images)
        real, fake = content.chunk(2)
        painted = self.con_gan(fingerprint, torch.cat([real, fake, fake, real]), tuple(images.shape[-2:]))
        self_real, self_fake, cross_fake, cross_real = painted.chunk(4)
        method_logits, specific_features = self.head_spe(specific)
        common_logits, common_features = self.head_sha(common)
        return PairOutput(
            common_logits=common_logits,
            method_logits=method_logits,
            common_features=common_features,
            specific_features=specific_features,
            self_real=self_real,
            self_fake=self_fake,
            cross_real=cross_real,
            cross_fake=cross_fake,
        )

    def _common_head(self, images: Tensor) -> tuple[Tensor, Tensor]:
        _check_size(images)
        return self.head_sha(self.block_sha(self.encoder_f(images)))


def _check_size(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[-2:]) < MINIMUM_SIZE_PX:
        raise ValueError(
            f"images have the shape {tuple(images.shape)}; UCF takes (N, 3, H, W) with H and W of at least "
            f"{MINIMUM_SIZE_PX} pixels"
        )
