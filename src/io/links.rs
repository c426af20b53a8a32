//! The interfaces of this host, and word of their changes.
