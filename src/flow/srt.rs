//! SRT in a flow.

mod history;
