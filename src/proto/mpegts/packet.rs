//! The 188-byte transport packet, ISO/IEC 13818-1 section 2.4.3.
