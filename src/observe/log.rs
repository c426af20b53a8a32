//! From an event to the journal, syslog or standard error.
