//! The niwaki container: logical tensors over safetensors, digests, lineage.
