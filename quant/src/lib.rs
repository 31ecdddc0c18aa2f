//! Chooses codes.
