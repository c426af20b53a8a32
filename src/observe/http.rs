//! The routes, on the control socket and on [http] listen.
