"""Packaging of aqa: lower bounds here, the exact tested versions in requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1] for line in (HERE / "aqa/version.py").read_text().splitlines() if line.startswith("__version__")
)


class BuildPackages(build_py):
    """Puts the scripts of the folder `data_prep` into `aqa.data_prep`: no wheel holds a package of that name."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        if package == "aqa.data_prep":
            scripts = sorted(path for path in Path("data_prep").glob("*.py") if path.stem != "__init__")
            found += [(package, path.stem, str(path)) for path in scripts]
        return found


WANDB = ["wandb>=0.17"]
RAY = ["ray>=2.9"]
LLM = ["transformers>=5.0", "peft>=0.18"]  # a language model that videos are read by
ONNX = ["onnx>=1.16", "onnxscript>=0.3", "onnxruntime>=1.17"]  # aqa export --format onnx
TABLE = ["openpyxl>=3.1", "pyarrow>=14"]  # labels and features in XLSX and Parquet

setup(
    name="aqa-incomplete",  # `aqa` on PyPI is another project
    version=VERSION,
    description="Incomplete multimodal action quality assessment: predict judges' scores when streams are missing",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["aqa", "aqa.*"]),
    cmdclass={"build_py": BuildPackages},
    options={"editable_wheel": {"mode": "compat"}},  # found from any folder, the one above a clone included
    package_data={"aqa": ["py.typed"], "aqa.reporting": ["published.yaml", "recommend.yaml", "templates/*"]},
    install_requires=[
        "torch>=2.4",
        "numpy>=1.24",
        "scipy>=1.10",
        "pandas>=2.0",
        "pyyaml>=6.0",
        "tqdm>=4.60",
        "scikit-learn>=1.3",
        "h5py>=3.8",
        "pydantic>=2.5",
        "typer>=0.12",
        "matplotlib>=3.8",
        "filelock>=4.1",
        "jinja2>=3.1",
        "joblib>=1.3",
        "optuna>=5.0",
        "safetensors>=0.4",
    ],
    extras_require={
        "wandb": WANDB,
        "ray": RAY,
        "llm": LLM,
        "table": TABLE,
        "onnx": ONNX,
        "docs": ["sphinx>=8", "myst-parser>=4", "furo>=2024.8", "sphinx-copybutton>=0.5"],
        "test": [
            "pytest>=8",
            "pytest-cov>=5",
            "pytest-xdist>=3.5",
            "hypothesis>=6.90",
            "ruff>=0.5",
            "mypy>=1.10",
            "types-PyYAML",
            "types-tqdm",
            "pandas-stubs",
            "scipy-stubs",
            "playwright>=1.40",
            "nbclient>=0.10",  # the notebook of the first hour
            "nbformat>=5.10",
            "ipykernel>=6.29",
            *WANDB,
            *RAY,
            *LLM,
            *TABLE,
            *ONNX,
        ],
    },
    entry_points={"console_scripts": ["aqa=aqa.cli:main"]},
)
