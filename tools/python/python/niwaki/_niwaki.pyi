import builtins
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, final

import numpy as np
import numpy.typing as npt

__all__ = ["Error", "Artifact", "Overlay", "Tensor", "open", "compress", "apply", "remove", "patches"]

_Path = Union[str, os.PathLike[str]]
_Blame = Literal["io", "input", "caller", "limit", "environment"]

class Error(Exception):
    """What was wrong, in one line, and where."""

    blame: _Blame
    path: str | None
    tensor: str | None
    hint: str | None

@final
class Artifact:
    """An open checkpoint: a niwaki container, or anybody's safetensors file. Headers are read, weights are mapped."""

    @property
    def path(self) -> str: ...
    @property
    def kind(self) -> Literal["plain", "container"]: ...
    @property
    def digest(self) -> str | None:
        """The digest over all tensors as the metadata has it; `None` for a plain checkpoint."""
    @property
    def recipe(self) -> str | None:
        """The recipe that it was compressed by."""
    @property
    def widths(self) -> tuple[int, ...]:
        """The widths that every elastic tensor serves."""
    def tensors(self) -> list[Tensor]: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __getitem__(self, name: str, /) -> Tensor: ...
    def verify(self, threads: int = 1) -> list[str]:
        """Checks every hash, digest and part; one line for each thing that is wrong."""
    def slice(self, bits: int, out: _Path, *, force: bool = False) -> dict[str, Any]:
        """Writes the container that keeps of every elastic tensor the widths up to `bits`."""

@final
class Tensor:
    """One tensor of an artifact, which it keeps open."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str:
        """The type that it was made from, such as `F32` or `BF16`."""
    @property
    def scheme(self) -> str:
        """How it is stored, such as `int4/g64/sym`; `dense` for the weights themselves."""
    @property
    def widths(self) -> tuple[int, ...]:
        """The widths that it can be decoded at, where it is elastic."""
    @property
    def masked(self) -> bool:
        """Whether only those weights are stored that a mask or a list of positions names."""
    @property
    def bytes(self) -> int:
        """Bytes of everything that is stored of it."""
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    def part(self, name: str = "") -> builtins.bytes:
        """The stored bytes of a part: `codes`, `scales`, `mask`, ..; of a tensor stored as it is without a name."""
    def dequantize(
        self,
        *,
        width: int | None = None,
        rows: tuple[int, int] | None = None,
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        overlay: Overlay | None = None,
    ) -> npt.NDArray[Any]:
        """The weights, an elastic tensor at `width` or its widest, patches of `overlay` laid over them.

        All of them have the tensor's shape; some `rows` of its matrix are two-dimensional. NumPy has no bfloat16: the
        array holds its bits as uint16.
        """

@final
class Overlay:
    """Signatures that are laid over weights as they are decoded, nearest to them first."""

    def __new__(cls, signatures: Sequence[tuple[Artifact, float]]) -> Overlay: ...
    def __len__(self) -> int: ...

def open(path: _Path) -> Artifact:
    """Opens a `.safetensors` file, an index, or a folder that holds either."""

def compress(
    source: _Path,
    out: _Path,
    *,
    scheme: str | None = None,
    recipe: str | None = None,
    fit: str | None = None,
    threads: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Compresses a checkpoint by one scheme for all weights, or by the text of a recipe; what became of each tensor."""

def apply(
    checkpoint: _Path,
    signatures: Sequence[tuple[_Path, float]],
    out: _Path,
    *,
    transfer: bool = False,
    allow_loss: bool = False,
    threads: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Writes a checkpoint with signatures merged into it, and what takes them off again."""

def remove(
    checkpoint: _Path, name: str, out: _Path, *, threads: int | None = None, force: bool = False
) -> dict[str, Any]:
    """Writes a checkpoint without one of the signatures merged into it, bit for bit as if it had never been added."""

def patches(checkpoint: _Path) -> dict[str, Any]:
    """The signatures that are merged into a checkpoint, oldest first."""
