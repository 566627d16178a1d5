//! A turn's outcome for people and machines.
