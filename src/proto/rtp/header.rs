//! The RTP fixed header, RFC 3550 section 5.1.
