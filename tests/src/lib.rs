//! Whatever needs more than one crate to test.
