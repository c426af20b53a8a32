//! Lines to a syslog server, with reconnect.
