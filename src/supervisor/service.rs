//! The service manager: readiness, status, watchdog.
