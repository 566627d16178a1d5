//! The file as the user writes it, and build(): names become things, once.
