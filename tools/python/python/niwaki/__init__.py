"""Compressed neural network checkpoints as NumPy arrays."""

from ._niwaki import Artifact, Error, Overlay, Tensor, apply, compress, open, patches, remove

__all__ = ["Artifact", "Error", "Overlay", "Tensor", "apply", "compress", "open", "patches", "remove"]
