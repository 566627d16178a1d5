//! The same outcome for Prometheus, and the listener that serves it.
