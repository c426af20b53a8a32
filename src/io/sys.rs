//! The system calls in batches: the only unsafe code.
