//! The MPEG-2 transport stream, ISO/IEC 13818-1.

pub mod codec;
pub mod continuity;
pub mod inspect;
pub mod metadata;
pub mod monitor;
pub mod packet;
pub mod pcr;
pub mod psi;
pub mod test_stream;
