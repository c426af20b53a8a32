//! Loss and jitter, RFC 3550 appendix A.
