//! Chooses masks.
