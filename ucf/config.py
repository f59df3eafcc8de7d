"""Settings of UCF's training; imports nothing heavy, so that the command line can show them at once."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unmasked.datasets.augment import AugmentConfig


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Frozen):
    """The network."""

    width: float = Field(
        1.0, gt=0, le=2, description="Multiplier of all channels; 1 is the published network"
    )
    size_px: int = Field(
        256, ge=64, le=1024, description="Side of the input in pixels; crops are resized to it"
    )
    imagenet: str | None = Field(
        None,
        description="Xception's ImageNet weights to start both encoders from: a .pth or .safetensors file, "
        "or timm (may download); random weights if not given",
    )
    head_dropout: float = Field(0.2, ge=0, lt=1, description="Share of the heads' logits zeroed in training")
    decoder_dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of the decoder's values zeroed in training"
    )
    channels_last: bool = Field(True, description="Memory layout (N, H, W, C), which convolutions prefer")


class LossConfig(_Frozen):
    """Weights of the four losses, the margin of the contrastive one, and how often features are exchanged."""

    common: float = Field(1.0, ge=0, description="Weight of real or fake from the common features")
    specific: float = Field(0.1, ge=0, description="Weight of the method from the specific features")
    reconstruction: float = Field(0.3, ge=0, description="Weight of the four reconstructions (L1)")
    contrastive: float = Field(0.05, ge=0, description="Weight of the contrastive loss")
    margin: float = Field(3.0, gt=0, description="Margin of the contrastive loss, in Euclidean distance")
    mixing_probability: float = Field(
        0.7,
        ge=0,
        le=1,
        description="How often a batch's common features are exchanged within reals and fakes",
    )
    robust: Literal["none", "cvar", "nested_cvar", "group_dro", "reweighted"] = Field(
        "none",
        description="How the common loss is put together: the mean; the mean of its worst share (cvar, "
        "DAG-FDD); of the worst groups' worst shares (nested_cvar, DAW-FDD); of groups weighted by how badly "
        "they fare (group_dro); of groups weighted equally (reweighted). All but cvar need data.groups",
    )
    cvar_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of a batch that cvar looks at, of groups for nested_cvar",
    )
    cvar_within: float = Field(
        0.9, gt=0, le=1, description="Share of each group's images that nested_cvar looks at"
    )
    group_dro_step: float = Field(
        0.01, ge=0, description="Step size of group_dro's weights: how fast they follow the losses"
    )


class OptimiserConfig(_Frozen):
    """Adam and its learning rate."""

    lr: float = Field(2e-4, gt=0, description="Highest learning rate")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty that Adam adds to the gradient")
    schedule: Literal["none", "cosine", "one_cycle"] = Field(
        "none", description="Course of the learning rate over all steps; one_cycle starts at 1/25 of lr"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of all steps in which the rate rises to lr")
    gradient_clip: float = Field(0.0, ge=0, description="Largest norm of the whole gradient; 0 does not clip")
    accumulate: int = Field(
        1, ge=1, description="Batches whose mean gradient makes one step; as so many more devices would"
    )


class DataConfig(_Frozen):
    """Which crops are used, how they are paired, and how they are held."""

    pairing: Literal["random", "source"] = Field(
        "random", description="A fake's partner: any real crop, or one of the video it was made from"
    )
    fakes: Literal["dataset", "self_blended", "both"] = Field(
        "dataset",
        description="Fakes to train on: the data set's own, ones made by blending each real crop with itself",
    )
    groups: str = Field(
        "",
        description="Column of the faces table that says whose face it is, or several crossed, such as "
        "'gender * skin_tone'; for loss.robust and data.balance",
    )
    balance: Literal["none", "group_class"] = Field(
        "none",
        description="group_class draws every group equally often among the fakes, and among the reals",
    )
    frames_per_video: int | None = Field(
        None, ge=1, description="Crops used of each training video, evenly spread; all if not given"
    )
    val_frames_per_video: int | None = Field(
        None, ge=1, description="Crops used of each validation video, evenly spread; all if not given"
    )
    cache_mb: int = Field(
        4096, ge=0, description="Crops are held in memory if they fit into this many megabytes"
    )
    workers: int = Field(
        0, ge=0, description="Processes that read crops; 0 reads them in the training process"
    )


class TrainingConfig(_Frozen):
    """How long, by which rule a detector is chosen, and by which means; a step is one of the optimiser."""

    batch_pairs: int = Field(16, ge=2, description="Pairs of a real and a fake in a batch of one device")
    epochs: int = Field(5, ge=1, description="Passes over all fakes")
    max_steps: int | None = Field(None, ge=1, description="Ends training after this many steps")
    max_minutes: float | None = Field(None, gt=0, description="Ends training after this many minutes")
    patience: int | None = Field(
        None, ge=1, description="Ends training after this many validations without a better video AUC"
    )
    selection: Literal["source", "oracle"] = Field(
        "source",
        description="Split that chooses the detector: source takes val; oracle takes test, as published, "
        "which no user of a detector can, and says so in every output",
    )
    val_every_steps: int | None = Field(
        None, ge=1, description="Steps between validations; one at the end of each epoch if not given"
    )
    val_batch: int = Field(64, ge=1, description="Images in a batch of validation")
    keep_best: int = Field(
        1, ge=1, description="Detectors kept: the best one, and under checkpoints/ this many less one more"
    )
    save_every_steps: int = Field(
        500, ge=1, description="Steps between two states to resume from; each epoch also ends with one"
    )
    log_every_steps: int = Field(10, ge=1, description="Steps between two entries in the log")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", description="Number format")
    compile: bool = Field(False, description="torch.compile of the training pass; on GPUs only")
    deterministic: bool = Field(
        False, description="Only operations whose results repeat bit by bit; a CPU's always do"
    )
    devices: int | Literal["auto"] = Field(
        "auto",
        description="GPUs of a machine, or processes on a CPU; torchrun and SLURM decide themselves",
    )
    sync_batchnorm: bool = Field(
        False, description="Batch statistics over all GPUs instead of over each one's own images"
    )


class UCFConfig(_Frozen):
    """Everything that decides how a UCF detector is trained."""

    seed: int = Field(1024, ge=0, lt=2**31, description="Of weights, pairs, augmentation and dropout")
    shuffle_labels: bool = Field(
        False,
        description="Permutes labels among training and among validation videos: a control, not a detector",
    )
    model: ModelConfig = Field(ModelConfig(), description="The network")
    loss: LossConfig = Field(LossConfig(), description="Weights of the losses")
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="Adam and its rate")
    data: DataConfig = Field(DataConfig(), description="Crops and pairs")
    augment: AugmentConfig = Field(AugmentConfig(), description="Random changes of images")
    training: TrainingConfig = Field(TrainingConfig(), description="How long and how")
