//! Every log-worthy fact, with a stable id and its fields.
