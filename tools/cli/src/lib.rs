//! Compress neural network checkpoints: quantize, prune, slice, verify.
