"""UCF's inference and training step against a plain implementation, in one run.

The plain one has the same weights, in float32 and NCHW, uncompiled; at inference it computes both encoders,
both projections and both heads, of which only one is asked for; in training it decodes four times one by
one, each with its own pass of the fingerprint, and steps an unfused Adam. Ours is what `unmasked predict` and
`unmasked train` run. Logits, losses and gradients are compared first; ways take turns, and the figure is the
median. Images are uint8 in memory, as loaders deliver them; normalising them belongs to the time.

    python benchmarks/ucf_step.py [threads=2] [rounds=3] [width=1] [size_px=256] [batches=1,16,64]
                                  [training=4,16] [precision=fp32|bf16]

``precision`` is ours on a processor, of inference and of training (training.precision=bf16-mixed). Where
there is a GPU the table is its: ours is then in bfloat16 and compiled, with CUDA graphs, and the peak memory
and the share of the card's bfloat16 rate are given.
Training counts images: 16 are 8 pairs, and two pairs are the fewest that a contrast needs. 64 at full width
take some 30 GB, so they are asked for by hand.
"""

from __future__ import annotations

import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unmasked.datasets.transforms import normalise
from unmasked.evaluation.inference import Precision, compute, ready_to_score
from unmasked.ucf.config import LossConfig
from unmasked.ucf.losses import Orders, ucf_losses
from unmasked.ucf.model import UCF, PairOutput

# Dense bfloat16 rates that the makers publish, in 1e12 operations a second.
BF16_RATE = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0}
DEFAULTS = {
    "threads": "2",
    "rounds": "3",
    "width": "1",
    "size_px": "256",
    "batches": "1,16,64",
    "training": "4,16",
    "precision": "fp32",
}


@dataclass(frozen=True)
class Way:
    """One way of computing, with a model of its own."""

    name: str
    infer: Callable[[Tensor], Tensor]
    step: Callable[[Tensor, Orders, Tensor, Tensor], Tensor]
    model: UCF


def main() -> None:
    """Prints what was measured on what, and the table."""
    given = {**DEFAULTS, **dict(argument.split("=", 1) for argument in sys.argv[1:])}
    torch.set_num_threads(int(given["threads"]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    start = UCF(float(given["width"])).to(device)
    size_px, rounds = int(given["size_px"]), int(given["rounds"])
    precision: Precision = "bf16" if given["precision"] == "bf16" else "fp32"
    print(_hardware(device), f"; {size_px} px, width {start.width:g}, medians of {rounds}", sep="")
    ways = [_plain(start), _ours(start, device, size_px, precision)]
    _print_agreement(ways, size_px, device)
    print(
        "\n| work | images | plain, ms | ours, ms | times as fast |"
        + (" peak memory, GB (plain, ours) | share of bf16 rate |" if device.type == "cuda" else "")
    )
    print("|---|---|---|---|---|" + ("---|---|" if device.type == "cuda" else ""))
    for kind, key in (("inference", "batches"), ("training step", "training")):
        for images in filter(None, given[key].split(",")):
            print(_row(kind, ways, int(images), size_px, rounds, device), flush=True)


def _plain(start: UCF) -> Way:
    """What comes to mind first."""
    model = copy.deepcopy(start)
    optimiser = torch.optim.Adam(_trainable(model), lr=2e-4, weight_decay=5e-4, fused=False, foreach=False)

    @torch.no_grad()
    def infer(images: Tensor) -> Tensor:
        model.eval()
        values = (images.float().contiguous() / 255 - 0.5) / 0.5
        forgery = model.encoder_f(values)
        model.encoder_c(values)
        specific, common = model.block_spe(forgery), model.block_sha(forgery)
        model.head_spe(specific)
        return model.head_sha(common)[0]

    def step(images: Tensor, orders: Orders, labels: Tensor, methods: Tensor) -> Tensor:
        model.train()
        optimiser.zero_grad()
        values = (images.float().contiguous() / 255 - 0.5) / 0.5
        output = _four_decodes(model, values, orders)
        overall = ucf_losses(output, values, labels, methods, orders=orders, config=LossConfig()).overall
        overall.backward()
        optimiser.step()
        return overall.detach()

    return Way("plain", infer, step, model)


def _four_decodes(model: UCF, images: Tensor, orders: Orders) -> PairOutput:
    forgery, content = model.encoder_f(images), model.encoder_c(images)
    specific, common = model.block_spe(forgery), model.block_sha(forgery)[orders.mixing]
    real_print, fake_print = torch.cat([specific, common], dim=1).chunk(2)
    real, fake = content.chunk(2)
    size = (images.shape[-2], images.shape[-1])
    method_logits, specific_features = model.head_spe(specific)
    common_logits, common_features = model.head_sha(common)
    return PairOutput(
        common_logits=common_logits,
        method_logits=method_logits,
        common_features=common_features,
        specific_features=specific_features,
        self_real=model.con_gan(real_print, real, size),
        self_fake=model.con_gan(fake_print, fake, size),
        cross_real=model.con_gan(fake_print, real, size),
        cross_fake=model.con_gan(real_print, fake, size),
    )


def _ours(start: UCF, device: torch.device, size_px: int, precision: Precision) -> Way:
    model = copy.deepcopy(start).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(_trainable(model), lr=2e-4, weight_decay=5e-4, fused=True)
    gpu = device.type == "cuda"
    forward = torch.compile(model.forward, mode="max-autotune") if gpu else model.forward
    forward_pairs = torch.compile(model.forward_pairs) if gpu else model.forward_pairs

    ready: Any = ready_to_score(copy.deepcopy(start), size_px, device.type)

    @torch.inference_mode()
    def infer(images: Tensor) -> Tensor:
        model.eval()
        if not gpu:
            return compute(ready, images, "cpu", precision).float()
        with torch.autocast(device.type, torch.bfloat16):
            return forward(normalise(images)).float()

    def step(images: Tensor, orders: Orders, labels: Tensor, methods: Tensor) -> Tensor:
        model.train()
        optimiser.zero_grad()
        values = normalise(images)
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu or precision == "bf16"):
            output = forward_pairs(values, orders.mixing)
        overall = ucf_losses(output, values, labels, methods, orders=orders, config=LossConfig()).overall
        overall.backward()
        optimiser.step()
        return overall.detach()

    return Way("ours", infer, step, model)


def _print_agreement(ways: list[Way], size_px: int, device: torch.device) -> None:
    """Both ways compute the same: without dropout, for in training they draw it in another order."""
    images, *rest = _batch(4, size_px, device)
    logits = [way.infer(images) for way in ways]
    losses = []
    for way in ways:
        rates = [(module, module.p) for module in way.model.modules() if isinstance(module, nn.Dropout)]
        stored = copy.deepcopy(way.model.state_dict())
        for module, _ in rates:
            module.p = 0.0
        losses.append(way.step(images, *rest))
        for module, rate in rates:
            module.p = rate
        way.model.load_state_dict(stored)
    difference = float((logits[0] - logits[1]).abs().max() / logits[0].abs().max())
    relative = float((losses[0] - losses[1]).abs() / losses[0])
    print(f"largest relative difference: logits {difference:.1e}, overall loss {relative:.1e}")


def _row(kind: str, ways: list[Way], images: int, size_px: int, rounds: int, device: torch.device) -> str:
    batch, *rest = _batch(images, size_px, device)
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    peaks = dict.fromkeys(times, 0.0)
    for number in range(rounds + 1):
        for way in ways:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = _seconds(
                lambda way=way: way.infer(batch) if kind == "inference" else way.step(batch, *rest), device
            )
            if number:  # the first one warms up, and compiles
                times[way.name].append(seconds)
            if device.type == "cuda":
                peaks[way.name] = torch.cuda.max_memory_allocated() / 1e9
    plain, ours = (statistics.median(times[way.name]) for way in ways)
    cells = [kind, f"{images}", f"{1e3 * plain:.0f}", f"{1e3 * ours:.0f}", f"{plain / ours:.2f}"]
    if device.type == "cuda":
        cells += [f"{peaks['plain']:.1f}, {peaks['ours']:.1f}", _share(kind, ways[1], batch, rest, ours)]
    return f"| {' | '.join(cells)} |"


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    since = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - since


def _share(kind: str, way: Way, batch: Tensor, rest: list, seconds: float) -> str:
    name = torch.cuda.get_device_name()
    rate = next((rate for card, rate in BF16_RATE.items() if card in name), None)
    if rate is None:
        return "not enough data"
    with FlopCounterMode(display=False) as counter, torch.compiler.set_stance("force_eager"):
        _ = way.infer(batch) if kind == "inference" else way.step(batch, *rest)
    return f"{counter.get_total_flops() / seconds / rate / 1e12:.1%}"


def _batch(images: int, size_px: int, device: torch.device) -> tuple[Tensor, Orders, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (images, size_px, size_px, 3), dtype=torch.uint8, generator=generator)
    rows = torch.arange(images)
    labels = (rows >= images // 2).long()
    orders = Orders(rows, rows, rows)
    moved = Orders(
        *(getattr(orders, name).to(device) for name in ("mixing", "common_anchors", "specific_anchors"))
    )
    return (
        pixels.permute(0, 3, 1, 2).to(device),
        moved,
        labels.to(device),
        (labels * (1 + rows % 4)).to(device),
    )


def _trainable(model: UCF) -> Iterator[nn.Parameter]:
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def _hardware(device: torch.device) -> str:
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name()}, {versions}"
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{name}, {torch.get_num_threads()} threads, {versions}, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    main()
