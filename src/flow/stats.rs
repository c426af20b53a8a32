//! The figures of a flow: written by its task alone, read as a snapshot.
