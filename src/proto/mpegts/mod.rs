//! The MPEG-2 transport stream, ISO/IEC 13818-1.

pub mod continuity;
pub mod inspect;
pub mod packet;
pub mod pcr;
pub mod psi;
pub mod test_stream;
