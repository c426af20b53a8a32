//! A transport stream that proves its own arrival.
