//! What was intended and attempted; survives kill -9.
