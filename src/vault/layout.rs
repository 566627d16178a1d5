//! Which fields of a secret hold key, certificate and chain, and in what form.
