//! Monotonic time, and the kernel's receive time stamps.
