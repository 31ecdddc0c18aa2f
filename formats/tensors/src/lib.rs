//! Safetensors checkpoints by memory map: reading, sharded indexes, a deterministic streaming writer.
