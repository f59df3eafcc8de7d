"""Settings of a training.

Imports nothing heavy, so that the command line can show them at once.
A detector's own ``Config`` derives from one of three: `CropConfig` trains on batches of single crops,
`PairConfig` on pairs of a real and a fake, and `DetectorConfig` is for detectors without gradients. It
replaces ``model`` by the network's settings, and ``loss`` if it has settings of its own there.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unmasked.datasets.augment import AugmentConfig


class Frozen(BaseModel):
    """Settings that cannot be changed, and refuse keys that they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(Frozen):
    """The network."""

    size_px: int = Field(
        224, ge=16, le=1024, description="Side of the input in pixels; crops are resized to it"
    )
    channels_last: bool = Field(True, description="Memory layout (N, H, W, C), which convolutions prefer")


class StartConfig(ModelConfig):
    """A network whose trunk may start from weights."""

    weights: str = Field(
        "", description="A local .pth or .safetensors file to start from; random weights if not given"
    )


class TransferConfig(StartConfig):
    """A network whose head learns first: see `detector.head_first`."""

    head_share: float = Field(
        0.5, ge=0, lt=1, description="Share of all steps that train the head alone; needs weights"
    )
    trunk_rate: float = Field(0.1, ge=0, description="Rate of the trunk afterwards, in multiples of lr")


class LossConfig(Frozen):
    """What makes one number of the losses of a batch's images."""

    robust: Literal["none", "cvar", "nested_cvar", "group_dro", "reweighted"] = Field(
        "none",
        description="How the real-or-fake loss is put together: the mean; the mean of its worst share (cvar, "
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


class OptimiserConfig(Frozen):
    """Adam and its learning rate."""

    lr: float = Field(2e-4, gt=0, description="Highest learning rate")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty that Adam adds to the gradient")
    schedule: Literal["none", "cosine", "one_cycle"] = Field(
        "none", description="Course of the learning rate over all steps; one_cycle starts at 1/25 of lr"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of all steps in which the rate rises to lr")
    cycle: float = Field(
        0.0, ge=0, lt=1, description="Share of all steps after which cosine starts again at lr; 0 never does"
    )
    floor: float = Field(
        0.0, ge=0, lt=1, description="Where the warm-up starts and cosine ends, as a share of lr"
    )
    gradient_clip: float = Field(0.0, ge=0, description="Largest norm of the whole gradient; 0 does not clip")
    accumulate: int = Field(
        1, ge=1, description="Batches whose mean gradient makes one step; as so many more devices would"
    )


class DataConfig(Frozen):
    """Which crops are used."""

    frames_per_video: int | None = Field(
        None, ge=1, description="Crops used of each training video, evenly spread; all if not given"
    )
    val_frames_per_video: int | None = Field(
        None, ge=1, description="Crops used of each validation video, evenly spread; all if not given"
    )
    val_from_train: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of the training people set aside for validation where the table has no split val; "
        "of videos or images where it names no people",
    )


class TrainedDataConfig(DataConfig):
    """Which crops are used, and how they are held."""

    fakes: Literal["dataset", "self_blended", "both"] = Field(
        "dataset",
        description="Fakes to train on: the data set's own, ones made by blending each real crop with itself",
    )
    groups: str = Field(
        "",
        description="Column of the faces table that says whose face it is, or several crossed, such as "
        "'gender * skin_tone'; for loss.robust and data.balance",
    )
    balance: str = "none"
    cache_mb: int = Field(
        4096, ge=0, description="Crops are held in memory if they fit into this many megabytes"
    )
    workers: int = Field(
        0, ge=0, description="Processes that read crops; 0 reads them in the training process"
    )


class CropDataConfig(TrainedDataConfig):
    """Which crops are used, how often each, and how they are held."""

    balance: Literal["none", "class", "group_class"] = Field(
        "class",
        description="class draws reals and fakes equally often; group_class also every group of data.groups; "
        "none draws each crop once an epoch",
    )


class PairDataConfig(TrainedDataConfig):
    """Which crops are used, how they are paired, and how they are held."""

    pairing: Literal["random", "source"] = Field(
        "random", description="A fake's partner: any real crop, or one of the video it was made from"
    )
    balance: Literal["none", "group_class"] = Field(
        "none",
        description="group_class draws every group equally often among the fakes, and among the reals",
    )


class TrainingConfig(Frozen):
    """How long, by which rule a detector is chosen, and how; a step is an optimiser step."""

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

    @property
    def entries(self) -> int:
        """What a sampler gives for one batch of one device: so many crops, or so many pairs."""
        raise NotImplementedError("derive from CropTrainingConfig or PairTrainingConfig")

    @property
    def images_of_entry(self) -> int:
        """Images in one of these entries."""
        return 1


class CropTrainingConfig(TrainingConfig):
    """How long and how, on batches of single crops."""

    batch_images: int = Field(32, ge=2, description="Images in a batch of one device")
    epochs: int = Field(
        5, ge=1, description="Passes over all crops; with data.balance over those of the larger class"
    )

    @property
    def entries(self) -> int:
        """Crops in a batch."""
        return self.batch_images


class PairTrainingConfig(TrainingConfig):
    """How long and how, on batches of pairs."""

    batch_pairs: int = Field(16, ge=2, description="Pairs of a real and a fake in a batch of one device")

    @property
    def entries(self) -> int:
        """Pairs in a batch."""
        return self.batch_pairs

    @property
    def images_of_entry(self) -> int:
        """A pair is two images."""
        return 2


class DetectorConfig(Frozen):
    """What every detector's training needs to know."""

    seed: int = Field(1024, ge=0, lt=2**31, description="Of weights, pairs, augmentation and dropout")
    shuffle_labels: bool = Field(
        False,
        description="Permutes labels among training and among validation videos: a control, not a detector",
    )
    model: ModelConfig = Field(ModelConfig(), description="The network")
    data: DataConfig = Field(DataConfig(), description="Crops")


class TrainedConfig(DetectorConfig):
    """What a training by gradients needs to know; derive from `CropConfig` or `PairConfig`."""

    loss: LossConfig = Field(LossConfig(), description="The losses")
    optimiser: OptimiserConfig = Field(OptimiserConfig(), description="Adam and its rate")
    data: TrainedDataConfig = Field(TrainedDataConfig(), description="Crops")
    augment: AugmentConfig = Field(AugmentConfig(), description="Random changes of images")
    training: TrainingConfig = Field(TrainingConfig(), description="How long and how")


class CropConfig(TrainedConfig):
    """Everything that decides how a detector is trained on single crops."""

    data: CropDataConfig = Field(CropDataConfig(), description="Crops")
    training: CropTrainingConfig = Field(CropTrainingConfig(), description="How long and how")


class PairConfig(TrainedConfig):
    """Everything that decides how a detector is trained on pairs of a real and a fake."""

    data: PairDataConfig = Field(PairDataConfig(), description="Crops and pairs")
    training: PairTrainingConfig = Field(PairTrainingConfig(), description="How long and how")
