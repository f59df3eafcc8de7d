"""A generator and the network that judges it, trained against each other.

Losses, lazy regularisation, averaged weights and style mixing as in Karras et al., arxiv.org/abs/1912.04958,
with the adaptive augmentation of 2006.06676.
"""

from __future__ import annotations

import copy
import math
from importlib.metadata import version
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn import functional

from unmasked.datasets.transforms import normalise
from unmasked.generation.augment import Probability, augment
from unmasked.generation.config import GeneratorConfig
from unmasked.generation.processes import draw, of_all, processes, share, take_mean
from unmasked.generation.stylegan2 import Generator
from unmasked.training.module import MARK, DivergedError
from unmasked.training.residual import Critic

PATH_DECAY = 0.01
BETA2 = 0.99
RULE_R1 = 0.0002


def lazy_rates(lr: float, every: int) -> tuple[float, float]:
    """Adam's rate and beta2 where each ``every`` steps bring one more, of a regulariser.

    >>> [round(value, 6) for value in lazy_rates(0.002, 16)]
    [0.001882, 0.990585]
    """
    share = every / (every + 1)
    return lr * share, BETA2**share


def r1_weight(config: GeneratorConfig) -> float:
    """Gamma of R1: as given, or by the rule of ADA's paper.

    >>> r1_weight(GeneratorConfig(network={"size_px": 64}))
    0.0512
    """
    given, settings = config.training.r1, config.training
    return RULE_R1 * config.network.size_px**2 / settings.batch if given is None else given


def ema_beta(batch: int, images: int, half_life: int, ramp: float) -> float:
    """How much of the averaged weights a step keeps.

    Args:
        batch: images of the step.
        images: seen so far.
        half_life: in images.
        ramp: the half-life is at most this share of ``images``.

    >>> round(ema_beta(16, 10**6, 10_000, 0.05), 6), round(ema_beta(16, 1000, 10_000, 0.05), 4)
    (0.998892, 0.8011)
    """
    half_life_now = min(half_life, ramp * images)
    return 0.5 ** (batch / half_life_now) if half_life_now else 0.0


def gradient_penalty(verdicts: Tensor, images: Tensor) -> Tensor:
    """(N,) |grad_x D(x)|² of each image, itself differentiable.

    Args:
        verdicts: (N,) of images that need gradients, perhaps through an augmentation.
        images: (N, 3, H, W).
    """
    (slope,) = torch.autograd.grad(verdicts.sum(), images, create_graph=True)
    return slope.square().sum((1, 2, 3))


def path_lengths(images: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """(N,) how far images move with their styles: |J^T y|, the mean over layers.

    Args:
        images: (N, 3, H, W) of these styles.
        styles: (N, L, D), with gradients.
        noise: (N, 3, H, W) normal numbers.
    """
    weighted = (images * noise).sum() / math.sqrt(images[0, 0].numel())
    (slope,) = torch.autograd.grad(weighted, styles, create_graph=True)
    return slope.square().sum(2).mean(1).sqrt()


class GeneratorModule(pl.LightningModule):
    """Trains both networks; a step is one of each.

    Randomness of a step depends on the seed and the step alone, so a resumed training draws what an
    uninterrupted one would. Of several processes each has its share of a batch: see `processes`.

    Args:
        critic: judges images, high for real.
        config: how.

    Attributes:
        generator, averaged: as it learns, and the mean of its weights, which is what is kept.
        ada: probability of augmentation.
        total_steps: of the whole training.
        time_share: of the allowed minutes; a callback keeps it.
    """

    def __init__(self, critic: Critic, config: GeneratorConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.critic = config, critic
        self.generator = Generator(config.network)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.register_buffer("path_mean", torch.zeros(()))
        self.path_mean: Tensor
        ada = config.ada
        self.ada = Probability(target=ada.target, images=ada.images, every=ada.every, fixed=ada.fixed)
        self.total_steps, self.time_share = config.training.max_steps, 0.0

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the critic, whose steps are counted, and for the generator."""
        settings = self.config.training
        found: list[torch.optim.Optimizer] = []
        for network, every in ((self.critic, settings.r1_every), (self.generator, settings.path_every)):
            has_more = network is self.critic or settings.path > 0
            lr, beta2 = lazy_rates(settings.lr, every) if has_more else (settings.lr, BETA2)
            found.append(
                torch.optim.Adam(network.parameters(), lr=lr, betas=(0.0, beta2), eps=1e-8, fused=True)
            )
        return found

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One step of each network, and what is due of the regularisers."""
        settings, step = self.config.training, self.global_step
        seed = int(np.random.SeedSequence([self.config.seed, step]).generate_state(1)[0])
        torch.manual_seed(seed)
        reals = self._reals(batch["image"])
        told: dict[str, Tensor | float] = {}
        optimisers: Any = self.optimizers()
        first, second = optimisers
        told["critic"] = self._critic_step(reals, first)
        if step % settings.r1_every == 0:
            told["r1"] = self._r1_step(reals, first)
        told["generator"] = self._generator_step(len(reals), second)
        if settings.path and step % settings.path_every == 0:
            told["path"] = self._path_step(max(len(reals) // 2, 1), second)
        take_mean([self.critic.spread])
        self._average(step, settings.batch)
        self._log_step(step, told)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration and where the augmentation is."""
        checkpoint["config"] = self.config.model_dump_json()
        checkpoint[MARK] = version("unmasked")
        checkpoint["ada"] = self.ada.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from there."""
        self.ada.resume(checkpoint["ada"])

    def _reals(self, images: Tensor) -> Tensor:
        """(N, 3, R, R) in [-1, 1], half of them mirrored where that was asked for."""
        reals = normalise(images).contiguous(memory_format=torch.channels_last)
        if not self.config.mirror:
            return reals
        is_mirrored = draw(torch.rand, len(reals), 1, 1, 1, device=reals.device) < 0.5
        return torch.where(is_mirrored, reals.flip(3), reals)

    def _verdicts(self, images: Tensor) -> Tensor:
        """(N,) of images, augmented; random numbers follow torch's own state."""
        random = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        return self.critic.realness(augment(images, self.ada.p, random)).float()

    def _fakes(self, count: int) -> Tensor:
        return self.generator.synthesis(self._styles(count))

    def _styles(self, count: int) -> Tensor:
        """(N, L, D) styles; of most images another one from a random layer on."""
        everyone = count * processes()
        one, other = torch.randn(2, everyone, self.generator.w_dim, device=self.device)[:, share()]
        styles, second = self.generator.styles(one), self.generator.styles(other)
        layers = styles.shape[1]
        begins = torch.randint(1, layers, (everyone, 1, 1), device=self.device)[share()]
        is_mixed = draw(torch.rand, count, 1, 1, device=self.device) < self.config.training.mixing
        place = torch.arange(layers, device=self.device)[None, :, None]
        return torch.where(is_mixed & (place >= begins), second, styles)

    def _critic_step(self, reals: Tensor, optimiser: LightningOptimizer) -> Tensor:
        self.critic.requires_grad_(True)
        with torch.no_grad():
            fakes = self._fakes(len(reals))
        of_fakes, of_reals = self._verdicts(fakes), self._verdicts(reals)
        self.ada.see(of_all(of_reals.detach()))
        loss = functional.softplus(of_fakes).mean() + functional.softplus(-of_reals).mean()
        self._step(loss, optimiser)
        return loss.detach()

    def _r1_step(self, reals: Tensor, optimiser: LightningOptimizer) -> Tensor:
        settings = self.config.training
        images = reals.detach().requires_grad_()
        penalty = gradient_penalty(self._verdicts(images), images).mean()
        self._step(r1_weight(self.config) / 2 * settings.r1_every * penalty, optimiser.optimizer)
        return penalty.detach()

    def _generator_step(self, count: int, optimiser: LightningOptimizer) -> Tensor:
        self.critic.requires_grad_(False)
        loss = functional.softplus(-self._verdicts(self._fakes(count))).mean()
        self._step(loss, optimiser.optimizer)
        return loss.detach()

    def _path_step(self, count: int, optimiser: LightningOptimizer) -> Tensor:
        settings = self.config.training
        styles = self._styles(count)
        images = self.generator.synthesis(styles)
        lengths = path_lengths(images, styles, draw(torch.randn, *images.shape, device=images.device))
        with torch.no_grad():
            self.path_mean += PATH_DECAY * (of_all(lengths.detach().float()).mean() - self.path_mean)
        penalty = (lengths - self.path_mean).square().mean()
        self._step(settings.path * settings.path_every * penalty, optimiser.optimizer)
        return penalty.detach()

    def _step(self, loss: Tensor, optimiser: LightningOptimizer | torch.optim.Optimizer) -> None:
        """Only the critic's own step is one that Lightning counts: so steps are steps of both."""
        if not bool(torch.isfinite(of_all(loss.detach()[None])).all()):  # in any process
            raise DivergedError(
                f"loss is not a finite number in step {self.global_step + 1}; lower training.lr or raise "
                "training.r1"
            )
        optimiser.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        weights = [weight for group in optimiser.param_groups for weight in group["params"]]
        take_mean([weight.grad for weight in weights if weight.grad is not None])
        optimiser.step()

    @torch.no_grad()
    def _average(self, step: int, batch: int) -> None:
        settings = self.config.training
        beta = ema_beta(batch, step * batch, settings.ema_images, settings.ema_ramp)
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.generator.parameters()), 1 - beta)

    def _log_step(self, step: int, told: dict[str, Tensor | float]) -> None:
        if (step + 1) % self.config.training.log_every_steps:
            return
        self.log_dict({f"train/{name}": value for name, value in told.items()})
        self.log_dict({"ada/p": self.ada.p, "ada/r_t": self.ada.r_t})
