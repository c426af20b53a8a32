//! The MPEG-2 transport stream, ISO/IEC 13818-1.

pub mod packet;
pub mod test_stream;
