//! What makes the supervisor look at the files again.
