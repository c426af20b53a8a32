//! JSON Schema of the files.
