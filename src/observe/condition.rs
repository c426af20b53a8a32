//! Every condition: its code, severity, message and next step.
