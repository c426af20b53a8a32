//! Whole connections, two and two, in a network that is made up.

mod grid;
mod hostile;
mod keys;
mod life;
mod memory;
mod repair;
mod time;
