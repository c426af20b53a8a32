//! One file: its bytes, its lines, offset to line and column.
