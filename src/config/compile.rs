//! Raw to plan: one function a rule, each pushes diagnostics.
