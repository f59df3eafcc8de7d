"""What a synthetic corpus holds: how many people, how long, how hard, which bias."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The groups that a bias can be planted in. Skin tones are grouped from the Monk scale: light 1-3,
# medium 4-6, dark 7-10 (Heldreth et al. 2024; AI-Face).
GROUPS: dict[str, tuple[str, ...]] = {
    "gender": ("female", "male"),
    "age": ("youth", "adult", "middle", "senior"),
    "skin_tone": ("light", "medium", "dark"),
}

# Raised whenever the same configuration would give other pixels.
VERSION = 2


def skin_tone_group(monk: float) -> str:
    """The group of a tone on the Monk scale.

    >>> [skin_tone_group(tone) for tone in (1, 3, 4, 6, 7, 10)]
    ['light', 'light', 'medium', 'medium', 'dark', 'dark']
    """
    return "light" if monk <= 3 else "medium" if monk <= 6 else "dark"


class SyntheticConfig(BaseModel):
    """A synthetic corpus; the same configuration gives the same pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="draws the people, their clips and every manipulation")
    size_px: int = Field(
        320, ge=160, le=1024, multiple_of=16, description="side of the square frames, in pixels"
    )
    frames: int = Field(24, ge=2, description="frames a video; 25 a second")
    ff_train: int = Field(
        60, ge=2, multiple_of=2, description="identities in the train split of FaceForensics++"
    )
    ff_val: int = Field(12, ge=2, multiple_of=2, description="identities in its val split")
    ff_test: int = Field(36, ge=2, multiple_of=2, description="identities in its test split")
    celeb_test: int = Field(
        28, ge=2, multiple_of=2, description="celebrities in the test list of Celeb-DF-v2"
    )
    celeb_train: int = Field(4, ge=0, multiple_of=2, description="celebrities outside its test list")
    celeb_youtube: int = Field(
        8, ge=0, multiple_of=2, description="people of YouTube-real, all in the test list"
    )
    celeb_videos: int = Field(2, ge=1, le=9999, description="real videos a celebrity, and fakes made of each")
    wild_train: int = Field(
        4, ge=0, multiple_of=2, description="identities in the train folders of WildDeepfake"
    )
    wild_test: int = Field(36, ge=2, multiple_of=2, description="identities in its test folders")
    compressions: tuple[Literal["c23", "c40"], ...] = Field(
        ("c23", "c40"), min_length=1, description="H.264 rate factors in which FaceForensics++ is written"
    )
    ai_face_frames: int = Field(2, ge=1, description="images a video in AI-Face: frames 1, 11, 21, …")
    strength: float = Field(1.0, gt=0, le=1, description="how visible all manipulations are, 0 to 1")
    bias: str = Field(
        "", description="group whose fakes are made less visible, as skin_tone:dark; empty for none"
    )
    bias_strength: float = Field(
        0.7, ge=0, le=1, description="how much less visible: 0 not at all, 1 no trace is left"
    )

    @model_validator(mode="after")
    def _bias_is_a_group(self) -> SyntheticConfig:
        attribute, _, group = self.bias.partition(":")
        if self.bias and group not in GROUPS.get(attribute, ()):
            known = ", ".join(f"{name}:{value}" for name, values in GROUPS.items() for value in values)
            raise ValueError(f"bias {self.bias!r} is not a group; it is one of {known}, or empty for none")
        return self

    @property
    def digest(self) -> str:
        """Hex digest of the configuration and of the generator's version."""
        text = json.dumps([VERSION, self.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def strength_for(self, *, gender: str, age: str, skin_tone: float) -> float:
        """The strength of manipulations of videos that show such a person.

        >>> config = SyntheticConfig(bias="skin_tone:dark", bias_strength=0.75)
        >>> config.strength_for(gender="male", age="adult", skin_tone=9)
        0.25
        >>> config.strength_for(gender="male", age="adult", skin_tone=2)
        1.0
        """
        shown = {"gender": gender, "age": age, "skin_tone": skin_tone_group(skin_tone)}
        attribute, _, group = self.bias.partition(":")
        affected = bool(self.bias) and shown[attribute] == group
        return self.strength * (1 - self.bias_strength) if affected else self.strength
