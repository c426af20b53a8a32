//! The daemon.

fn main() -> std::process::ExitCode {
    mediaconnect::supervisor::main()
}
