//! Back in order, within a window.
