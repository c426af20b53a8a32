//! From what a plan says to a socket.
