//! Records to the systemd journal by its native protocol.
