//! The one Vault client: address, TLS, login, deadlines, error text.
