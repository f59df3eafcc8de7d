"""CLIP's image network in transformers' names, and in timm's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from unmasked.datasets.errors import InputError

PREFIX = "vision_model."  # newer versions of transformers write the names without it
NAMES = {
    "embeddings.patch_embedding.": "patch_embed.proj.",
    "pre_layrnorm.": "norm_pre.",  # the spelling is theirs
    "post_layernorm.": "norm.",
}
NAMES_OF_LAYER = {
    "self_attn.out_proj.": "attn.proj.",
    "layer_norm1.": "norm1.",
    "layer_norm2.": "norm2.",
    "mlp.fc1.": "mlp.fc1.",
    "mlp.fc2.": "mlp.fc2.",
}
LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
QUERY = "self_attn.q_proj."
# Of the language network, of the projection that compares both, and of counts that are no weights.
UNUSED = ("text_model.", "text_projection.", "visual_projection.", "logit_scale", "embeddings.position_ids")


def is_huggingface_clip(weights: Mapping[str, Tensor]) -> bool:
    """True if these are names of transformers' CLIP, with its language network or without."""
    return any(name.removeprefix(PREFIX).startswith("pre_layrnorm.") for name in weights)


def clip_by_timm_names(weights: Mapping[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """The image network's weights by timm's names; unknown names stay as they are.

    Args:
        weights: by transformers' names.
        backbone: timm's name of the network that they are for.

    Raises:
        InputError: it has the exact GELU. OpenAI's CLIP was trained with the quick one; the names and shapes
            of both are equal, so that the scores would be wrong without an error.
    """
    if "quickgelu" not in backbone:
        near = backbone.replace("_clip_", "_clip_quickgelu_").split(".")[0]
        meant = near if "quickgelu" in near else "vit_large_patch14_clip_quickgelu_224"
        raise InputError(
            f"these are CLIP's weights, which want the quick GELU, and model.backbone={backbone} has another "
            f"activation: it would score silently wrong; give model.backbone={meant}"
        )
    stored = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    found = {}
    for name, value in stored.items():
        layer = LAYER.fullmatch(name)
        if name.startswith(UNUSED) or (layer and re.match(r"self_attn\.[kv]_proj\.", layer[2])):
            continue  # keys and values go with their queries
        if name == "embeddings.class_embedding":
            found["cls_token"] = value.reshape(1, 1, -1)
        elif name == "embeddings.position_embedding.weight":
            found["pos_embed"] = value[None]
        elif layer and layer[2].startswith(QUERY):
            parts = [stored.get(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
            known = [part for part in parts if part is not None]
            found[f"blocks.{layer[1]}.attn.qkv.{layer[2].removeprefix(QUERY)}"] = torch.cat(known)
        elif layer:
            found[f"blocks.{layer[1]}.{_replaced(layer[2], NAMES_OF_LAYER)}"] = value
        else:
            found[_replaced(name, NAMES)] = value
    return found


def _replaced(name: str, names: Mapping[str, str]) -> str:
    begin = next((one for one in names if name.startswith(one)), "")
    return names[begin] + name.removeprefix(begin) if begin else name
