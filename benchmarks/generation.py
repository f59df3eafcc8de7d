"""Steps a second of a generator's training, against the plain way to write one, in one run.

``python benchmarks/generation.py [size_px=32] [base=2048] [most=64] [steps=4]``

The plain implementation is what a reader of the papers writes first: the smoothing filter as a convolution
of N * C images of one channel, a modulated convolution with weights of each image's own (groups=N), Adam
without fusion, all in float32 and NCHW. Same weights, same batches, same augmentation: weights are compared
at the end, and the two take turns.
"""

from __future__ import annotations

import math
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional

from unmasked.generation import stylegan2
from unmasked.generation.config import GeneratorConfig
from unmasked.generation.module import GeneratorModule
from unmasked.training import residual
from unmasked.training.residual import Critic

BATCH = 16


class Alone(GeneratorModule):
    """The module without a Trainer."""

    step = 0

    @property
    def global_step(self) -> int:  # type: ignore[override]
        """Steps so far."""
        return self.step

    def optimizers(self, use_pl_optimizer: bool = True) -> list:  # type: ignore[override]
        """Both."""
        return self.both

    def manual_backward(self, loss: Tensor, *_: object, **__: object) -> None:
        """As it is."""
        loss.backward()

    def log_dict(self, *_: object, **__: object) -> None:
        """Nothing."""


class Plain(torch.optim.Adam):
    """With the attribute of Lightning's."""

    @property
    def optimizer(self) -> Plain:
        """Itself."""
        return self


def plain_upfirdn(
    x: Tensor,
    kernel: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Tensor:
    """`residual.upfirdn` with every channel as an image."""
    count, channels, height, width = x.shape
    spread = x.new_zeros(count, channels, height, up, width, up)
    spread[:, :, :, 0, :, 0] = x
    x = functional.pad(spread.reshape(count * channels, 1, height * up, width * up), padding)
    x = functional.conv2d(x, gain * kernel.flip(0, 1)[None, None])[:, :, ::down, ::down]
    return x.reshape(count, channels, *x.shape[2:])


def plain_double(x: Tensor) -> Tensor:
    """`residual.double` as it is written in the paper."""
    return plain_upfirdn(x, residual.smoothing(x.device, x.dtype), up=2, padding=(2, 1, 2, 1), gain=4.0)


def plain_conv(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False
) -> Tensor:
    """`stylegan2.modulated_conv` with weights of each image's own."""
    count, inward, height, width = x.shape
    own = weight / math.sqrt(weight[0].numel()) * style[:, None, :, None, None]  # (N, O, I, k, k)
    if demodulate:
        own = own * (own.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    outward, kernel = weight.shape[0], weight.shape[-1]
    x = x.reshape(1, count * inward, height, width)
    if up:
        own = own.transpose(1, 2).reshape(count * inward, outward, kernel, kernel)
        x = functional.conv_transpose2d(x, own, stride=2, groups=count)
        x = x.reshape(count, outward, *x.shape[2:])
        kernel_fir = residual.smoothing(x.device, x.dtype)
        return plain_upfirdn(x, kernel_fir, padding=(1, 1, 1, 1), gain=4.0)
    x = functional.conv2d(x, own.flatten(0, 1), padding=kernel // 2, groups=count)
    return x.reshape(count, outward, height, width)


def module_of(settings: dict[str, int], *, plain: bool) -> Alone:
    """A module of seed 0."""
    torch.manual_seed(0)
    network = {**settings, "w_dim": settings["most"]}
    config = GeneratorConfig.model_validate({"network": network, "ada": {"fixed": 0.3}})
    module = Alone(Critic(settings["size_px"], settings["base"], settings["most"]), config)
    networks = (module.critic, module.generator)
    module.both = []
    for network_, found in zip(networks, module.configure_optimizers(), strict=True):
        group = found.param_groups[0]
        module.both.append(
            Plain(
                network_.parameters(), lr=group["lr"], betas=group["betas"], eps=1e-8, fused=not plain or None
            )
        )
    return module


def use(plain: bool) -> None:
    """Puts the plain functions in the place of ours, or ours back."""
    residual.upfirdn = plain_upfirdn if plain else OURS[0]
    residual.double = stylegan2.double = plain_double if plain else OURS[1]
    stylegan2.modulated_conv = plain_conv if plain else OURS[2]


OURS = residual.upfirdn, residual.double, stylegan2.modulated_conv


def main() -> None:
    """Prints seconds of processor time a step, both ways, and their ratio."""
    given = dict(argument.split("=") for argument in sys.argv[1:])
    settings = {
        name: int(given.get(name, value)) for name, value in (("size_px", 32), ("base", 2048), ("most", 64))
    }
    steps = int(given.get("steps", 4))
    images = torch.randint(0, 256, (BATCH, 3, settings["size_px"], settings["size_px"]), dtype=torch.uint8)
    modules = {plain: module_of(settings, plain=plain) for plain in (False, True)}
    seconds = {False: 0.0, True: 0.0}
    # Step 0, which has both regularisers, is left out: it also looks for the fastest convolutions.
    for step in range(steps):
        for plain, module in modules.items():
            use(plain)
            start = time.process_time()
            module.training_step({"image": images}, step)
            module.step += 1
            if step:
                seconds[plain] += time.process_time() - start
    differences = [
        float((one - other).detach().abs().max())
        for one, other in zip(modules[False].parameters(), modules[True].parameters(), strict=True)
    ]
    ours, plain_s = (seconds[plain] / (steps - 1) for plain in (False, True))
    print(f"{settings}, batch {BATCH}, {steps - 1} steps, torch {torch.__version__}, one thread")
    print(f"weights differ by at most {max(differences):.1e} after {steps} steps")
    print(
        f"ours {ours:.2f} s, plain {plain_s:.2f} s of processor time a step: {plain_s / ours:.1f} times as "
        "many steps"
    )


if __name__ == "__main__":
    main()
